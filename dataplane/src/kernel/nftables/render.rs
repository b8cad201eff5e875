//! From a frontend to what stands for it in the kernel.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::element::{Element, Key, frontend_key};
use super::expression::Verdict;
use super::layout::REJECT;
use super::set::{By, Scope, StaticSet};
use super::sticky::StickyPool;
use super::unit::{Entry, Pick, Unit};
use crate::domain::IpFamily;
use crate::plan::{Backend, Frontend, FrontendAddress, FrontendKind, FrontendSpec, Globals, Policy, Target};

/// An element and the set it is in.
pub(super) type Placed = (StaticSet, Element);

/// What one frontend needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rendered {
    /// Elements of this frontend alone.
    pub(super) own: Vec<Placed>,
    /// Elements that other frontends may need as well.
    pub(super) shared: Vec<Placed>,
    /// The chain that the frontend leads to.
    pub(super) entry: Option<Unit>,
}

/// Everything that stands for one frontend.
pub(super) fn frontend(frontend: &Frontend, spec: &FrontendSpec) -> Rendered {
    let by = match frontend.address {
        FrontendAddress::Ip(_) => By::Address,
        FrontendAddress::NodePort(_) => By::NodePort,
    };
    let mut rendered = Rendered::default();
    rendered.add_entry(frontend, spec, by);
    rendered.add_endpoints(frontend, spec, by);
    rendered.add_refusal(frontend, spec, by);
    rendered.add_source_ranges(frontend, spec);
    rendered.add_shared(frontend, spec);
    rendered
}

impl Rendered {
    fn add_entry(&mut self, frontend: &Frontend, spec: &FrontendSpec, by: By) {
        let apart = spec.policy == Policy::ExternalLocal;
        let entry = Entry {
            protocol: frontend.protocol,
            by,
            policy: spec.policy,
            guarded: spec.source_ranges.is_some() && by == By::Address,
            inside: pick(spec, &spec.inside),
            outside: if apart { pick(spec, &spec.outside) } else { Pick::Nothing },
        };
        if entry.inside == Pick::Nothing && entry.outside == Pick::Nothing && !entry.guarded {
            return;
        }
        let set = match by {
            By::Address => StaticSet::ServiceIps,
            By::NodePort => StaticSet::ServiceNodePorts,
        };
        let unit = Unit::Entry(entry);
        let verdict = Verdict::Goto(unit.name().into());
        self.own.push((set, Element::verdict(service_key(frontend), verdict)));
        self.entry = Some(unit);
    }

    fn add_endpoints(&mut self, frontend: &Frontend, spec: &FrontendSpec, by: By) {
        if spec.affinity_seconds.is_some() {
            return;
        }
        self.add_pool(frontend, spec.inside.backends(), (by, Scope::Inside));
        if spec.policy == Policy::ExternalLocal {
            self.add_pool(frontend, spec.outside.backends(), (by, Scope::Outside));
        }
    }

    fn add_pool(&mut self, frontend: &Frontend, backends: &[Backend], (by, scope): (By, Scope)) {
        let set = StaticSet::Endpoints(frontend.protocol, by, scope);
        let key = frontend_key(frontend).port(frontend.port);
        self.own.extend(
            backends
                .iter()
                .zip(0..)
                .map(|(backend, slot)| (set, Element::endpoint(key.slot(slot), backend.socket()))),
        );
    }

    /// What happens to packets that no pool takes.
    fn add_refusal(&mut self, frontend: &Frontend, spec: &FrontendSpec, by: By) {
        let verdict = match refusal(spec) {
            Some(Target::Reject) => Verdict::Goto(REJECT.into()),
            Some(Target::Drop) => Verdict::Drop,
            Some(Target::Pool(_)) | None => return,
        };
        let set = match by {
            By::Address => StaticSet::NoEndpointServices,
            By::NodePort => StaticSet::NoEndpointNodePorts,
        };
        self.own.push((set, Element::verdict(service_key(frontend), verdict)));
    }

