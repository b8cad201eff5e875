use super::build::*;
use crate::domain::{Endpoint, EndpointPort, EndpointSlice, Protocol, TrafficPolicy};
use crate::plan::Target;

/// What the cluster IP of a Service with these slices leads to.
fn chosen(policy: TrafficPolicy, slices: &[Vec<Endpoint>]) -> Vec<String> {
    let mut web = service("web", "172.30.0.1");
    web.internal_policy = policy;
    let slices: Vec<_> =
        slices.iter().enumerate().map(|(n, list)| slice(&format!("web-{n}"), "web", list.clone())).collect();
    let mut world = World::new();
    world.put(&[web], &slices);
    text(&world.spec("172.30.0.1:80/tcp").inside)
}

fn cluster(endpoints: Vec<Endpoint>) -> Vec<String> {
    chosen(TrafficPolicy::Cluster, &[endpoints])
}

fn only_local(endpoints: Vec<Endpoint>) -> Vec<String> {
    chosen(TrafficPolicy::Local, &[endpoints])
}

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const C: &str = "10.0.0.3";

#[test]
fn ready_endpoints_are_preferred_over_terminating_ones() {
    assert_eq!(cluster(vec![ready(A), terminating(ready(B), true), unready(ready(C))]), ["10.0.0.1:8080"]);
}

#[test]
fn terminating_endpoints_that_still_serve_are_the_last_resort() {
    let list = vec![terminating(ready(A), true), terminating(ready(B), false), unready(ready(C))];
    assert_eq!(cluster(list), ["10.0.0.1:8080"]);
}

#[test]
fn serving_without_terminating_is_not_enough() {
    let starting = Endpoint { ready: false, serving: true, ..ready(A) };
    assert_eq!(cluster(vec![starting]), ["reject"]);
}

#[test]
fn ready_counts_even_while_terminating() {
    // publishNotReadyAddresses
    let published = Endpoint { terminating: true, ..ready(A) };
    assert_eq!(cluster(vec![published]), ["10.0.0.1:8080"]);
}

#[test]
fn nothing_usable_anywhere_rejects_under_either_policy() {
    for list in [vec![], vec![unready(local(A))], vec![terminating(local(A), false)]] {
        assert_eq!(cluster(list.clone()), ["reject"]);
        assert_eq!(only_local(list), ["reject"]);
    }
}

#[test]
fn nothing_usable_here_drops_under_policy_local() {
    assert_eq!(only_local(vec![ready(A)]), ["drop"]);
    assert_eq!(only_local(vec![terminating(ready(A), true), unready(local(B))]), ["drop"]);
}

#[test]
fn the_last_resort_of_policy_local_does_not_look_at_other_nodes() {
    assert_eq!(only_local(vec![ready(A), terminating(local(B), true)]), ["10.0.0.2:8080"]);
}

#[test]
fn zone_hints_count_when_all_ready_endpoints_have_them_and_one_names_this_zone() {
    let here = hinted(ready(A), &["zone-a"], &[]);
    let there = hinted(ready(B), &["zone-b"], &[]);
    assert_eq!(cluster(vec![here.clone(), there.clone()]), ["10.0.0.1:8080"]);
    assert_eq!(cluster(vec![there.clone()]), ["10.0.0.2:8080"]);
    assert_eq!(cluster(vec![here.clone(), there.clone(), ready(C)]).len(), 3);
    assert_eq!(cluster(vec![here, there, unready(ready(C))]), ["10.0.0.1:8080"]);
}

#[test]
fn node_hints_go_before_zone_hints() {
    let here = hinted(ready(A), &["zone-a"], &[NODE]);
    let neighbour = hinted(ready(B), &["zone-a"], &["node-b"]);
    let far = hinted(ready(C), &["zone-b"], &["node-c"]);
    assert_eq!(cluster(vec![here, neighbour.clone(), far.clone()]), ["10.0.0.1:8080"]);
    assert_eq!(cluster(vec![neighbour, far]), ["10.0.0.2:8080"]);
}

