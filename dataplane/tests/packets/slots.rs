//! Flows of one client port through several frontends.

use crate::{
    packet::{ACK, FIN, Packet, RST, SYN, TCP, UDP},
    world::{DROP, NEXT, World},
};

/// (client, frontend, backend) in both families; `N` is a number.
const FAMILIES: [(&str, &str, &str); 2] = [
    ("10.244.1.5:40000", "10.96.0.N:80", "10.244.2.N:8080"),
    ("[fd00:1::5]:40000", "[fd00:96::N]:80", "[fd00:2::N]:8080"),
];

/// The address of the frontend or backend with this number, which is its last byte.
fn numbered(address: &str, number: usize) -> String {
    let number = if address.starts_with('[') { format!("{number:x}") } else { number.to_string() };
    address.replace('N', &number)
}

/// So many frontends with a backend each.
fn world(protocol: u8, (_, frontend, backend): (&str, &str, &str), frontends: usize) -> World {
    let mut world = World::new();
    for number in 1..=frontends {
        world.service(&numbered(frontend, number), protocol, &[&numbered(backend, number)]);
    }
    world
}

fn first(protocol: u8, family: (&str, &str, &str), number: usize) -> Packet {
    let flags = if protocol == TCP { SYN } else { 0 };
    Packet { flags, ..Packet::new(protocol, family.0, &numbered(family.1, number)) }
}

/// The packet reaches its backend, and the answer the client.
fn exchange(world: &mut World, sent: &Packet, backend: &str) {
    let seen = world.ingress(sent);
    assert_eq!((seen.verdict, seen.packet().destination), (NEXT, backend.parse().unwrap()));
    assert_eq!(world.egress(&seen.packet().reply()).packet(), sent.reply());
}

/// Slots with what is in them: the number of the frontend, 0 for nobody.
fn slots(world: &mut World) -> Vec<(u8, u32)> {
    let number = |frontend: u32| u32::from_be(frontend) & 0xff;
    let elements = world.elements();
    let of = |value: &shunt_abi::flow::FlowValue4| if value.is_vacant() { 0 } else { number(value.frontend) };
    elements.iter().map(|(key, value)| (key.slot, of(value))).collect()
}

#[test]
fn flows_of_one_port_through_many_frontends_are_kept_apart_in_both_directions() {
    for family in FAMILIES {
        for protocol in [TCP, UDP] {
            let mut world = world(protocol, family, 9);
            for flags in [SYN, ACK, ACK] {
                for number in 1..=9 {
                    let sent = first(protocol, family, number);
                    let sent = if protocol == TCP { sent.with_flags(flags) } else { sent };
                    exchange(&mut world, &sent, &numbered(family.2, number));
                }
            }
            assert_eq!(slots(&mut world), (0..9).map(|slot| (slot, u32::from(slot) + 1)).collect::<Vec<_>>());
            assert_eq!((world.flows(), world.counts()["flow_new"]), ((9, 0), 9));
            assert_eq!(world.counts()["flow_established"], 9);
        }
    }
}

#[test]
fn a_request_on_the_ports_of_a_flow_that_is_over_takes_its_element() {
    for family in FAMILIES {
        for end in [FIN, RST] {
            let mut world = world(TCP, family, 2);
            for number in [1, 2] {
                let syn = first(TCP, family, number);
                for sent in [syn.clone(), syn.with_flags(ACK), syn.with_flags(ACK | end), syn] {
                    exchange(&mut world, &sent, &numbered(family.2, number));
                }
                assert_eq!((world.flows().0, world.elements().len()), (0, number));
            }
            let ack = first(TCP, family, 1).with_flags(ACK);
            exchange(&mut world, &ack, &numbered(family.2, 1));
            assert_eq!((world.flows(), slots(&mut world)), ((1, 1), vec![(0, 1), (1, 2)]));
        }
    }
}

#[test]
fn a_slot_that_is_nobody_s_is_the_next_flow_s_and_the_last_ones_are_given_back() {
    for family @ (client, _, backend) in FAMILIES {
        let mut world = world(UDP, family, 4);
        for number in 1..=3 {
            exchange(&mut world, &first(UDP, family, number), &numbered(backend, number));
        }
        let end = |world: &mut World, number| {
            world.ingress(&Packet::udp(client, &numbered(backend, number)));
        };
        end(&mut world, 2);
        assert_eq!(slots(&mut world), [(0, 1), (1, 0), (2, 3)]);
        exchange(&mut world, &first(UDP, family, 3), &numbered(backend, 3));
        exchange(&mut world, &first(UDP, family, 4), &numbered(backend, 4));
        assert_eq!(slots(&mut world), [(0, 1), (1, 4), (2, 3)]);
        end(&mut world, 4);
        end(&mut world, 1);
        assert_eq!(slots(&mut world), [(0, 0), (1, 0), (2, 3)]);
        end(&mut world, 3);
        assert_eq!((slots(&mut world), world.flows()), (vec![], (0, 0)));
    }
}

#[test]
fn where_every_slot_is_taken_the_flow_that_is_over_goes() {
    for family @ (_, _, backend) in FAMILIES {
        let mut world = world(TCP, family, 34);
        for number in 1..=32 {
            let syn = first(TCP, family, number);
            exchange(&mut world, &syn, &numbered(backend, number));
            exchange(&mut world, &syn.with_flags(ACK), &numbered(backend, number));
        }
        assert_eq!(world.ingress(&first(TCP, family, 33)).verdict, DROP);
        assert_eq!((world.flows(), world.counts()["drop_conflict"]), ((32, 0), 1));
        exchange(&mut world, &first(TCP, family, 20).with_flags(ACK | FIN), &numbered(backend, 20));
        exchange(&mut world, &first(TCP, family, 33), &numbered(backend, 33));
        assert_eq!((world.flows(), slots(&mut world)[19]), ((31, 1), (19, 33)));
        assert_eq!(world.ingress(&first(TCP, family, 34)).verdict, DROP);
    }
}

#[test]
fn where_every_slot_is_taken_datagrams_go_that_nobody_sent_for_a_while() {
    for family @ (_, _, backend) in FAMILIES {
        let mut world = world(UDP, family, 33);
        for number in 1..=32 {
            exchange(&mut world, &first(UDP, family, number), &numbered(backend, number));
        }
        // A tick is 2.56 s at most.
        std::thread::sleep(std::time::Duration::from_millis(2600));
        exchange(&mut world, &first(UDP, family, 1), &numbered(backend, 1));
        exchange(&mut world, &first(UDP, family, 33), &numbered(backend, 33));
        assert_eq!(slots(&mut world)[..2], [(0, 1), (1, 33)]);
    }
}