    fn add_source_ranges(&mut self, frontend: &Frontend, spec: &FrontendSpec) {
        let FrontendAddress::Ip(_) = frontend.address else { return };
        let Some(ranges) = &spec.source_ranges else { return };
        let key = frontend_key(frontend).port(frontend.port);
        let set = StaticSet::SourceRanges(frontend.protocol);
        let family = frontend.family();
        self.own.extend(merged(ranges, family).iter().map(|range| (set, Element::sources(key, range))));
    }

    fn add_shared(&mut self, frontend: &Frontend, spec: &FrontendSpec) {
        if let (FrontendKind::ClusterIp, FrontendAddress::Ip(address)) = (spec.kind, frontend.address) {
            self.shared.push((StaticSet::ClusterIps, Element::member(Key::new().address(address))));
        }
        let mut local: Vec<&Backend> = spec
            .inside
            .backends()
            .iter()
            .chain(spec.outside.backends())
            .filter(|backend| backend.local)
            .collect();
        local.sort_unstable();
        local.dedup();
        for backend in local {
            let pair = Key::new().address(backend.address).address(backend.address);
            let key = pair.protocol(frontend.protocol).port(backend.port);
            self.shared.push((StaticSet::Hairpins, Element::member(key)));
        }
    }
}

fn pick(spec: &FrontendSpec, target: &Target) -> Pick {
    match (target, spec.affinity_seconds) {
        (Target::Reject | Target::Drop, _) => Pick::Nothing,
        (Target::Pool(pool), None) => Pick::Slots(u32::try_from(pool.len()).unwrap_or(u32::MAX)),
        (Target::Pool(pool), Some(seconds)) => {
            Pick::Sticky(Arc::new(StickyPool::new(&spec.owner, seconds, pool)))
        }
    }
}

/// The target without a pool, if there is one; the one for clients from outside first.
fn refusal(spec: &FrontendSpec) -> Option<&Target> {
    let apart = spec.policy == Policy::ExternalLocal;
    let targets = [apart.then_some(&spec.outside), Some(&spec.inside)];
    targets.into_iter().flatten().find(|target| !matches!(target, Target::Pool(_)))
}

/// Key of the frontend in the verdict maps.
fn service_key(frontend: &Frontend) -> Key {
    frontend_key(frontend).protocol(frontend.protocol).port(frontend.port)
}

/// The ranges of one family, without those that others contain: the kernel refuses overlapping keys.
fn merged(ranges: &[IpNet], family: IpFamily) -> Vec<IpNet> {
    let own: Vec<_> =
        ranges.iter().filter(|range| IpFamily::of(range.addr()) == family).map(IpNet::trunc).collect();
    IpNet::aggregate(&own)
}

/// The elements that stand for what belongs to no Service.
pub(super) fn globals(globals: &Globals, family: IpFamily) -> Vec<Placed> {
    let addresses = globals.node_port_addresses.iter().filter(|address| IpFamily::of(**address) == family);
    let node_ports = addresses.filter_map(|address| {
        Some((node_port_set(*address)?, Element::member(Key::new().address(*address))))
    });
    let ranges: Vec<_> = globals.service_cidrs.iter().copied().collect();
    let cidrs = merged(&ranges, family);
    let ranges = Element::ranges(&cidrs).into_iter().map(|element| (StaticSet::ServiceCidrs, element));
    node_ports.chain(ranges).collect()
}

/// A connection to 127.0.0.1 can be led elsewhere (with `route_localnet`); one to `::1` cannot leave the node.
const fn node_port_set(address: IpAddr) -> Option<StaticSet> {
    match address {
        IpAddr::V4(address) if address.is_loopback() => Some(StaticSet::NodePortLoopbackIps),
        IpAddr::V6(address) if address.is_loopback() => None,
        IpAddr::V4(_) | IpAddr::V6(_) => Some(StaticSet::NodePortIps),
    }
}

#[cfg(test)]
mod tests;
