use std::collections::BTreeSet;

use super::*;
use crate::domain::Protocol;
use crate::kernel::nftables::element::{Extent, Value};
use crate::kernel::nftables::samples::{frontend as at, local, node_port, remote, spec};

/// `set: key = value`, bytes in hexadecimal.
fn lines(placed: &[Placed]) -> Vec<String> {
    let line = |(set, element): &Placed| {
        let value = match &element.value {
            Value::None => String::new(),
            Value::Verdict(verdict) => format!(" = {verdict:?}"),
            Value::Endpoint(endpoint) => format!(" = {endpoint:?}"),
            Value::Foreign => " = ?".to_owned(),
        };
        let extent = match &element.extent {
            Extent::Start => String::new(),
            Extent::Behind => " end".to_owned(),
            Extent::UpTo(end) => format!(" - {end:?}"),
        };
        format!("{}: {:?}{extent}{value}", set.name(), element.key)
            .replace(" )", ")")
            .replace("  ", " ")
            .trim()
            .to_owned()
    };
    placed.iter().map(line).collect()
}

#[test]
fn a_cluster_ip_is_a_verdict_and_an_element_for_each_endpoint() {
    let rendered =
        frontend(&at("172.30.0.1:80"), &spec(Policy::Internal, remote(&["10.0.0.1:8080", "10.0.0.2:8080"])));
    assert_eq!(
        lines(&rendered.own),
        [
            "service-ips: ac1e0001 06000000 00500000 = Goto(\"cluster-ip-tcp-2\")",
            "tcp-endpoints: ac1e0001 00500000 00000000 = 0a000001 1f900000",
            "tcp-endpoints: ac1e0001 00500000 01000000 = 0a000002 1f900000",
        ]
    );
    assert_eq!(lines(&rendered.shared), ["cluster-ips: ac1e0001"]);
}

#[test]
fn keys_of_node_ports_have_no_address() {
    let rendered = frontend(&node_port(30080), &spec(Policy::ExternalCluster, remote(&["10.0.0.1:53"])));
    assert_eq!(
        lines(&rendered.own),
        [
            "service-nodeports: 11000000 75800000 = Goto(\"nodeport-udp-1\")",
            "udp-nodeport-endpoints: 75800000 00000000 = 0a000001 00350000",
        ]
    );
    assert!(rendered.shared.is_empty());
}

#[test]
fn without_endpoints_there_is_nothing_but_the_refusal() {
    for (target, verdict) in [(Target::Reject, "Goto(\"reject-it\")"), (Target::Drop, "Drop")] {
        let rendered = frontend(&at("172.30.0.1:80"), &spec(Policy::Internal, target));
        assert_eq!(
            lines(&rendered.own),
            [format!("no-endpoint-services: ac1e0001 06000000 00500000 = {verdict}")]
        );
        assert_eq!(rendered.entry, None);
    }
}

#[test]
fn a_local_policy_without_local_endpoints_drops_strangers_and_serves_pods() {
    let spec =
        FrontendSpec { outside: Target::Drop, ..spec(Policy::ExternalLocal, remote(&["10.0.0.1:8080"])) };
    assert_eq!(
        lines(&frontend(&at("1.2.3.4:80"), &spec).own),
        [
            "service-ips: 01020304 06000000 00500000 = Goto(\"external-local-tcp-1-none\")",
            "tcp-endpoints: 01020304 00500000 00000000 = 0a000001 1f900000",
            "no-endpoint-services: 01020304 06000000 00500000 = Drop",
        ]
    );
}

#[test]
fn the_two_pools_of_a_local_policy_are_in_different_maps() {
    let spec = FrontendSpec {
        outside: local(&["10.0.0.1:8080"]),
        ..spec(Policy::ExternalLocal, remote(&["10.0.0.2:8080"]))
    };
    let sets: Vec<_> = frontend(&at("1.2.3.4:80"), &spec).own.into_iter().map(|(set, _)| set).collect();
    let endpoints = |scope| StaticSet::Endpoints(Protocol::Tcp, By::Address, scope);
    assert_eq!(sets, [StaticSet::ServiceIps, endpoints(Scope::Inside), endpoints(Scope::Outside)]);
}

#[test]
fn the_outside_pool_counts_under_a_local_policy_only() {
    let spec =
        FrontendSpec { outside: Target::Drop, ..spec(Policy::ExternalCluster, remote(&["10.0.0.2:8080"])) };
    let sets: Vec<_> = frontend(&at("1.2.3.4:80"), &spec).own.into_iter().map(|(set, _)| set).collect();
    assert!(!sets.contains(&StaticSet::NoEndpointServices), "{sets:?}");
}

