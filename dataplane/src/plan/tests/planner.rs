use std::sync::Arc;

use super::build::*;
use crate::domain::{Event, Node, Protocol, Service, ServiceName, ServicePort, SliceName, TrafficPolicy};
use crate::plan::{Changes, NodePortAddresses, Pending, PlanSettings};

fn names(changes: &Changes) -> Vec<String> {
    changes.frontends.iter().map(|change| change.frontend.to_string()).collect()
}

/// A Service with an external IP that others may claim too.
fn claims(name: &str, cluster_ip: &str, created: i64) -> Service {
    Service { created, external_ips: vec![ip("192.0.2.1")], ..service(name, cluster_ip) }
}

#[test]
fn a_change_tells_old_and_new_of_what_differs_and_nothing_else() {
    let mut world = World::new();
    let services = [service("web", "172.30.0.1"), service("db", "172.30.0.2")];
    world.put(
        &services,
        &[slice("web-1", "web", vec![ready("10.0.0.1")]), slice("db-1", "db", vec![ready("10.0.0.2")])],
    );
    let before = world.spec("172.30.0.1:80/tcp");
    let changes = world.put(&[], &[slice("web-1", "web", vec![ready("10.0.0.3")])]);
    assert_eq!(names(&changes), ["172.30.0.1:80/tcp"]);
    assert!(Arc::ptr_eq(changes.frontends[0].old.as_ref().unwrap(), &before));
    assert_eq!(text(&changes.frontends[0].new.as_ref().unwrap().inside), ["10.0.0.3:8080"]);
    assert!(changes.globals.is_none());
}

#[test]
fn planning_again_changes_nothing_and_keeps_what_is_shared() {
    let mut world = World::new();
    world.put(&[service("web", "172.30.0.1")], &[slice("web-1", "web", vec![ready("10.0.0.1")])]);
    let before = world.spec("172.30.0.1:80/tcp");
    let changes = world.planner.update_all(&world.cluster, &world.interfaces);
    assert!(changes.is_empty());
    assert!(Arc::ptr_eq(&before, &world.spec("172.30.0.1:80/tcp")));
}

#[test]
fn a_changed_port_leaves_the_other_ports_of_the_service_alone() {
    let mut web = service("web", "172.30.0.1");
    web.ports = vec![port("a", Protocol::Tcp, 80), port("b", Protocol::Tcp, 81)];
    let mut world = World::new();
    world.put(&[web.clone()], &[]);
    web.ports[1] = port("b", Protocol::Tcp, 82);
    let changes = world.put(&[web], &[]);
    assert_eq!(names(&changes), ["172.30.0.1:81/tcp", "172.30.0.1:82/tcp"]);
}

#[test]
fn changes_are_sorted_by_frontend() {
    let mut world = World::new();
    let services: Vec<_> = (1..50).map(|n| service(&format!("s{n}"), &format!("172.30.0.{n}"))).collect();
    let changes = world.put(&services, &[]);
    assert!(changes.frontends.is_sorted_by_key(|change| change.frontend));
    assert_eq!(changes.frontends.len(), 49);
}

#[test]
fn a_service_that_goes_takes_its_frontends_along() {
    let mut world = World::new();
    world.put(&[service("web", "172.30.0.1")], &[slice("web-1", "web", vec![ready("10.0.0.1")])]);
    let changes = world.gone("web");
    assert_eq!(names(&changes), ["172.30.0.1:80/tcp"]);
    assert!(changes.frontends[0].new.is_none());
    assert_eq!(world.frontends(), [""; 0]);
    assert_eq!(*world.planner.totals(), crate::plan::Totals::default());
}

#[test]
fn slices_of_a_service_that_comes_later_count_when_it_comes() {
    let mut world = World::new();
    assert!(world.put(&[], &[slice("web-1", "web", vec![ready("10.0.0.1")])]).is_empty());
    world.put(&[service("web", "172.30.0.1")], &[]);
    assert_eq!(text(&world.spec("172.30.0.1:80/tcp").inside), ["10.0.0.1:8080"]);
    world.apply(Event::SliceGone(SliceName { namespace: "ns".into(), name: "web-1".into() }));
    world.update();
    assert_eq!(text(&world.spec("172.30.0.1:80/tcp").inside), ["reject"]);
}

#[test]
fn a_disputed_frontend_belongs_to_the_oldest_service() {
    let mut world = World::new();
    world.put(&[claims("young", "172.30.0.1", 200)], &[]);
    assert_eq!(world.problems(), [""; 0]);
    let changes = world.put(&[claims("old", "172.30.0.2", 100)], &[]);
    assert_eq!(names(&changes), ["172.30.0.2:80/tcp", "192.0.2.1:80/tcp"]);
    assert_eq!(world.spec("192.0.2.1:80/tcp").owner.service.to_string(), "ns/old");
    let told = "service ns/young: spec.externalIPs: 192.0.2.1:80/tcp belongs to Service ns/old";
    assert_eq!(world.problems(), [told]);
}

