//! When there is no room: what is there stays, what does not fit is named, and comes when there is room.

use std::sync::Arc;

use shunt_abi::frontend;
use shunt_abi::name;

use super::super::audit::Differences;
use super::super::write::Destination;
use super::samples::{carry_out, destination, frontend as at, ip, reached, spec};
use super::tests::{Lab, ROOM, VIP, external};
use super::{Capacities, Frontend};
use crate::plan::{Change, Changes, FrontendSpec};

fn shortage(lab: &mut Lab) -> Option<Vec<(Frontend, &'static str)>> {
    lab.model.take_shortage()
}

#[test]
fn a_frontend_without_room_is_named_and_those_that_are_there_stay() {
    // One port of one cluster IP, and the address itself.
    let mut lab = Lab::with(Capacities { frontends: 2, ..ROOM });
    lab.change(at(VIP, 80), Some(spec("a", &["10.0.0.1:80"])));
    assert_eq!(shortage(&mut lab), Some(vec![]));
    lab.change(at("10.96.0.2", 80), Some(spec("b", &["10.0.0.2:80"])));
    assert_eq!(shortage(&mut lab), Some(vec![(at("10.96.0.2", 80), name::FRONTENDS4)]));
    assert_eq!(shortage(&mut lab), None, "told once");
    assert_eq!(lab.maps.frontends.len(), 2);
    lab.change(at(VIP, 80), Some(spec("a", &["10.0.0.3:80"])));
    assert_eq!(reached(&lab.maps, destination(VIP, 80)).unwrap(), ["10.0.0.3:80"], "changes still work");
    lab.change(at("fd00::1", 80), Some(spec("c", &["[fd01::1]:80"])));
    assert!(lab.maps.frontends.contains_key(&destination("fd00::1", 80)), "the other family has room");
}

#[test]
fn a_frontend_without_room_comes_when_another_one_goes() {
    let mut lab = Lab::with(Capacities { frontends: 2, ..ROOM });
    lab.change(at(VIP, 80), Some(spec("a", &["10.0.0.1:80"])));
    lab.change(at("10.96.0.2", 80), Some(spec("b", &["10.0.0.2:80"])));
    lab.change(at(VIP, 80), None);
    assert_eq!(reached(&lab.maps, destination("10.96.0.2", 80)).unwrap(), ["10.0.0.2:80"]);
    assert!(lab.maps.frontends.contains_key(&Destination::whole(ip("10.96.0.2"))));
    assert_eq!(shortage(&mut lab), Some(vec![]));
    assert!(lab.model.starving.is_empty());
}

#[test]
fn thousands_without_room_are_left_out_in_one_pass() {
    let mut lab =
        Lab::with(Capacities { frontends: 10, services: 5_000, backends: 5_000, pool: 5_000, ..ROOM });
    let frontends = (0..3_000_u32).map(|number| {
        let address = format!("10.{}.{}.{}", 96 + number / 60_000, number / 250, number % 250);
        let new = Some(Arc::new(external(&format!("s{number:04}"), &["10.0.0.1:80"])));
        Change { frontend: at(&address, 80), old: None, new }
    });
    let changes = Changes { frontends: frontends.collect(), globals: None };
    let writes = lab.apply(&changes);
    assert_eq!((writes.frontends.len(), lab.maps.frontends.len()), (10, 10));
    assert_eq!(shortage(&mut lab).unwrap().len(), 2_990);
    assert_eq!(lab.model.shortage()[name::FRONTENDS4], 2_990);
}