#[test]
fn affinity_takes_endpoints_from_chains_of_its_own() {
    let spec = FrontendSpec {
        affinity_seconds: Some(60),
        ..spec(Policy::Internal, remote(&["10.0.0.1:8080", "10.0.0.2:8080"]))
    };
    let rendered = frontend(&at("172.30.0.1:80"), &spec);
    assert_eq!(rendered.own.len(), 1);
    let units = rendered.entry.unwrap().dependencies();
    assert!(matches!(&units[..], [Unit::StickyPool(_)]), "{units:?}");
    assert_eq!(units[0].dependencies().len(), 2);
}

#[test]
fn the_pool_and_the_timeout_name_the_chain_of_an_affinity() {
    let name = |seconds, endpoints: &[&str]| {
        let spec =
            FrontendSpec { affinity_seconds: Some(seconds), ..spec(Policy::Internal, remote(endpoints)) };
        frontend(&at("172.30.0.1:80"), &spec).entry.unwrap().name()
    };
    let base = name(60, &["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(base, name(60, &["10.0.0.1:80", "10.0.0.2:80"]));
    assert_ne!(base, name(61, &["10.0.0.1:80", "10.0.0.2:80"]));
    assert_ne!(base, name(60, &["10.0.0.1:80"]));
    assert!(base.ends_with("-default/web/tcp/http"), "{base}");
}

#[test]
fn source_ranges_are_those_of_the_family_without_overlaps() {
    let ranges = ["10.1.0.0/16", "10.0.0.0/8", "fd00::/8", "203.0.113.7/32"];
    let spec = FrontendSpec {
        source_ranges: Some(ranges.iter().map(|range| range.parse().unwrap()).collect()),
        ..spec(Policy::ExternalCluster, remote(&["10.0.0.2:8080"]))
    };
    let rendered = frontend(&at("1.2.3.4:80"), &spec);
    let ranges: Vec<_> =
        lines(&rendered.own).into_iter().filter(|line| line.contains("source-ranges")).collect();
    assert_eq!(
        ranges,
        [
            "tcp-source-ranges: 01020304 00500000 0a000000 - 01020304 00500000 0affffff",
            "tcp-source-ranges: 01020304 00500000 cb007107 - 01020304 00500000 cb007107",
        ]
    );
    assert_eq!(rendered.entry.unwrap().name(), "guarded-external-tcp-1");
}

#[test]
fn source_ranges_are_kept_where_there_is_no_endpoint() {
    let spec = FrontendSpec {
        source_ranges: Some(Arc::new(["10.0.0.0/8".parse().unwrap()])),
        ..spec(Policy::ExternalCluster, Target::Reject)
    };
    let rendered = frontend(&at("1.2.3.4:80"), &spec);
    assert_eq!(rendered.entry.unwrap().name(), "guarded-external-tcp-none");
    assert_eq!(rendered.own.len(), 3);
}

#[test]
fn only_local_endpoints_may_meet_themselves_and_each_is_listed_once() {
    let spec = FrontendSpec {
        outside: local(&["10.0.0.1:8080"]),
        ..spec(Policy::ExternalLocal, local(&["10.0.0.1:8080"]))
    };
    let rendered = frontend(&at("1.2.3.4:80"), &spec);
    assert_eq!(lines(&rendered.shared), ["hairpin-endpoints: 0a000001 0a000001 06000000 1f900000"]);
}

#[test]
fn globals_are_addresses_and_ranges_of_the_family() {
    let globals = Globals {
        node_port_addresses: ["192.168.0.2", "127.0.0.1", "fd00::2", "::1"]
            .map(|a| a.parse().unwrap())
            .into(),
        service_cidrs: ["10.96.0.0/13", "10.104.0.0/13", "fd00:30::/112"].map(|c| c.parse().unwrap()).into(),
        health_check_node_ports: BTreeSet::new(),
    };
    assert_eq!(
        lines(&super::globals(&globals, IpFamily::V4)),
        [
            "nodeport-loopback-ips: 7f000001",
            "nodeport-ips: c0a80002",
            "service-cidrs: 00000000 end",
            "service-cidrs: 0a600000",
            "service-cidrs: 0a700000 end",
        ]
    );
    assert_eq!(super::globals(&globals, IpFamily::V6).len(), 4);
}

#[test]
fn a_range_at_the_end_of_all_addresses_has_no_end() {
    let globals = Globals { service_cidrs: ["128.0.0.0/1".parse().unwrap()].into(), ..Globals::default() };
    assert_eq!(
        lines(&super::globals(&globals, IpFamily::V4)),
        ["service-cidrs: 00000000 end", "service-cidrs: 80000000"]
    );
}
