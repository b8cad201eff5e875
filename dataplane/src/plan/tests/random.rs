//! Random histories: the planner that followed every event agrees with one that starts from the final objects, and its
//! changes lead from table to table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::build::{NODE, hinted, ip, nets, node, port, ready, service, slice};
use crate::domain::{
    Cluster, Endpoint, EndpointSlice, Event, Node, Protocol, Service, ServiceName, ServicePort, SliceName,
    TrafficPolicy,
};
use crate::plan::explain::{Client, Question, SourceHandling, explain};
use crate::plan::{
    Backend, Changes, Frontend, FrontendAddress, FrontendSpec, Globals, NodePortAddresses, Pending,
    PlanSettings, Planner, Table,
};

/// One thing that happens to the agent.
#[derive(Clone, Debug)]
enum Step {
    Event(Event),
    /// The interfaces have these addresses now.
    Interfaces(BTreeSet<IpAddr>),
    /// What is pending is planned.
    Plan,
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local])
}

fn service_port() -> impl Strategy<Value = ServicePort> {
    let protocols = select(vec![Protocol::Tcp, Protocol::Udp]);
    (select(vec!["a", "b"]), protocols, 80_u16..82, prop::option::of(30000_u16..30002)).prop_map(
        |(name, protocol, number, node_port)| ServicePort { node_port, ..port(name, protocol, number) },
    )
}

fn addresses(list: &'static [&'static str]) -> impl Strategy<Value = Vec<IpAddr>> {
    subsequence(list, 0..=list.len()).prop_map(|list| list.into_iter().map(ip).collect())
}

/// Four Services that contend for few addresses and ports.
fn any_service() -> impl Strategy<Value = Service> {
    let addresses = (
        addresses(&["172.30.0.1", "172.30.0.2", "fd00:172::1"]),
        addresses(&["192.0.2.1", "192.0.2.2", "172.30.0.1", "2001:db8:f::1"]),
        addresses(&["192.0.2.2", "192.0.2.3", "2001:db8:f::2"]),
    );
    let ranges = subsequence(vec!["192.168.0.0/24", "203.0.113.0/24", "2001:db8::/64", "0.0.0.0/0"], 0..=2);
    let numbers = (0_i64..3, prop::option::of(Just(60_u32)), prop::option::of(32000_u16..32002));
    (0_u8..4, addresses, ranges, vec(service_port(), 0..3), (policy(), policy()), numbers).prop_map(
        |(name, addresses, ranges, ports, policies, (created, affinity_seconds, health_check_node_port))| {
            Service {
                created,
                cluster_ips: addresses.0,
                external_ips: addresses.1,
                load_balancer_ips: addresses.2,
                source_ranges: nets(&ranges),
                ports,
                internal_policy: policies.0,
                external_policy: policies.1,
                affinity_seconds,
                health_check_node_port,
                ..service(&format!("s{name}"), "172.30.0.1")
            }
        },
    )
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let conditions = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let hints = (subsequence(vec!["zone-a", "zone-b"], 0..=2), subsequence(vec![NODE, "node-b"], 0..=2));
    (0_u8..4, conditions, any::<bool>(), hints).prop_map(
        |(address, (ready_now, serving, terminating, here), has_hints, (zones, nodes))| {
            let endpoint = ready(&format!("10.0.0.{address}"));
            let endpoint = if has_hints { hinted(endpoint, &zones, &nodes) } else { endpoint };
            let node = here.then(|| NODE.into());
            Endpoint { ready: ready_now, serving, terminating, node, ..endpoint }
        },
    )
}

fn any_slice() -> impl Strategy<Value = EndpointSlice> {
    let ports =
        vec((select(vec!["a", "b"]), select(vec![Protocol::Tcp, Protocol::Udp]), 8080_u16..8082), 0..3);
    (0_u8..5, 0_u8..4, vec(any_endpoint(), 0..4), ports, prop::option::of(0_i64..3)).prop_map(
        |(name, owner, endpoints, ports, trigger_time_ns)| {
            let port = |(name, protocol, port): (&str, _, _)| crate::domain::EndpointPort {
                name: name.into(),
                protocol,
                port,
            };
            EndpointSlice {
                ports: ports.into_iter().map(port).collect(),
                trigger_time_ns,
                ..slice(&format!("e{name}"), &format!("s{owner}"), endpoints)
            }
        },
    )
}