#[test]
fn hints_do_not_narrow_terminating_endpoints() {
    let there = terminating(hinted(ready(A), &["zone-b"], &[]), true);
    let here = terminating(hinted(ready(B), &["zone-a"], &[]), true);
    assert_eq!(cluster(vec![there, here]).len(), 2);
}

#[test]
fn hints_do_not_matter_under_policy_local() {
    assert_eq!(only_local(vec![hinted(local(A), &["zone-b"], &["node-b"])]), ["10.0.0.1:8080"]);
}

#[test]
fn an_address_in_two_slices_is_one_endpoint() {
    assert_eq!(chosen(TrafficPolicy::Cluster, &[vec![ready(A), ready(B)], vec![ready(A)]]).len(), 2);
}

#[test]
fn of_two_entries_the_running_one_is_believed_in_either_order() {
    let old = || vec![terminating(ready(A), true)];
    let new = || vec![ready(A)];
    let starting = || vec![unready(ready(A))];
    for slices in [[old(), new()], [new(), old()]] {
        assert_eq!(chosen(TrafficPolicy::Cluster, &slices), ["10.0.0.1:8080"]);
    }
    // The pod that has the address now is not ready yet: the old one is gone from there.
    let published = || vec![Endpoint { terminating: true, ..ready(A) }];
    for slices in [[published(), starting()], [starting(), published()]] {
        assert_eq!(chosen(TrafficPolicy::Cluster, &slices), ["reject"]);
    }
    for slices in [[old(), starting()], [starting(), old()]] {
        assert_eq!(chosen(TrafficPolicy::Cluster, &slices), ["reject"]);
    }
}

#[test]
fn locality_belongs_to_the_believed_entry() {
    let mut world = World::new();
    let slices = [slice("a", "web", vec![terminating(ready(A), true)]), slice("b", "web", vec![local(A)])];
    world.put(&[service("web", "172.30.0.1")], &slices);
    assert!(world.spec("172.30.0.1:80/tcp").inside.backends()[0].local);
}

#[test]
fn ports_match_by_name_and_protocol_and_may_differ_by_slice() {
    let offers = |name: &str, port_name: &str, protocol, port, address: &str| EndpointSlice {
        ports: vec![EndpointPort { name: port_name.into(), protocol, port }],
        ..slice(name, "web", vec![ready(address)])
    };
    let mut web = service("web", "172.30.0.1");
    web.ports = vec![port("http", Protocol::Tcp, 80)];
    let slices = [
        offers("a", "http", Protocol::Tcp, 8080, A),
        offers("b", "http", Protocol::Tcp, 9090, A),
        offers("c", "http", Protocol::Udp, 1, B),
        offers("d", "other", Protocol::Tcp, 2, B),
        offers("e", "http", Protocol::Tcp, 0, C),
    ];
    let mut world = World::new();
    world.put(&[web], &slices);
    assert_eq!(text(&world.spec("172.30.0.1:80/tcp").inside), ["10.0.0.1:8080", "10.0.0.1:9090"]);
}

#[test]
fn serving_lists_what_still_serves_eligible_or_not() {
    let list = vec![
        ready(A),
        terminating(ready(B), true),
        terminating(ready(C), false),
        unready(ready("10.0.0.4")),
        Endpoint { ready: false, serving: true, ..ready("10.0.0.5") },
    ];
    let mut world = World::new();
    world.put(&[service("web", "172.30.0.1")], &[slice("a", "web", list)]);
    let serving: Vec<_> = world.spec("172.30.0.1:80/tcp").serving.iter().map(ToString::to_string).collect();
    assert_eq!(serving, ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.5:8080"]);
}

#[test]
fn pools_are_sorted_and_never_empty() {
    let mut world = World::new();
    world.put(&[service("web", "172.30.0.1")], &[slice("a", "web", vec![ready(C), ready(A), ready(B)])]);
    let spec = world.spec("172.30.0.1:80/tcp");
    assert!(matches!(&spec.inside, Target::Pool(pool) if pool.is_sorted() && pool.len() == 3));
}
