//! The part of a table that is always there: the hooks, and the chains they share.
//!
//! As in kube-proxy's nftables mode, destination NAT happens at `dstnat` (prerouting and output) and masquerading at
//! `srcnat`; what was not translated is rejected or dropped in the filter hooks, because kernels before 5.9 cannot
//! reject earlier. Source ranges are looked at in the NAT hooks, which see the first packet of a connection only, so
//! there are no hooks before those.

use std::sync::Arc;

use super::expression::{Comparison, Expression, Load, LookupTarget, Rule, Verdict, number};
use super::set::StaticSet;
use super::settings::FamilySettings;
use crate::domain::{IpFamily, Protocol};

/// Where untranslated packets that deserve an answer go.
pub(super) const REJECT: &str = "reject-it";
const CHECK_INPUT: &str = "check-input";
const CHECK_FORWARD: &str = "check-forward";

/// A place in the packet's way through the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// `nat` or `filter`.
    pub(super) kind: &'static str,
    /// `NF_INET_*`.
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// A chain and its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: Arc<str>,
    pub(super) hook: Option<Hook>,
    pub(super) rules: Vec<Rule>,
}

impl Chain {
    pub(super) fn new(name: &str, rules: Vec<Rule>) -> Self {
        Self { name: name.into(), hook: None, rules }
    }
}

const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

/// The fixed chains; one that another refers to comes before it.
pub(super) fn chains(settings: &FamilySettings) -> Vec<Chain> {
    let family = settings.family;
    vec![
        Chain::new(REJECT, reject(family)),
        Chain::new(CHECK_INPUT, check_input(family)),
        Chain::new(CHECK_FORWARD, check_forward(family)),
        base("nat-prerouting", ("nat", PREROUTING, DSTNAT), services(family)),
        base("nat-output", ("nat", OUTPUT, DSTNAT), services_of_the_node(family)),
        base("nat-postrouting", ("nat", POSTROUTING, SRCNAT), masquerade(settings)),
        base("filter-input", ("filter", INPUT, FILTER), vec![new_connections_to(CHECK_INPUT)]),
        base("filter-forward", ("filter", FORWARD, FILTER), vec![new_connections_to(CHECK_FORWARD)]),
        base("filter-output", ("filter", OUTPUT, FILTER), vec![new_connections_to(CHECK_FORWARD)]),
    ]
}

fn base(name: &str, (kind, number, priority): (&'static str, u32, i32), rules: Vec<Rule>) -> Chain {
    Chain { hook: Some(Hook { kind, number, priority }), ..Chain::new(name, rules) }
}

const SERVICE: [Load; 3] = [Load::Destination, Load::Protocol, Load::Port];
const NODE_PORT: [Load; 2] = [Load::Protocol, Load::Port];

fn services(family: IpFamily) -> Vec<Rule> {
    vec![
        Rule::new().look_up(family, &SERVICE, &StaticSet::ServiceIps.name(), LookupTarget::Verdict),
        node_ports(family, StaticSet::NodePortIps, StaticSet::ServiceNodePorts),
    ]
}

/// Only the node itself may use node ports on loopback addresses.
fn services_of_the_node(family: IpFamily) -> Vec<Rule> {
    let loopback = node_ports(family, StaticSet::NodePortLoopbackIps, StaticSet::ServiceNodePorts);
    services(family).into_iter().chain([loopback]).collect()
}

fn node_ports(family: IpFamily, addresses: StaticSet, verdicts: StaticSet) -> Rule {
    Rule::new().look_up(family, &[Load::Destination], &addresses.name(), LookupTarget::Member).look_up(
        family,
        &NODE_PORT,
        &verdicts.name(),
        LookupTarget::Verdict,
    )
}

fn no_endpoints(family: IpFamily) -> Rule {
    Rule::new().look_up(family, &SERVICE, &StaticSet::NoEndpointServices.name(), LookupTarget::Verdict)
}

fn check_input(family: IpFamily) -> Vec<Rule> {
    let node_ports = node_ports(family, StaticSet::NodePortIps, StaticSet::NoEndpointNodePorts);
    // `route_localnet`, which node ports on 127.0.0.1 need, must not open loopback listeners to the network.
    let martians = (family == IpFamily::V4).then(|| {
        let rule = Rule::new().input_interface(Comparison::NotEqual, "lo", false);
        rule.destination_is_loopback().verdict(Verdict::Drop)
    });
    [no_endpoints(family), node_ports].into_iter().chain(martians).collect()
}

fn check_forward(family: IpFamily) -> Vec<Rule> {
    let destination_in =
        |set: StaticSet| Rule::new().look_up(family, &[Load::Destination], &set.name(), LookupTarget::Member);
    vec![
        no_endpoints(family),
        // A cluster IP that is in use, but not with this port; or one that nobody has.
        destination_in(StaticSet::ClusterIps).goto(REJECT),
        destination_in(StaticSet::ServiceCidrs).verdict(Verdict::Drop),
    ]
}

/// TCP clients get a reset: unlike ICMP it is not rate limited, and no firewall swallows it.
fn reject(family: IpFamily) -> Vec<Rule> {
    let port_unreachable = match family {
        IpFamily::V4 => 3,
        IpFamily::V6 => 4,
    };
    let reset = Expression::Reject { kind: number::REJECT_TCP_RESET, code: None };
    let unreachable =
        Expression::Reject { kind: number::REJECT_ICMP_UNREACHABLE, code: Some(port_unreachable) };
    vec![Rule::new().protocol_is(Protocol::Tcp).with(reset), Rule::new().with(unreachable)]
}

fn masquerade(settings: &FamilySettings) -> Vec<Rule> {
    let pair = [Load::Source, Load::Destination, Load::Protocol, Load::Port];
    let marked = Rule::new().mark_has(settings.mark).clear_mark_bits(settings.mark);
    let hairpin = Rule::new().destination_was_translated().look_up(
        settings.family,
        &pair,
        &StaticSet::Hairpins.name(),
        LookupTarget::Member,
    );
    vec![marked.with(Expression::Masquerade), hairpin.with(Expression::Masquerade)]
}

fn new_connections_to(chain: &str) -> Rule {
    Rule::new().connection_is_new().verdict(Verdict::Jump(chain.into()))
}