fn any_node() -> impl Strategy<Value = Option<Box<Node>>> {
    let addresses = addresses(&["192.168.0.2", "203.0.113.9", "2001:db8::1"]);
    let zone = prop::option::of(select(vec!["zone-a", "zone-b"]));
    prop::option::of((addresses, zone)).prop_map(|parts| {
        parts.map(|(addresses, zone)| Box::new(Node { addresses, zone: zone.map(Arc::from), ..node() }))
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let gone = (0_u8..4).prop_map(|name| Event::ServiceGone(ServiceName::new("ns", format!("s{name}"))));
    let slice_gone = (0_u8..5).prop_map(|name| {
        Event::SliceGone(SliceName { namespace: "ns".into(), name: format!("e{name}").into() })
    });
    let cidrs = subsequence(vec!["172.30.0.0/16", "fd00:172::/112"], 0..=2);
    let interfaces = addresses(&["192.168.0.2", "127.0.0.1", "2001:db8::1"]);
    prop_oneof![
        6 => any_service().prop_map(|service| Step::Event(Event::Service(Box::new(service)))),
        6 => any_slice().prop_map(|slice| Step::Event(Event::Slice(Box::new(slice)))),
        2 => gone.prop_map(Step::Event),
        2 => slice_gone.prop_map(Step::Event),
        1 => any_node().prop_map(|node| Step::Event(Event::Node(node))),
        1 => cidrs.prop_map(|cidrs| Step::Event(Event::ServiceCidrs(nets(&cidrs)))),
        1 => interfaces.prop_map(|list| Step::Interfaces(list.into_iter().collect())),
        8 => Just(Step::Plan),
    ]
}

/// What a dataplane has that brings about each change and nothing else.
#[derive(Default)]
struct Mirror {
    frontends: BTreeMap<Frontend, Arc<FrontendSpec>>,
    globals: Globals,
}

impl Mirror {
    fn apply(&mut self, changes: &Changes) {
        let sorted = changes.frontends.windows(2).all(|pair| pair[0].frontend < pair[1].frontend);
        assert!(sorted, "each frontend at most once, in order");
        for change in &changes.frontends {
            assert_ne!(change.old, change.new, "{} does not change", change.frontend);
            assert_eq!(self.frontends.get(&change.frontend), change.old.as_ref(), "old {}", change.frontend);
            match &change.new {
                Some(new) => self.frontends.insert(change.frontend, Arc::clone(new)),
                None => self.frontends.remove(&change.frontend),
            };
        }
        if let Some(globals) = &changes.globals {
            assert_ne!(self.globals, *globals);
            self.globals.clone_from(globals);
        }
    }

    fn agrees_with(&self, table: &Table) {
        assert_eq!(self.frontends, table.frontends);
        assert_eq!(self.globals, table.globals);
    }
}

fn settings(primary: bool) -> PlanSettings {
    let all = NodePortAddresses::Cidrs(Vec::new());
    let node_port_addresses = if primary { NodePortAddresses::Primary } else { all };
    PlanSettings { node_port_addresses, ..PlanSettings::new(NODE) }
}

fn agree(followed: &Planner, cluster: &Cluster, interfaces: &BTreeSet<IpAddr>) {
    let mut fresh = Planner::new(followed.settings().clone());
    fresh.update_all(cluster, interfaces);
    assert_eq!(followed.table(), fresh.table());
    assert_eq!(followed.problems(), fresh.problems());
    assert_eq!(followed.totals(), fresh.totals());
    assert!(followed.health_checks().eq(fresh.health_checks()));
}

fn follow(steps: Vec<Step>, primary: bool) {
    let mut cluster = Cluster::default();
    let mut planner = Planner::new(settings(primary));
    let mut interfaces = BTreeSet::new();
    let mut pending = Pending::everything();
    let mut mirror = Mirror::default();
    for step in steps.into_iter().chain([Step::Plan]) {
        match step {
            Step::Event(event) => pending.add(cluster.apply(event)),
            Step::Interfaces(addresses) => {
                interfaces = addresses;
                pending.add_interface_addresses();
            }
            Step::Plan => {
                mirror.apply(&planner.update(&cluster, &interfaces, &pending.take()));
                mirror.agrees_with(planner.table());
                agree(&planner, &cluster, &interfaces);
                explained(&planner, &cluster);
            }
        }
    }
}

/// Every endpoint that `explain` calls eligible is in the pool, and no other.
fn explained(planner: &Planner, cluster: &Cluster) {
    for (frontend, spec) in &planner.table().frontends {
        let FrontendAddress::Ip(address) = frontend.address else { continue };
        let to = SocketAddr::new(address, frontend.port);
        for (client, target) in [(Client::Node, &spec.inside), (Client::Outside, &spec.outside)] {
            let question = Question { from: ip("198.51.100.1"), client, to, protocol: frontend.protocol };
            let sources = SourceHandling { masquerade_all: false, pods_told_apart: true };
            let answer = explain(planner, cluster, sources, &question);
            let eligible = answer.endpoints.iter().filter(|answer| answer.standing.is_eligible());
            let pool = target.backends().iter().map(Backend::socket);
            assert!(eligible.map(|answer| answer.endpoint).eq(pool), "{answer}\n{target:?}");
        }
    }
}

/// Frontends that are skipped on the way never change what the rest of the table is.
fn follow_with_refusals(steps: Vec<Step>, refusals: &[prop::sample::Index]) {
    let mut cluster = Cluster::default();
    let mut planner = Planner::new(settings(true));
    let mut pending = Pending::everything();
    let mut refusals = refusals.iter().cycle();
    for step in steps.into_iter().chain([Step::Plan]) {
        match step {
            Step::Event(event) => pending.add(cluster.apply(event)),
            Step::Interfaces(_) => {}
            Step::Plan => {
                planner.update(&cluster, &BTreeSet::new(), &pending.take());
                let frontends: Vec<_> = planner.table().frontends.keys().copied().collect();
                if let (false, Some(index)) = (frontends.is_empty(), refusals.next()) {
                    assert!(planner.skip(index.get(&frontends)));
                }
                let mut whole = planner.table().clone();
                for (frontend, spec) in planner.skipped() {
                    assert!(whole.frontends.insert(*frontend, Arc::clone(spec)).is_none());
                }
                let mut fresh = Planner::new(settings(true));
                fresh.update_all(&cluster, &BTreeSet::new());
                assert_eq!(whole, *fresh.table());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn following_events_gives_what_planning_from_scratch_gives(
        steps in vec(any_step(), 0..60),
        primary in any::<bool>(),
    ) {
        follow(steps, primary);
    }

    #[test]
    fn refused_frontends_leave_the_rest_of_the_table_alone(
        steps in vec(any_step(), 0..40),
        refusals in vec(any::<prop::sample::Index>(), 1..8),
    ) {
        follow_with_refusals(steps, &refusals);
    }
}