#[test]
fn the_next_in_line_gets_a_disputed_frontend_when_its_owner_goes() {
    let mut world = World::new();
    let services =
        [claims("b", "172.30.0.1", 100), claims("a", "172.30.0.2", 100), claims("c", "172.30.0.3", 50)];
    world.put(&services, &[]);
    let owner = |world: &World| world.spec("192.0.2.1:80/tcp").owner.service.name.to_string();
    assert_eq!(owner(&world), "c");
    world.gone("c");
    assert_eq!(owner(&world), "a", "of the same age, by name");
    world.gone("b");
    assert_eq!(owner(&world), "a");
    assert_eq!(world.problems(), [""; 0]);
    let changes = world.gone("a");
    assert!(changes.frontends.iter().all(|change| change.new.is_none()));
}

#[test]
fn a_service_created_anew_loses_its_seniority() {
    let mut world = World::new();
    world.put(&[claims("a", "172.30.0.1", 100), claims("b", "172.30.0.2", 150)], &[]);
    let changes = world.put(&[claims("a", "172.30.0.1", 200)], &[]);
    assert_eq!(names(&changes), ["192.0.2.1:80/tcp"]);
    assert_eq!(&*world.spec("192.0.2.1:80/tcp").owner.service.name, "b");
}

#[test]
fn nobody_takes_a_cluster_ip_by_calling_it_an_external_address() {
    let mut world = World::new();
    let thief =
        Service { external_ips: vec![ip("172.30.0.9")], created: 1, ..service("thief", "172.30.0.1") };
    world.put(&[thief], &[]);
    world.put(&[service("web", "172.30.0.9")], &[]);
    assert_eq!(&*world.spec("172.30.0.9:80/tcp").owner.service.name, "web");
    let told = "service ns/thief: spec.externalIPs: 172.30.0.9:80/tcp belongs to Service ns/web";
    assert_eq!(world.problems(), [told]);
    world.gone("web");
    assert_eq!(&*world.spec("172.30.0.9:80/tcp").owner.service.name, "thief");
}

#[test]
fn an_address_moves_between_services_in_one_change() {
    let mut world = World::new();
    world.put(&[service("a", "172.30.0.1")], &[]);
    world.apply(Event::ServiceGone(ServiceName::new("ns", "a")));
    let changes = world.put(&[service("b", "172.30.0.1")], &[]);
    assert_eq!(changes.frontends.len(), 1);
    let change = &changes.frontends[0];
    let owner =
        |spec: &Option<Arc<crate::plan::FrontendSpec>>| spec.as_ref().unwrap().owner.service.name.to_string();
    assert_eq!((owner(&change.old), owner(&change.new)), ("a".to_owned(), "b".to_owned()));
}

#[test]
fn a_refused_frontend_is_left_out_until_its_specification_changes() {
    let mut world = World::new();
    world.put(&[service("web", "172.30.0.1")], &[]);
    let refused = frontend("172.30.0.1:80/tcp");
    assert!(world.planner.skip(&refused));
    assert!(!world.planner.skip(&refused), "it is not there any more");
    assert_eq!(world.frontends(), [""; 0]);
    assert!(world.planner.update_all(&world.cluster, &world.interfaces).is_empty());
    assert_eq!(world.planner.skipped().len(), 1);

    let changes = world.put(&[], &[slice("web-1", "web", vec![ready("10.0.0.1")])]);
    assert_eq!(names(&changes), ["172.30.0.1:80/tcp"]);
    assert!(changes.frontends[0].old.is_none());
    assert!(world.planner.skipped().is_empty());
}

#[test]
fn a_refused_frontend_is_forgotten_with_its_service() {
    let mut world = World::new();
    world.put(&[service("web", "172.30.0.1")], &[]);
    world.planner.skip(&frontend("172.30.0.1:80/tcp"));
    assert!(world.gone("web").is_empty());
    assert!(world.planner.skipped().is_empty());
}

#[test]
fn a_refused_frontend_stays_left_out_while_others_join_and_leave_the_dispute() {
    let mut world = World::new();
    world.put(&[claims("a", "172.30.0.1", 100)], &[]);
    world.planner.skip(&frontend("192.0.2.1:80/tcp"));
    let changes = world.put(&[claims("b", "172.30.0.2", 200)], &[]);
    assert_eq!(names(&changes), ["172.30.0.2:80/tcp"]);
    assert_eq!(names(&world.gone("b")), ["172.30.0.2:80/tcp"]);
    assert_eq!(world.planner.skipped().len(), 1);
}

