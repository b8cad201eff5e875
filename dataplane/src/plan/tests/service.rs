use std::sync::Arc;

use super::build::*;
use crate::domain::{EndpointPort, EndpointSlice, IpFamily, Protocol, Service, ServicePort, TrafficPolicy};
use crate::plan::{FrontendKind, PlanSettings, Policy};

/// A Service of each kind of address, with a local and a remote endpoint.
fn balanced() -> Service {
    Service {
        external_ips: vec![ip("192.0.2.1")],
        load_balancer_ips: vec![ip("192.0.2.2")],
        ports: vec![ServicePort { node_port: Some(30080), ..port("", Protocol::Tcp, 80) }],
        ..service("web", "172.30.0.1")
    }
}

fn two_endpoints() -> EndpointSlice {
    slice("web-1", "web", vec![local("10.0.0.1"), ready("10.0.1.1")])
}

#[test]
fn each_address_of_a_service_is_a_frontend() {
    let mut world = World::new();
    world.put(&[balanced()], &[two_endpoints()]);
    let frontends = world.frontends();
    assert_eq!(
        frontends,
        ["172.30.0.1:80/tcp", "192.0.2.1:80/tcp", "192.0.2.2:80/tcp", "node port 30080/tcp (IPv4)"]
    );
    let kinds: Vec<_> = world.planner.table().frontends.values().map(|spec| spec.kind).collect();
    use FrontendKind::{ClusterIp, ExternalIp, LoadBalancerIp, NodePort};
    assert_eq!(kinds, [ClusterIp, ExternalIp, LoadBalancerIp, NodePort]);
}

#[test]
fn policy_cluster_gives_everybody_all_endpoints() {
    let mut world = World::new();
    world.put(&[balanced()], &[two_endpoints()]);
    for spec in world.planner.table().frontends.values() {
        assert_eq!(text(&spec.inside), ["10.0.0.1:8080", "10.0.1.1:8080"]);
        assert_eq!(spec.inside, spec.outside);
    }
    assert_eq!(world.spec("172.30.0.1:80/tcp").policy, Policy::Internal);
    assert_eq!(world.spec("node4:30080/tcp").policy, Policy::ExternalCluster);
}

#[test]
fn external_policy_local_binds_only_clients_from_outside() {
    let mut world = World::new();
    world.put(&[Service { external_policy: TrafficPolicy::Local, ..balanced() }], &[two_endpoints()]);
    for name in ["192.0.2.1:80/tcp", "192.0.2.2:80/tcp", "node4:30080/tcp"] {
        let spec = world.spec(name);
        assert_eq!(spec.policy, Policy::ExternalLocal);
        assert_eq!(text(&spec.inside), ["10.0.0.1:8080", "10.0.1.1:8080"]);
        assert_eq!(text(&spec.outside), ["10.0.0.1:8080"]);
    }
    assert_eq!(text(&world.spec("172.30.0.1:80/tcp").inside).len(), 2);
}

#[test]
fn internal_policy_local_binds_the_cluster_ip_only() {
    let mut world = World::new();
    world.put(&[Service { internal_policy: TrafficPolicy::Local, ..balanced() }], &[two_endpoints()]);
    assert_eq!(text(&world.spec("172.30.0.1:80/tcp").inside), ["10.0.0.1:8080"]);
    assert_eq!(text(&world.spec("node4:30080/tcp").inside).len(), 2);
}

#[test]
fn the_short_cut_inside_stays_when_clients_from_outside_are_dropped() {
    let mut world = World::new();
    let service = Service { external_policy: TrafficPolicy::Local, ..balanced() };
    world.put(&[service], &[slice("web-1", "web", vec![ready("10.0.1.1")])]);
    let spec = world.spec("node4:30080/tcp");
    assert_eq!(
        (text(&spec.inside), text(&spec.outside)),
        (vec!["10.0.1.1:8080".into()], vec!["drop".into()])
    );
}

#[test]
fn a_family_without_a_cluster_ip_has_no_frontends() {
    let mut world = World::new();
    let mut service = balanced();
    service.external_ips.push(ip("2001:db8::9"));
    service.load_balancer_ips.push(ip("2001:db8::10"));
    world.put(&[service], &[two_endpoints()]);
    assert!(world.planner.table().frontends.keys().all(|frontend| frontend.family() == IpFamily::V4));
}

#[test]
fn a_dual_stack_service_uses_the_endpoints_of_each_family() {
    let mut world = World::new();
    let mut service = balanced();
    service.cluster_ips.push(ip("fd00:172::1"));
    world.put(&[service], &[two_endpoints(), slice("web-6", "web", vec![ready("fd00:10::1")])]);
    assert_eq!(text(&world.spec("[fd00:172::1]:80/tcp").inside), ["[fd00:10::1]:8080"]);
    assert_eq!(text(&world.spec("172.30.0.1:80/tcp").inside).len(), 2);
    assert_eq!(world.frontends().iter().filter(|name| name.starts_with("node port 30080")).count(), 2);
}

