//! Random objects: few Services and endpoints, that contend for few addresses and ports.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use shunt::domain::{
    Endpoint, EndpointPort, EndpointSlice, Event, IpFamily, Node, Protocol, Service, ServiceName,
    ServicePort, ServiceType, SliceName, TrafficPolicy,
};

pub(crate) const NODE: &str = "node-a";

/// Everything that packets may be addressed to, frontends or not.
pub(crate) const DESTINATIONS: [&str; 14] = [
    "172.30.0.1",
    "172.30.0.2",
    "172.30.9.9",
    "192.0.2.1",
    "192.0.2.2",
    "192.0.2.9",
    "192.168.0.2",
    "10.0.0.1",
    "fd00:172::1",
    "fd00:172::9",
    "2001:db8:f::1",
    "2001:db8:f::9",
    "2001:db8::2",
    "fd00:10::1",
];

/// And their ports.
pub(crate) const PORTS: [u16; 6] = [80, 81, 82, 8080, 30000, 30001];

/// The node and the cluster's ranges.
pub(crate) fn surroundings() -> [Event; 2] {
    let node =
        Node { name: NODE.into(), addresses: addresses(&["192.168.0.2", "2001:db8::2"]), ..Node::default() };
    let cidrs = ["172.30.0.0/16", "fd00:172::/112"].map(|cidr| cidr.parse().unwrap());
    [Event::Node(Some(Box::new(node))), Event::ServiceCidrs(cidrs.into())]
}

/// Something that happens to the cluster.
pub(crate) fn any_event() -> impl Strategy<Value = Event> {
    let gone = (0_u8..4).prop_map(|name| Event::ServiceGone(ServiceName::new("ns", format!("s{name}"))));
    prop_oneof![
        4 => any_service().prop_map(|service| Event::Service(Box::new(service))),
        7 => any_slice().prop_map(|slice| Event::Slice(Box::new(slice))),
        1 => gone,
        1 => (0_u8..6).prop_map(|name| Event::SliceGone(slice_name(name))),
    ]
}

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

fn some(list: &'static [&'static str]) -> impl Strategy<Value = Vec<IpAddr>> {
    subsequence(list, 0..=list.len()).prop_map(|list| addresses(&list))
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local])
}

fn any_protocol() -> impl Strategy<Value = Protocol> + Clone {
    select(vec![Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp])
}

fn service_port() -> impl Strategy<Value = ServicePort> {
    let node_port = prop::option::of(30000_u16..30002);
    (select(vec!["a", "a", "b"]), any_protocol(), 80_u16..82, node_port).prop_map(
        |(name, protocol, port, node_port)| ServicePort { name: name.into(), protocol, port, node_port },
    )
}

fn any_service() -> impl Strategy<Value = Service> {
    let addresses = (
        some(&["172.30.0.1", "172.30.0.2", "fd00:172::1"]),
        some(&["192.0.2.1", "2001:db8:f::1"]),
        some(&["192.0.2.2", "2001:db8:f::1"]),
    );
    let ranges = subsequence(vec!["198.51.100.0/24", "10.0.0.0/30", "2001:db8:9::/64", "0.0.0.0/0"], 0..=2);
    let affinity = prop::option::weighted(0.2, Just(60_u32));
    (0_u8..4, addresses, ranges, vec(service_port(), 1..3), (policy(), policy()), affinity).prop_map(
        |(
            name,
            (cluster_ips, external_ips, load_balancer_ips),
            ranges,
            ports,
            policies,
            affinity_seconds,
        )| {
            Service {
                name: ServiceName::new("ns", format!("s{name}")),
                uid: format!("uid-{name}").into(),
                created: i64::from(name),
                kind: ServiceType::LoadBalancer,
                cluster_ips,
                external_ips,
                load_balancer_ips,
                source_ranges: ranges.into_iter().map(|range| range.parse().unwrap()).collect(),
                ports,
                internal_policy: policies.0,
                external_policy: policies.1,
                affinity_seconds,
                health_check_node_port: None,
            }
        },
    )
}

/// In the pods' range where it is local; remote ones are on the way out.
fn any_endpoint(family: IpFamily) -> impl Strategy<Value = Endpoint> {
    let conditions = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (1_u8..5, conditions).prop_map(move |(host, (ready, serving, terminating, here))| {
        let address = match (family, here) {
            (IpFamily::V4, true) => format!("10.0.0.{host}"),
            (IpFamily::V4, false) => format!("10.9.0.{host}"),
            (IpFamily::V6, true) => format!("fd00:10::{host}"),
            (IpFamily::V6, false) => format!("fd00:9::{host}"),
        };
        Endpoint {
            address: address.parse().unwrap(),
            ready,
            serving: serving || ready,
            terminating,
            node: Some(if here { NODE.into() } else { Arc::from("node-b") }),
            hints: None,
        }
    })
}

fn slice_name(number: u8) -> SliceName {
    SliceName { namespace: "ns".into(), name: format!("e{number}").into() }
}

fn any_slice() -> impl Strategy<Value = EndpointSlice> {
    let family = select(vec![IpFamily::V4, IpFamily::V6]);
    let all: Vec<_> =
        ["a", "b"].into_iter().flat_map(|name| Protocol::ALL.map(|it| (name, it, 8080))).collect();
    let ports = subsequence(all, 4..=6);
    family.prop_flat_map(move |family| {
        (0_u8..6, 0_u8..4, vec(any_endpoint(family), 1..5), ports.clone()).prop_map(
            move |(name, owner, endpoints, ports)| EndpointSlice {
                name: slice_name(name),
                service: ServiceName::new("ns", format!("s{owner}")),
                family,
                ports: ports
                    .into_iter()
                    .map(|(name, protocol, port)| EndpointPort { name: name.into(), protocol, port })
                    .collect(),
                endpoints,
                trigger_time_ns: None,
            },
        )
    })
}