#[test]
fn another_claimant_gets_a_frontend_that_was_refused_to_its_owner() {
    let mut world = World::new();
    world.put(&[claims("a", "172.30.0.1", 100), claims("b", "172.30.0.2", 200)], &[]);
    world.planner.skip(&frontend("192.0.2.1:80/tcp"));
    world.gone("a");
    assert_eq!(&*world.spec("192.0.2.1:80/tcp").owner.service.name, "b");
}

#[test]
fn globals_follow_the_node_its_interfaces_and_the_service_cidrs() {
    let settings = PlanSettings {
        node_port_addresses: NodePortAddresses::Cidrs(nets(&["10.0.0.0/8"])),
        ..PlanSettings::new(NODE)
    };
    let mut world = World::with(settings);
    world.interfaces = [ip("10.1.2.3"), ip("192.168.0.2")].into();
    let mut pending = Pending::default();
    pending.add_interface_addresses();
    let changes = world.planner.update(&world.cluster, &world.interfaces, &pending);
    assert_eq!(changes.globals.unwrap().node_port_addresses, [ip("10.1.2.3")].into());

    world.apply(Event::ServiceCidrs(nets(&["172.30.0.0/16"])));
    let changes = world.update();
    assert_eq!(changes.globals.unwrap().service_cidrs.len(), 1);
    assert!(changes.frontends.is_empty());
}

#[test]
fn the_nodes_zone_moves_all_services() {
    let mut world = World::new();
    let endpoints =
        vec![hinted(ready("10.0.0.1"), &["zone-a"], &[]), hinted(ready("10.0.0.2"), &["zone-b"], &[])];
    world.put(&[service("web", "172.30.0.1")], &[slice("web-1", "web", endpoints)]);
    assert_eq!(text(&world.spec("172.30.0.1:80/tcp").inside), ["10.0.0.1:8080"]);
    world.apply(Event::Node(Some(Box::new(Node { zone: Some("zone-b".into()), ..node() }))));
    world.update();
    assert_eq!(text(&world.spec("172.30.0.1:80/tcp").inside), ["10.0.0.2:8080"]);
}

#[test]
fn endpoints_are_local_by_the_configured_name_also_before_the_node_is_known() {
    let mut world = World::new();
    world.apply(Event::Node(None));
    let web = Service { internal_policy: TrafficPolicy::Local, ..service("web", "172.30.0.1") };
    world.put(&[web], &[slice("web-1", "web", vec![local("10.0.0.1")])]);
    assert_eq!(text(&world.spec("172.30.0.1:80/tcp").inside), ["10.0.0.1:8080"]);
}

#[test]
fn totals_count_services_ports_endpoints_and_missing_local_endpoints() {
    let mut world = World::new();
    let mut web = service("web", "172.30.0.1");
    web.internal_policy = TrafficPolicy::Local;
    web.external_policy = TrafficPolicy::Local;
    web.ports = vec![ServicePort { node_port: Some(30080), ..port("", Protocol::Tcp, 80) }];
    world.put(
        &[web, service("db", "172.30.0.2")],
        &[slice("web-1", "web", vec![ready("10.0.0.1"), unready(ready("10.0.0.2"))])],
    );
    let totals = world.planner.totals();
    assert_eq!((totals.services, totals.ports.v4, totals.endpoints.v4), (2, 2, 2));
    assert_eq!((totals.no_local_internal.v4, totals.no_local_external.v4), (1, 1));
    assert_eq!((totals.ports.v6, totals.no_local_internal.v6), (0, 0));

    world.put(&[], &[slice("web-1", "web", vec![local("10.0.0.1")])]);
    let totals = world.planner.totals();
    assert_eq!((totals.no_local_internal.v4, totals.no_local_external.v4), (0, 0));
}

#[test]
fn external_policy_local_is_not_missed_where_nothing_is_external() {
    let mut world = World::new();
    let web = Service { external_policy: TrafficPolicy::Local, ..service("web", "172.30.0.1") };
    world.put(&[web], &[slice("web-1", "web", vec![ready("10.0.0.1")])]);
    assert_eq!(world.planner.totals().no_local_external.v4, 0);
}

#[test]
fn each_trigger_time_is_given_once() {
    let mut world = World::new();
    let at = |time, address| crate::domain::EndpointSlice {
        trigger_time_ns: Some(time),
        ..slice("web-1", "web", vec![ready(address)])
    };
    world.put(&[service("web", "172.30.0.1")], &[at(5, "10.0.0.1")]);
    assert_eq!(world.planner.take_trigger_times(), [(crate::domain::IpFamily::V4, 5)]);
    world.put(&[Service { affinity_seconds: Some(1), ..service("web", "172.30.0.1") }], &[]);
    assert_eq!(world.planner.take_trigger_times(), []);
    world.put(&[], &[at(6, "10.0.0.2")]);
    assert_eq!(world.planner.take_trigger_times(), [(crate::domain::IpFamily::V4, 6)]);
}
