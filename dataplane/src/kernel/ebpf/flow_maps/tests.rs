//! With maps in the kernel, and no program that uses them. Needs root.

use shunt_abi::address::{TCP, UDP, word};
use shunt_abi::flow::{ANSWERED, ESTABLISHED, FINISHED, FlowKey4, FlowValue4, VACANT};

use super::*;
use crate::kernel::ebpf::scratch::{Flows, in_bpffs};

const LIMIT: u32 = 8;

fn key(client_port: u16, slot: u8) -> FlowKey4 {
    FlowKey4 { client: word([10, 9, 9, 9].into()), client_port, protocol: TCP, slot }
}

/// An established flow through one of many frontends.
fn flow(frontend: u16) -> FlowValue4 {
    FlowValue4 {
        frontend: word([10, 96, 0, 1].into()),
        frontend_port: frontend,
        backend: word([10, 0, 0, 1].into()),
        backend_port: 8080_u16.to_be(),
        by_client: ESTABLISHED,
        last_seen: 100,
        ..FlowValue4::default()
    }
}

fn slots(flows: &Flows) -> Vec<(u16, u8, u16, u8)> {
    let all = flows.all().into_iter();
    all.map(|(key, value)| (key.client_port, key.slot, value.frontend_port, value.chain)).collect()
}

#[test]
fn flows_of_another_agent_stand_behind_those_that_are_there() {
    in_bpffs(|root| {
        let flows = Flows::new(root);
        let maps = flows.maps(LIMIT);
        let begun = FlowValue4 { place: 7, ..flow(1) };
        flows.map.set(&key(5, 0), &begun).unwrap();
        let theirs = FlowValue4 { place: 9, chain: MORE, ..flow(2) };
        assert!(maps.take(&key(5, 0), &theirs).unwrap());
        assert!(maps.take(&key(5, 3), &flow(3)).unwrap());
        assert_eq!(slots(&flows), [(5, 0, 1, MORE), (5, 1, 2, MORE), (5, 2, 3, 0)]);
        let places: Vec<u32> = flows.all().iter().map(|(_, value)| value.place).collect();
        assert_eq!((places, flows.count()), (vec![7, 0, 0], 2), "their places are in another ring");
        let backend = super::super::maps::destination([10, 0, 0, 1].into(), 8080_u16.to_be(), TCP);
        let reached = flows.reached.get(&reached::element(bits(Role::Backend, backend))).unwrap();
        assert_eq!(reached, Some(ReachedValue::ANYBODY), "or replies are not looked up");
    });
}

#[test]
fn of_a_flow_that_both_know_the_one_that_was_seen_later_counts() {
    in_bpffs(|root| {
        let flows = Flows::new(root);
        let maps = flows.maps(LIMIT);
        let half_open = FlowValue4 { by_client: 0, place: 7, chain: MORE, ..flow(2) };
        flows.map.set(&key(5, 0), &half_open).unwrap();
        flows.map.set(&key(5, 1), &flow(1)).unwrap();
        flows.established.add(IpFamily::V4, 1);
        assert!(!maps.take(&key(5, 0), &FlowValue4 { last_seen: 99, ..flow(2) }).unwrap());
        assert_eq!((flows.all()[0].1, flows.count()), (half_open, 1));
        let later = FlowValue4 { last_seen: 101, ..flow(2) };
        assert!(maps.take(&key(5, 4), &later).unwrap());
        let expected = FlowValue4 { place: 7, chain: MORE, ..later };
        assert_eq!((flows.all()[0].1, flows.all().len(), flows.count()), (expected, 2, 2));
    });
}

#[test]
fn vacant_slots_are_filled_first_and_an_end_that_is_said_to_go_on_is_an_end() {
    in_bpffs(|root| {
        let flows = Flows::new(root);
        let maps = flows.maps(LIMIT);
        flows.map.set(&key(5, 0), &FlowValue4 { chain: MORE | VACANT, ..flow(2) }).unwrap();
        flows.map.set(&key(5, 1), &FlowValue4 { chain: MORE, ..flow(1) }).unwrap();
        assert!(maps.take(&key(5, 0), &flow(2)).unwrap() && maps.take(&key(5, 0), &flow(3)).unwrap());
        assert_eq!(slots(&flows), [(5, 0, 2, MORE), (5, 1, 1, MORE), (5, 2, 3, 0)]);
    });
}