#[test]
fn affinity_is_on_every_frontend_of_the_service() {
    let mut world = World::new();
    world.put(&[Service { affinity_seconds: Some(10800), ..balanced() }], &[two_endpoints()]);
    assert!(world.planner.table().frontends.values().all(|spec| spec.affinity_seconds == Some(10800)));
}

#[test]
fn frontends_of_a_port_share_pool_owner_and_serving_list() {
    let mut world = World::new();
    world.put(&[balanced()], &[two_endpoints()]);
    let specs: Vec<_> = world.planner.table().frontends.values().collect();
    for spec in &specs {
        assert!(Arc::ptr_eq(&spec.owner, &specs[0].owner));
        assert!(Arc::ptr_eq(&spec.serving, &specs[0].serving));
        assert!(std::ptr::eq(spec.inside.backends(), specs[0].inside.backends()));
        assert!(std::ptr::eq(spec.outside.backends(), specs[0].inside.backends()));
    }
}

#[test]
fn of_two_ports_of_a_service_with_the_same_number_the_first_wins() {
    let mut world = World::new();
    let mut service = balanced();
    service.ports = vec![
        ServicePort { node_port: Some(30080), ..port("a", Protocol::Tcp, 80) },
        ServicePort { node_port: Some(30080), ..port("b", Protocol::Tcp, 80) },
        port("c", Protocol::Udp, 80),
    ];
    service.external_ips.clear();
    service.load_balancer_ips.clear();
    world.put(&[service], &[]);
    assert_eq!(&*world.spec("172.30.0.1:80/tcp").owner.port, "a");
    assert_eq!(&*world.spec("172.30.0.1:80/udp").owner.port, "c");
    assert_eq!(
        world.problems(),
        [
            "service ns/web: spec.ports[1].nodePort: node port 30080/tcp (IPv4) is already served for port ns/web:a/tcp",
            "service ns/web: spec.ports[1].port: 172.30.0.1:80/tcp is already served for port ns/web:a/tcp",
        ]
    );
}

#[test]
fn an_address_given_twice_is_one_frontend_and_no_problem() {
    let mut world = World::new();
    world.put(&[Service { external_ips: vec![ip("192.0.2.1"), ip("192.0.2.1")], ..balanced() }], &[]);
    assert_eq!(world.frontends().len(), 4);
    assert_eq!(world.problems(), [""; 0]);
}

mod source_ranges {
    use super::*;

    fn allowed(service: &Service, settings: PlanSettings, frontend: &str) -> Option<Vec<String>> {
        let mut world = World::with(settings);
        world.put(std::slice::from_ref(service), &[]);
        let ranges = world.spec(frontend).source_ranges.clone();
        ranges.map(|ranges| ranges.iter().map(ToString::to_string).collect())
    }

    fn ranged(ranges: &[&str]) -> Service {
        Service { source_ranges: nets(ranges), ..balanced() }
    }

    fn dual(ranges: &[&str]) -> Service {
        let mut service = ranged(ranges);
        service.cluster_ips.push(ip("fd00:172::1"));
        service.load_balancer_ips.push(ip("2001:db8:f::2"));
        service
    }

    const VIP: &str = "192.0.2.2:80/tcp";
    const VIP6: &str = "[2001:db8:f::2]:80/tcp";

    #[test]
    fn they_guard_load_balancer_addresses_only() {
        let mut world = World::new();
        world.put(&[ranged(&["203.0.113.0/25"])], &[]);
        let guarded: Vec<_> =
            world.planner.table().frontends.values().filter(|s| s.source_ranges.is_some()).collect();
        assert_eq!(guarded.len(), 1);
        assert_eq!(guarded[0].kind, FrontendKind::LoadBalancerIp);
    }

    #[test]
    fn a_range_of_length_0_lets_everybody_in() {
        assert_eq!(allowed(&ranged(&["10.0.0.0/8", "0.0.0.0/0"]), PlanSettings::new(NODE), VIP), None);
        assert_eq!(allowed(&ranged(&["0.0.0.0/1", "128.0.0.0/1"]), PlanSettings::new(NODE), VIP), None);
    }

    #[test]
    fn they_are_masked_sorted_and_without_overlaps() {
        let service = ranged(&["203.0.113.7/24", "203.0.113.128/25", "10.1.0.0/16"]);
        let expected = Some(vec!["10.1.0.0/16".to_owned(), "203.0.113.0/24".to_owned()]);
        assert_eq!(allowed(&service, PlanSettings::new(NODE), VIP), expected);
    }

    #[test]
    fn a_node_inside_the_ranges_may_use_the_address_itself_as_source() {
        let service = ranged(&["192.168.0.0/24"]);
        let expected = Some(vec!["192.0.2.2/32".to_owned(), "192.168.0.0/24".to_owned()]);
        assert_eq!(allowed(&service, PlanSettings::new(NODE), VIP), expected);
        let elsewhere = PlanSettings { bind_address: Some(ip("10.9.9.9")), ..PlanSettings::new(NODE) };
        assert_eq!(allowed(&service, elsewhere, VIP), Some(vec!["192.168.0.0/24".to_owned()]));
    }

