//! With maps in the kernel, and no program that uses them. Needs root.

use shunt_abi::address::TCP;
use shunt_abi::flow::{ESTABLISHED, FlowKey4, FlowValue4, MORE, RESET, VACANT};

use super::*;
use crate::kernel::ebpf::patience::tests::judge;
use crate::kernel::ebpf::scratch::{Flows, in_bpffs};

const NOW: u32 = 1_000;

fn key(client_port: u16, slot: u8) -> FlowKey4 {
    FlowKey4 { client: 1, client_port, protocol: TCP, slot }
}

fn live() -> FlowValue4 {
    FlowValue4 { by_client: ESTABLISHED, last_seen: NOW, flags: MASQUERADED, ..FlowValue4::default() }
}

fn over() -> FlowValue4 {
    FlowValue4 { by_backend: RESET, last_seen: NOW - 100, ..live() }
}

#[test]
fn what_is_over_goes_and_is_no_longer_counted() {
    in_bpffs(|root| {
        let flows = Flows::new(root);
        let half_open = |last_seen| FlowValue4 { by_client: 0, last_seen, ..live() };
        let elements = [
            (key(1, 0), live()),
            (key(2, 0), over()),
            (key(3, 0), half_open(NOW - 5)),
            (key(4, 0), half_open(NOW - 90)),
            (key(5, 0), FlowValue4 { chain: MORE, ..over() }),
            (key(5, 1), live()),
            (key(6, 0), FlowValue4 { chain: MORE, ..live() }),
            (key(6, 1), over()),
        ];
        for (key, value) in &elements {
            flows.map.set(key, value).unwrap();
        }
        flows.established.add(IpFamily::V4, 6);
        let mut census = Census::new(IpFamily::V4);
        let found = census.look(&flows.map, &flows.established, &judge(NOW)).unwrap();
        let expected =
            Found { established: 3, half_open: 1, masqueraded: 4, elements: 5, removed: 4, ended: 3 };
        assert_eq!((found, flows.count()), (expected, 3));
        let vacated = FlowValue4 { flags: 0, by_client: 0, by_backend: 0, chain: MORE | VACANT, ..over() };
        let left = [elements[0], elements[2], (key(5, 0), vacated), elements[5], elements[6]];
        assert_eq!(flows.all(), left);
        let found = census.look(&flows.map, &flows.established, &judge(NOW)).unwrap();
        assert_eq!((found.removed, found.elements, flows.all().len()), (0, 5, 5), "nothing is left to do");
    });
}

#[test]
fn a_count_that_is_wrong_is_right_after_two_looks() {
    in_bpffs(|root| {
        let flows = Flows::new(root);
        (1..=9).for_each(|port| flows.map.set(&key(port, 0), &live()).unwrap());
        let mut census = Census::new(IpFamily::V4);
        for wrong in [20, -4] {
            flows.established.add(IpFamily::V4, wrong - flows.count());
            let mut look = || census.look(&flows.map, &flows.established, &judge(NOW)).unwrap();
            assert_eq!((look().established, flows.count()), (9, wrong));
            assert_eq!((look().established, flows.count()), (9, 9));
        }
        assert_eq!(flows.established.read(IpFamily::V6), 0, "the other family has a count of its own");
    });
}

#[test]
fn what_has_changed_since_it_was_looked_at_stays() {
    in_bpffs(|root| {
        let flows = Flows::new(root);
        let again = FlowValue4 { last_seen: NOW, ..over() };
        flows.map.set(&key(1, 0), &again).unwrap();
        let state = FlowKey4::state(&over());
        assert_eq!(remove(&flows.map, &key(1, 0), &state).unwrap(), Deed::Keep);
        assert_eq!(remove(&flows.map, &key(2, 0), &state).unwrap(), Deed::Keep, "it is not there");
        assert_eq!(flows.all(), [(key(1, 0), again)]);
    });
}

#[test]
fn what_got_a_follower_becomes_vacant_and_what_lost_it_goes() {
    in_bpffs(|root| {
        let flows = Flows::new(root);
        let followed = FlowValue4 { chain: MORE, ..over() };
        flows.map.set(&key(1, 0), &followed).unwrap();
        flows.map.set(&key(1, 1), &live()).unwrap();
        flows.map.set(&key(2, 0), &followed).unwrap();
        let state = FlowKey4::state(&followed);
        assert_eq!(remove(&flows.map, &key(1, 0), &state).unwrap(), Deed::Vacate);
        assert_eq!(remove(&flows.map, &key(2, 0), &state).unwrap(), Deed::Delete);
        let states: Vec<_> = flows.all().iter().map(|(key, value)| (key.slot, value.chain)).collect();
        assert_eq!(states, [(0, MORE | VACANT), (1, 0)]);
    });
}
