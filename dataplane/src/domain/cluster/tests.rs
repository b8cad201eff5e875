use super::*;
use crate::domain::{Endpoint, EndpointPort, IpFamily, ObjectKind, Protocol, ServiceType, TrafficPolicy};

fn service(name: &str) -> Service {
    Service {
        name: ServiceName::new("ns", name),
        uid: "uid".into(),
        created: 1,
        kind: ServiceType::ClusterIp,
        cluster_ips: vec!["172.30.0.1".parse().unwrap()],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        ports: Vec::new(),
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_seconds: None,
        health_check_node_port: None,
    }
}

fn slice_name(name: &str) -> SliceName {
    SliceName { namespace: "ns".into(), name: name.into() }
}

fn slice(name: &str, service: &str, address: &str) -> EndpointSlice {
    EndpointSlice {
        name: slice_name(name),
        service: ServiceName::new("ns", service),
        family: IpFamily::V4,
        ports: vec![EndpointPort { name: "http".into(), protocol: Protocol::Tcp, port: 80 }],
        endpoints: vec![Endpoint {
            address: address.parse().unwrap(),
            ready: true,
            serving: true,
            terminating: false,
            node: Some("node-a".into()),
            hints: None,
        }],
        trigger_time_ns: None,
    }
}

fn put(cluster: &mut Cluster, slice: EndpointSlice) -> Dirty {
    cluster.apply(Event::Slice(Box::new(slice)))
}

fn dirty(names: &[&str]) -> Dirty {
    Dirty::Services(names.iter().map(|name| ServiceName::new("ns", *name)).collect())
}

#[test]
fn a_service_is_dirty_when_it_appears_changes_and_goes() {
    let mut cluster = Cluster::default();
    assert_eq!(cluster.apply(Event::Service(Box::new(service("web")))), dirty(&["web"]));
    assert_eq!(cluster.apply(Event::Service(Box::new(service("web")))), Dirty::Nothing);
    let changed = Service { affinity_seconds: Some(10), ..service("web") };
    assert_eq!(cluster.apply(Event::Service(Box::new(changed.clone()))), dirty(&["web"]));
    assert_eq!(cluster.service(&changed.name), Some(&changed));
    assert_eq!(cluster.apply(Event::ServiceGone(changed.name.clone())), dirty(&["web"]));
    assert_eq!(cluster.apply(Event::ServiceGone(changed.name.clone())), Dirty::Nothing);
    assert_eq!(cluster.service_count(), 0);
}

#[test]
fn a_slice_makes_its_service_dirty_also_before_that_service_is_known() {
    let mut cluster = Cluster::default();
    assert_eq!(put(&mut cluster, slice("web-1", "web", "10.0.0.1")), dirty(&["web"]));
    assert_eq!(put(&mut cluster, slice("web-1", "web", "10.0.0.1")), Dirty::Nothing);
    assert_eq!(put(&mut cluster, slice("web-1", "web", "10.0.0.2")), dirty(&["web"]));
    assert_eq!(cluster.apply(Event::SliceGone(slice_name("web-1"))), dirty(&["web"]));
    assert_eq!(cluster.apply(Event::SliceGone(slice_name("web-1"))), Dirty::Nothing);
    assert_eq!(cluster.slices(&ServiceName::new("ns", "web")).count(), 0);
    assert_eq!(cluster.slice_count(), 0);
}

#[test]
fn a_slice_that_changes_its_owner_makes_both_services_dirty() {
    let mut cluster = Cluster::default();
    put(&mut cluster, slice("s", "old", "10.0.0.1"));
    assert_eq!(put(&mut cluster, slice("s", "new", "10.0.0.1")), dirty(&["old", "new"]));
    assert_eq!(cluster.slices(&ServiceName::new("ns", "old")).count(), 0);
    assert_eq!(cluster.slices(&ServiceName::new("ns", "new")).count(), 1);
    assert_eq!(cluster.slice_count(), 1);
}

#[test]
fn slices_come_sorted_by_name_whatever_the_order_of_arrival() {
    let mut cluster = Cluster::default();
    for name in ["c", "a", "b"] {
        put(&mut cluster, slice(name, "web", "10.0.0.1"));
    }
    let names: Vec<_> =
        cluster.slices(&ServiceName::new("ns", "web")).map(|s| s.name.name.to_string()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn a_new_trigger_time_alone_is_not_a_change() {
    let mut cluster = Cluster::default();
    put(&mut cluster, slice("s", "web", "10.0.0.1"));
    let touched = EndpointSlice { trigger_time_ns: Some(5), ..slice("s", "web", "10.0.0.1") };
    assert_eq!(put(&mut cluster, touched), Dirty::Nothing);
    let moved = EndpointSlice { trigger_time_ns: Some(5), ..slice("s", "web", "10.0.0.2") };
    assert_eq!(put(&mut cluster, moved.clone()), dirty(&["web"]));
    assert_eq!(cluster.slices(&moved.service).next(), Some(&moved));
}

#[test]
fn the_nodes_place_concerns_every_service_and_its_other_fields_only_globals() {
    let mut cluster = Cluster::default();
    let node = Node { name: "a".into(), zone: Some("z1".into()), ..Node::default() };
    let mut give = |node: &Node| cluster.apply(Event::Node(Some(Box::new(node.clone()))));
    assert_eq!(give(&node), Dirty::AllServices);
    assert_eq!(give(&node), Dirty::Nothing);
    let addressed = Node { addresses: vec!["192.168.0.2".parse().unwrap()], ..node.clone() };
    assert_eq!(give(&addressed), Dirty::Globals);
    let moved = Node { zone: Some("z2".into()), addresses: Vec::new(), ..node };
    assert_eq!(give(&moved), Dirty::AllServices);
    assert_eq!(cluster.apply(Event::Node(None)), Dirty::AllServices);
}

#[test]
fn service_cidrs_are_compared_as_a_set() {
    let mut cluster = Cluster::default();
    let (a, b): (IpNet, IpNet) = ("10.96.0.0/12".parse().unwrap(), "fd00::/112".parse().unwrap());
    assert_eq!(cluster.apply(Event::ServiceCidrs(vec![b, a])), Dirty::Globals);
    assert_eq!(cluster.apply(Event::ServiceCidrs(vec![a, b, a])), Dirty::Nothing);
    assert_eq!(cluster.service_cidrs(), [a, b]);
    assert_eq!(cluster.apply(Event::Synced(ObjectKind::Node)), Dirty::Nothing);
}

#[test]
fn repeated_words_are_stored_once_and_forgotten_ones_are_swept() {
    let mut cluster = Cluster::default();
    put(&mut cluster, slice("a", "web", "10.0.0.1"));
    put(&mut cluster, slice("b", "web", "10.0.0.2"));
    let nodes: Vec<_> = cluster
        .slices(&ServiceName::new("ns", "web"))
        .map(|slice| slice.endpoints[0].node.clone().unwrap())
        .collect();
    assert!(Arc::ptr_eq(&nodes[0], &nodes[1]));

    for number in 0..10 * Words::FIRST_SWEEP {
        let mut passing = slice("a", "web", "10.0.0.1");
        passing.endpoints[0].node = Some(format!("node-{number}").into());
        put(&mut cluster, passing);
    }
    assert!(cluster.words.known.len() <= Words::FIRST_SWEEP, "{} words kept", cluster.words.known.len());
}
