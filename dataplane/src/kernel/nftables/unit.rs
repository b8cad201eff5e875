//! Chains (with the sets that belong to them) that exist while some frontend needs them. They never change: a unit
//! with other contents has another name.

use std::sync::Arc;

use super::element::Element;
use super::expression::{Comparison, Load, LookupTarget, Rule, Verdict};
use super::layout::Chain;
use super::set::{By, Scope, SetDefinition, StaticSet};
use super::settings::FamilySettings;
use super::sticky::{StickyEndpoint, StickyPool};
use crate::domain::{IpFamily, LocalDetector, Protocol};
use crate::plan::Policy;

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    /// There is none.
    Nothing,
    /// At random among so many slots of the shared maps.
    Slots(u32),
    /// The one this client had before, if it is still there.
    Sticky(Arc<StickyPool>),
}

/// A chain that decides who may use a frontend, who is masqueraded, and which pool it is. Shared by all frontends that
/// look alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) protocol: Protocol,
    pub(super) by: By,
    pub(super) policy: Policy,
    /// Only some sources may pass.
    pub(super) guarded: bool,
    pub(super) inside: Pick,
    /// [`Pick::Nothing`] unless the policy keeps inside and outside apart.
    pub(super) outside: Pick,
}

/// A chain that picks one of the slots of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoints {
    protocol: Protocol,
    by: By,
    slots: u32,
}

/// Something that is created for the first frontend that needs it and removed with the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Entry(Entry),
    Endpoints(Endpoints),
    StickyPool(Arc<StickyPool>),
    StickyEndpoint(StickyEndpoint),
}

/// What a unit is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) chain: Chain,
    /// At most one set, with the elements it starts with. Sets that packets fill start empty.
    pub(super) set: Option<(SetDefinition, Vec<Element>)>,
}

impl Unit {
    /// Name of the chain.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Entry(entry) => entry.name(),
            Self::Endpoints(endpoints) => endpoints.name(),
            Self::StickyPool(pool) => pool.chain_name(),
            Self::StickyEndpoint(endpoint) => endpoint.chain_name(),
        }
    }

    /// Name of the set, if it has one.
    pub(super) fn set_name(&self) -> Option<String> {
        match self {
            Self::Entry(_) | Self::Endpoints(_) => None,
            Self::StickyPool(pool) => Some(pool.set_name()),
            Self::StickyEndpoint(endpoint) => Some(endpoint.set_name()),
        }
    }

    /// The units whose chains this one leads to.
    pub(super) fn dependencies(&self) -> Vec<Self> {
        match self {
            Self::Entry(entry) => entry.dependencies(),
            Self::StickyPool(pool) => pool.endpoints().map(Self::StickyEndpoint).collect(),
            Self::Endpoints(_) | Self::StickyEndpoint(_) => Vec::new(),
        }
    }

    pub(super) fn parts(&self, settings: &FamilySettings) -> Parts {
        let family = settings.family;
        let name = self.name();
        let chain = |rules| Chain::new(&name, rules);
        match self {
            Self::Entry(entry) => Parts { chain: chain(entry.rules(settings)), set: None },
            Self::Endpoints(endpoints) => {
                let rules =
                    slot_rules(family, endpoints.protocol, endpoints.by, (Scope::Inside, endpoints.slots));
                Parts { chain: chain(rules), set: None }
            }
            Self::StickyPool(pool) => Parts { chain: chain(pool.rules(family)), set: Some(pool.set(family)) },
            Self::StickyEndpoint(endpoint) => {
                Parts { chain: chain(endpoint.rules(family)), set: Some((endpoint.set(family), Vec::new())) }
            }
        }
    }
}

impl Endpoints {
    fn name(self) -> String {
        let by = match self.by {
            By::Address => "endpoints",
            By::NodePort => "nodeport-endpoints",
        };
        format!("{by}-{}-{}", self.protocol.lower(), self.slots)
    }
}

impl Entry {
    fn name(&self) -> String {
        let kind = match (self.by, self.policy) {
            (By::Address, Policy::Internal) => "cluster-ip",
            (By::Address, Policy::ExternalCluster) => "external",
            (By::Address, Policy::ExternalLocal) => "external-local",
            (By::NodePort, Policy::Internal) => "nodeport-internal",
            (By::NodePort, Policy::ExternalCluster) => "nodeport",
            (By::NodePort, Policy::ExternalLocal) => "nodeport-local",
        };
        let guard = if self.guarded { "guarded-" } else { "" };
        let mut name = format!("{guard}{kind}-{}-{}", self.protocol.lower(), self.inside.tag());
        if self.policy == Policy::ExternalLocal {
            name.push('-');
            name.push_str(&self.outside.tag());
        }
        let sticky = [&self.inside, &self.outside].into_iter().find_map(|pick| match pick {
            Pick::Sticky(pool) => Some(pool),
            Pick::Nothing | Pick::Slots(_) => None,
        });
        if let Some(pool) = sticky {
            name.push('-');
            name.push_str(pool.label());
        }
        name
    }

    fn dependencies(&self) -> Vec<Unit> {
        // Inside slots are a chain of their own only where more than one rule leads to them.
        let shared = self.policy == Policy::ExternalLocal;
        let inside = match &self.inside {
            Pick::Slots(slots) if shared => Some(Unit::Endpoints(self.endpoints(*slots))),
            Pick::Sticky(pool) => Some(Unit::StickyPool(Arc::clone(pool))),
            Pick::Nothing | Pick::Slots(_) => None,
        };
        let outside = match &self.outside {
            Pick::Sticky(pool) => Some(Unit::StickyPool(Arc::clone(pool))),
            Pick::Nothing | Pick::Slots(_) => None,
        };
        inside.into_iter().chain(outside).collect()
    }