    #[test]
    fn each_family_has_its_own() {
        let service = dual(&["203.0.113.0/24", "2001:db8:1::/48"]);
        assert_eq!(allowed(&service, PlanSettings::new(NODE), VIP), Some(vec!["203.0.113.0/24".to_owned()]));
        assert_eq!(
            allowed(&service, PlanSettings::new(NODE), VIP6),
            Some(vec!["2001:db8:1::/48".to_owned()])
        );
    }

    #[test]
    fn a_family_without_ranges_is_closed_while_the_other_is_restricted() {
        let service = dual(&["203.0.113.0/24"]);
        assert_eq!(allowed(&service, PlanSettings::new(NODE), VIP6), Some(Vec::new()));
        let parity = PlanSettings { strict_source_ranges: false, ..PlanSettings::new(NODE) };
        assert_eq!(allowed(&service, parity, VIP6), None);
    }

    #[test]
    fn a_family_without_ranges_is_a_problem_told_either_way() {
        for (strict, word) in [(true, "closed"), (false, "open")] {
            let mut world =
                World::with(PlanSettings { strict_source_ranges: strict, ..PlanSettings::new(NODE) });
            world.put(&[dual(&["203.0.113.0/24"])], &[]);
            let problems = world.problems();
            assert_eq!(problems.len(), 1);
            assert!(problems[0].contains("spec.loadBalancerSourceRanges") && problems[0].contains(word));
        }
    }

    #[test]
    fn a_list_that_restricts_nobody_closes_no_family() {
        let service = dual(&["0.0.0.0/0"]);
        assert_eq!(allowed(&service, PlanSettings::new(NODE), VIP6), None);
        let mut world = World::new();
        world.put(&[service], &[]);
        assert_eq!(world.problems(), [""; 0]);
    }

    #[test]
    fn an_external_ip_that_is_a_load_balancer_ip_as_well_is_guarded() {
        let mut service = ranged(&["203.0.113.0/24"]);
        service.external_ips = service.load_balancer_ips.clone();
        assert!(allowed(&service, PlanSettings::new(NODE), VIP).is_some());
    }

    #[test]
    fn they_follow_the_nodes_address() {
        let mut world = World::new();
        world.put(&[ranged(&["10.9.0.0/16"]), service("other", "172.30.0.9")], &[]);
        assert_eq!(world.spec(VIP).source_ranges.as_ref().unwrap().len(), 1);
        let moved = crate::domain::Node { addresses: vec![ip("10.9.9.9")], ..node() };
        world.apply(crate::domain::Event::Node(Some(Box::new(moved))));
        let changes = world.update();
        assert_eq!(changes.frontends.len(), 1);
        assert_eq!(world.spec(VIP).source_ranges.as_ref().unwrap().len(), 2);
    }
}

mod health_checks {
    use super::*;

    fn checked() -> Service {
        Service {
            external_policy: TrafficPolicy::Local,
            health_check_node_port: Some(32000),
            ports: vec![port("a", Protocol::Tcp, 80), port("b", Protocol::Tcp, 81)],
            ..balanced()
        }
    }

    fn local_ready(endpoints: Vec<crate::domain::Endpoint>) -> usize {
        let ports =
            ["a", "b"].map(|name| EndpointPort { name: name.into(), protocol: Protocol::Tcp, port: 80 });
        let listed = EndpointSlice { ports: ports.to_vec(), ..slice("web-1", "web", endpoints) };
        let mut world = World::new();
        world.put(&[checked()], &[listed]);
        let checks: Vec<_> = world.planner.health_checks().collect();
        assert_eq!((checks.len(), checks[0].port), (1, 32000));
        assert_eq!((checks[0].service.to_string(), &*checks[0].uid), ("ns/web".to_owned(), "uid-web"));
        checks[0].local_ready
    }

    #[test]
    fn ready_endpoints_of_this_node_are_counted_once_for_all_ports() {
        let list = vec![local("10.0.0.1"), local("10.0.0.2"), ready("10.0.1.1"), unready(local("10.0.0.3"))];
        assert_eq!(local_ready(list), 2);
    }

    #[test]
    fn terminating_endpoints_serve_but_do_not_count() {
        assert_eq!(local_ready(vec![terminating(local("10.0.0.1"), true)]), 0);
    }

    #[test]
    fn the_port_is_global_while_the_service_is_there() {
        let mut world = World::new();
        let changes = world.put(&[checked()], &[]);
        assert_eq!(changes.globals.unwrap().health_check_node_ports, [32000].into());
        let changes = world.gone("web");
        assert!(changes.globals.unwrap().health_check_node_ports.is_empty());
    }

    #[test]
    fn of_two_services_with_one_port_the_older_has_it() {
        let mut world = World::new();
        let younger = Service { name: crate::domain::ServiceName::new("ns", "a"), created: 200, ..checked() };
        world.put(&[younger, checked()], &[]);
        let owners: Vec<_> = world.planner.health_checks().map(|check| check.service.to_string()).collect();
        assert_eq!(owners, ["ns/web"]);
        let told = "service ns/a: spec.healthCheckNodePort: health check node port 32000 belongs to the older Service ns/web";
        assert!(world.problems().contains(&told.to_owned()));
    }
}