#[test]
fn no_more_is_taken_than_there_is_room_for() {
    in_bpffs(|root| {
        let flows = Flows::new(root);
        let maps = flows.maps(2);
        assert!(maps.take(&key(1, 0), &flow(1)).unwrap() && maps.take(&key(2, 0), &flow(1)).unwrap());
        let full = maps.take(&key(3, 0), &flow(1));
        assert!(matches!(full, Err(MapError::Full { capacity: 2, .. })), "{full:?}");
        assert!(
            maps.take(&key(1, 0), &FlowValue4 { last_seen: 200, ..flow(1) }).unwrap(),
            "it is there already"
        );
        let many = flows.maps(64);
        (1..=u16::from(SLOTS)).for_each(|port| assert!(many.take(&key(9, 0), &flow(port)).unwrap()));
        assert!(!many.take(&key(9, 0), &flow(99)).unwrap(), "all slots are taken");
    });
}

/// A flow whose backend sees port 77 in the place of 5, in slot 1 behind another, with its alias.
fn fill_remapped(flows: &Flows) -> (FlowKey4, FlowValue4) {
    let maps = flows.maps(LIMIT);
    let main = FlowValue4 { flags: REMAPPED, client_port: 77, ..flow(2) };
    let alias =
        FlowValue4 { flags: REMAPPED | ALIAS, client_port: 5, by_client: 0, by_backend: FINISHED, ..flow(2) };
    for (key, value) in [(key(5, 0), flow(1)), (key(5, 1), main), (key(77, 0), alias)] {
        assert!(maps.take(&key, &value).unwrap());
    }
    assert_eq!(slots(flows), [(5, 0, 1, MORE), (5, 1, 2, 0), (77, 0, 2, 0)]);
    assert_eq!(flows.count(), 2);
    (key(5, 1), main)
}

#[test]
fn a_remapped_flow_is_forgotten_with_its_alias() {
    in_bpffs(|root| {
        let flows = Flows::new(root);
        let maps = flows.maps(LIMIT);
        let (key, main) = fill_remapped(&flows);
        let found = maps.find(&key, |value| value.is_to(main.frontend, main.frontend_port)).unwrap();
        assert_eq!(found, Some((key, main)));
        maps.forget(&key, &main).unwrap();
        assert_eq!((slots(&flows), flows.count()), (vec![(5, 0, 1, MORE)], 1));
        assert_eq!(maps.find(&key, |value| value.is_to(main.frontend, main.frontend_port)).unwrap(), None);
    });
}

#[test]
fn flows_that_only_know_replies_match_nothing_of_the_client_and_are_not_counted() {
    in_bpffs(|root| {
        let flows = Flows::new(root);
        let maps = flows.maps(LIMIT);
        let (remapped, main) = fill_remapped(&flows);
        let plain = FlowKey4 { protocol: UDP, ..key(6, 0) };
        let answered = FlowValue4 { by_backend: ESTABLISHED | ANSWERED, ..flow(3) };
        maps.take(&plain, &answered).unwrap();
        assert_eq!(flows.count(), 3);
        maps.leave_replies(&remapped, &main).unwrap();
        maps.leave_replies(&plain, &answered).unwrap();
        assert_eq!((flows.map.get(&remapped).unwrap(), flows.count()), (None, 1));
        let left = flows.map.get(&plain).unwrap().unwrap();
        assert!(!left.is_to(left.frontend, 3) && left.is_from(left.backend, left.backend_port));
        assert_eq!((left.client_port, left.is_established()), (6, false), "its own port");
        let alias = flows.map.get(&key(77, 0)).unwrap().unwrap();
        assert!(alias.is_from(alias.backend, alias.backend_port), "replies under way");
        maps.leave_replies(&plain, &left).unwrap();
        assert_eq!((flows.map.get(&plain).unwrap(), flows.count()), (Some(left), 1), "once is enough");
    });
}