#[test]
fn a_service_that_has_no_room_for_all_endpoints_keeps_those_it_has() {
    // Number 0 is never used.
    let mut lab = Lab::with(Capacities { backends: 3, ..ROOM });
    lab.change(at(VIP, 80), Some(spec("a", &["10.0.0.1:80", "10.0.0.2:80"])));
    lab.change(at(VIP, 80), Some(spec("a", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"])));
    assert_eq!(reached(&lab.maps, destination(VIP, 80)).unwrap(), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(shortage(&mut lab), Some(vec![(at(VIP, 80), name::BACKENDS)]));
    assert!(!lab.model.could_do_better(lab.now));
    lab.change(at(VIP, 80), Some(spec("a", &["10.0.0.2:80", "10.0.0.3:80"])));
    assert_eq!(reached(&lab.maps, destination(VIP, 80)).unwrap(), ["10.0.0.2:80"]);
    lab.now += super::super::ranges::GRACE * 2;
    assert!(lab.model.could_do_better(lab.now), "the number has rested: an audit asks for it to be used");
    let writes = lab.apply(&Changes::default());
    assert!(!writes.before.is_empty());
    assert_eq!(reached(&lab.maps, destination(VIP, 80)).unwrap(), ["10.0.0.2:80", "10.0.0.3:80"]);
}

#[test]
fn a_service_without_room_for_any_endpoint_rejects_its_clients() {
    let mut lab = Lab::with(Capacities { backends: 2, ..ROOM });
    lab.change(at(VIP, 80), Some(spec("a", &["10.0.0.1:80"])));
    lab.change(at("10.96.0.2", 80), Some(spec("b", &["10.0.0.2:80"])));
    assert_eq!(lab.value("10.96.0.2", 80).flags, frontend::INTERNAL | frontend::INSIDE_REJECT);
    assert_eq!(shortage(&mut lab), Some(vec![(at("10.96.0.2", 80), name::BACKENDS)]));
}

#[test]
fn a_pool_without_room_for_all_has_as_many_as_fit() {
    let mut lab = Lab::with(Capacities { pool: 3, ..ROOM });
    lab.change(at(VIP, 80), Some(spec("a", &["10.0.0.1:80"])));
    lab.change(at("10.96.0.2", 80), Some(spec("b", &["10.0.1.1:80", "10.0.1.2:80", "10.0.1.3:80"])));
    assert_eq!(reached(&lab.maps, destination("10.96.0.2", 80)).unwrap(), ["10.0.1.1:80"]);
    assert_eq!(shortage(&mut lab), Some(vec![(at("10.96.0.2", 80), name::POOL)]));
}

#[test]
fn service_ports_without_a_number_are_named() {
    let mut lab = Lab::with(Capacities { services: 2, ..ROOM });
    lab.change(at(VIP, 80), Some(spec("a", &["10.0.0.1:80"])));
    lab.change(at("10.96.0.2", 80), Some(spec("b", &["10.0.0.2:80"])));
    assert_eq!(shortage(&mut lab), Some(vec![(at("10.96.0.2", 80), name::SERVICES)]));
    assert_eq!(lab.maps.frontends.len(), 2);
    lab.change(at(VIP, 80), None);
    lab.now += super::super::ranges::GRACE * 2;
    lab.apply(&Changes::default());
    assert_eq!(reached(&lab.maps, destination("10.96.0.2", 80)).unwrap(), ["10.0.0.2:80"]);
}

#[test]
fn source_ranges_without_room_let_nobody_in() {
    let mut lab = Lab::with(Capacities { source_ranges: 1, ..ROOM });
    let ranges = ["198.51.100.0/24".parse().unwrap(), "203.0.113.0/24".parse().unwrap()];
    let spec = FrontendSpec { source_ranges: Some(ranges.into()), ..external("a", &["10.0.0.1:80"]) };
    lab.change(at("192.0.2.1", 80), Some(spec));
    assert_eq!(lab.maps.source_ranges.len(), 1);
    assert_ne!(lab.value("192.0.2.1", 80).flags & frontend::RANGES, 0);
    assert_eq!(shortage(&mut lab), Some(vec![(at("192.0.2.1", 80), name::RANGES4)]));
    lab.change(at("192.0.2.1", 80), None);
    assert_eq!(lab.model.resources.source_ranges.v4.used(), 0);
}

#[test]
fn an_agent_that_starts_prefers_what_is_there() {
    let mut lab = Lab::with(Capacities { frontends: 2, ..ROOM });
    lab.change(at("10.96.0.9", 80), Some(spec("z", &["10.0.0.9:80"])));
    lab.change(at(VIP, 80), Some(spec("a", &["10.0.0.1:80"])));
    let (mut model, writes) = lab.adopt();
    carry_out(&mut lab.maps, &writes);
    assert_eq!(Differences::between(&model, &lab.maps).lines(), [""; 0]);
    assert_eq!(reached(&lab.maps, destination("10.96.0.9", 80)).unwrap(), ["10.0.0.9:80"]);
    assert_eq!(model.take_shortage(), Some(vec![(at(VIP, 80), name::FRONTENDS4)]));
}