    const fn endpoints(&self, slots: u32) -> Endpoints {
        Endpoints { protocol: self.protocol, by: self.by, slots }
    }

    fn rules(&self, settings: &FamilySettings) -> Vec<Rule> {
        let mut rules = Vec::new();
        if self.guarded {
            rules.push(self.guard(settings.family));
        }
        match self.policy {
            Policy::Internal if self.inside != Pick::Nothing => {
                rules.extend(mark_unless_local(settings));
                rules.extend(self.choose(settings.family, Scope::Inside));
            }
            Policy::ExternalCluster if self.inside != Pick::Nothing => {
                rules.push(Rule::new().set_mark_bits(settings.mark));
                rules.extend(self.choose(settings.family, Scope::Inside));
            }
            Policy::ExternalLocal if self.inside != Pick::Nothing || self.outside != Pick::Nothing => {
                rules.extend(self.short_cuts(settings));
                rules.extend(self.choose(settings.family, Scope::Outside));
            }
            Policy::Internal | Policy::ExternalCluster | Policy::ExternalLocal => {}
        }
        rules
    }

    /// Drops sources that are not listed for this frontend.
    fn guard(&self, family: IpFamily) -> Rule {
        let key = [Load::Destination, Load::Port, Load::Source];
        Rule::new()
            .protocol_is(self.protocol)
            .look_up(family, &key, &StaticSet::SourceRanges(self.protocol).name(), LookupTarget::NotMember)
            .verdict(Verdict::Drop)
    }

    /// Local pods and this node itself are not bound by the external policy.
    fn short_cuts(&self, settings: &FamilySettings) -> Vec<Rule> {
        let to_inside = match &self.inside {
            Pick::Nothing => Verdict::Return,
            Pick::Slots(slots) => Verdict::Goto(self.endpoints(*slots).name().into()),
            Pick::Sticky(pool) => Verdict::Goto(pool.chain_name().into()),
        };
        let mut rules: Vec<_> =
            local_pods(settings).into_iter().map(|rule| rule.verdict(to_inside.clone())).collect();
        let node = || Rule::new().source_is_this_node();
        rules.push(node().set_mark_bits(settings.mark));
        rules.push(node().verdict(to_inside));
        rules
    }

    fn choose(&self, family: IpFamily, scope: Scope) -> Vec<Rule> {
        let pick = match scope {
            Scope::Inside => &self.inside,
            Scope::Outside => &self.outside,
        };
        match pick {
            Pick::Nothing => Vec::new(),
            Pick::Slots(slots) => slot_rules(family, self.protocol, self.by, (scope, *slots)),
            Pick::Sticky(pool) => vec![Rule::new().goto(&pool.chain_name())],
        }
    }
}

impl Pick {
    fn tag(&self) -> String {
        match self {
            Self::Nothing => "none".to_owned(),
            Self::Slots(slots) => slots.to_string(),
            Self::Sticky(pool) => pool.digest().to_owned(),
        }
    }
}

/// Translates to a random slot, and to the first one if that is gone: a packet that is on its way through a chain while
/// the pool shrinks must not be left untranslated.
fn slot_rules(family: IpFamily, protocol: Protocol, by: By, (scope, slots): (Scope, u32)) -> Vec<Rule> {
    let map = StaticSet::Endpoints(protocol, by, scope).name();
    let rule = |slots| {
        let key: &[Load] = match by {
            By::Address => &[Load::Destination, Load::Port, Load::Slot(slots)],
            By::NodePort => &[Load::Port, Load::Slot(slots)],
        };
        Rule::new().protocol_is(protocol).dnat_to_map(family, key, &map)
    };
    if slots > 1 { vec![rule(slots), rule(1)] } else { vec![rule(1)] }
}

/// Marks cluster IP traffic for masquerading: all of it, what does not come from local pods, or nothing.
fn mark_unless_local(settings: &FamilySettings) -> Option<Rule> {
    let foreign = match &settings.detector {
        _ if settings.masquerade_all => Rule::new(),
        LocalDetector::None => return None,
        LocalDetector::Cidrs(cidrs) => {
            cidrs.iter().fold(Rule::new(), |rule, cidr| rule.source_compared_to(Comparison::NotEqual, cidr))
        }
        LocalDetector::BridgeInterface(name) => {
            Rule::new().input_interface(Comparison::NotEqual, name, false)
        }
        LocalDetector::InterfaceNamePrefix(name) => {
            Rule::new().input_interface(Comparison::NotEqual, name, true)
        }
    };
    Some(foreign.set_mark_bits(settings.mark))
}

/// One rule start for each way of being a local pod.
fn local_pods(settings: &FamilySettings) -> Vec<Rule> {
    match &settings.detector {
        LocalDetector::None => Vec::new(),
        LocalDetector::Cidrs(cidrs) => {
            cidrs.iter().map(|cidr| Rule::new().source_compared_to(Comparison::Equal, cidr)).collect()
        }
        LocalDetector::BridgeInterface(name) => {
            vec![Rule::new().input_interface(Comparison::Equal, name, false)]
        }
        LocalDetector::InterfaceNamePrefix(name) => {
            vec![Rule::new().input_interface(Comparison::Equal, name, true)]
        }
    }
}

#[cfg(test)]
mod tests;
