//! What an agent finds that starts, or repairs: all of it is taken over or removed, and nothing of it is lost.

use crate::plan::FrontendSpec;

use super::super::audit::Differences;
use super::super::write::{SourceRange, Step};
use super::samples::{carry_out, destination, frontend as at};
use super::tests::{Lab, external};

fn ranged(name: &str, range: &str) -> FrontendSpec {
    FrontendSpec { source_ranges: Some([range.parse().unwrap()].into()), ..external(name, &[]) }
}

/// Adopts with another frontend in place of the one that was there, and carries out what that takes.
fn replace(lab: &mut Lab, old: &str, new: &str, spec: FrontendSpec) {
    lab.table.frontends.remove(&at(old, 80));
    lab.table.frontends.insert(at(new, 80), spec.into());
    let (model, writes) = lab.adopt();
    carry_out(&mut lab.maps, &writes);
    assert_eq!(Differences::between(&model, &lab.maps).lines(), [""; 0]);
    lab.model = model;
}

#[test]
fn source_ranges_of_a_number_that_is_given_up_do_not_take_those_of_the_next_holder_with_them() {
    let mut lab = Lab::with(super::tests::ROOM);
    lab.change(at("192.0.2.1", 80), Some(ranged("old", "198.51.100.0/24")));
    let number = lab.value("192.0.2.1", 80).service;
    replace(&mut lab, "192.0.2.1", "192.0.2.2", ranged("new", "198.51.100.0/24"));
    assert_ne!(lab.value("192.0.2.2", 80).service, number, "it rests");
    assert_eq!(lab.maps.source_ranges.len(), 1);
}

#[test]
fn source_ranges_that_a_service_has_not_in_this_family_any_more_go() {
    let mut lab = Lab::with(super::tests::ROOM);
    lab.change(at("192.0.2.1", 80), Some(external("web", &[])));
    lab.change(at("2001:db8:f::1", 80), Some(ranged("web", "2001:db8:9::/64")));
    let number = lab.value("192.0.2.1", 80).service;
    // Its only IPv6 frontend is another one, so nothing but the number says whose the ranges are.
    replace(&mut lab, "2001:db8:f::1", "2001:db8:f::2", ranged("web", "2001:db8:8::/64"));
    let range = "2001:db8:8::/64".parse().unwrap();
    assert_eq!(lab.maps.source_ranges, [SourceRange { service: number, range }].into());
    // And none at all.
    lab.table.frontends.remove(&at("2001:db8:f::2", 80));
    let (_, writes) = lab.adopt();
    assert_eq!(writes.after, [Step::RemoveRange(SourceRange { service: number, range })]);
    assert!(writes.frontends.contains_key(&destination("2001:db8:f::2", 80)));
}
