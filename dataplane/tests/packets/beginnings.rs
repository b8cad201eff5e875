//! The ways of packets that begin flows: which programs each goes through, and what becomes of it where one is missing.

use shunt_abi::{
    frontend::{FrontendValue, INSIDE_REJECT, INTERNAL, MASQUERADE_ALL, RANGES},
    name,
    tail::Tail,
};

use crate::{
    half_open::{FAMILIES, evicted, request, world},
    packet::{ACK, Packet, SCTP, SYN, TCP, UDP},
    world::{DROP, NEXT, REDIRECT, World},
};

/// Whether the packet came out as it went in.
fn is_left(world: &mut World, packet: &Packet) -> bool {
    let outcome = world.ingress(packet);
    outcome.verdict == NEXT && outcome.bytes == packet.build()
}

/// Where the packet goes on to, or the verdict on it.
fn goes_to(world: &mut World, packet: &Packet) -> Result<String, i32> {
    let outcome = world.ingress(packet);
    if outcome.verdict == NEXT { Ok(outcome.packet().destination.to_string()) } else { Err(outcome.verdict) }
}

/// Two Services of every protocol on each frontend; one backend, and one other.
fn offer(world: &mut World, [_, frontend, other, backend, other_backend]: [&str; 5]) {
    for protocol in [TCP, UDP, SCTP] {
        world.service(frontend, protocol, &[backend]);
        world.service(other, protocol, &[other_backend]);
    }
}

#[test]
fn the_first_packet_of_most_flows_takes_one_more_program() {
    for family @ [client, frontend, _, backend, _] in FAMILIES {
        let mut world = World::new().without(&[Tail::Decide, Tail::Store, Tail::Special]);
        offer(&mut world, family);
        for sent in [Packet::tcp(client, frontend, SYN), Packet::udp(client, frontend)] {
            let translated = world.ingress(&sent).packet();
            assert_eq!(translated, Packet { destination: backend.parse().unwrap(), ..sent.clone() });
            assert_eq!(world.egress(&translated.reply()).packet(), sent.reply());
        }
        assert_eq!((world.flows(), world.counts()["flow_new"]), ((0, 2), 2));
    }
}

#[test]
fn where_what_begins_flows_is_missing_they_are_left_as_they_are_and_others_go_on() {
    for family @ [client, frontend, _, backend, _] in FAMILIES {
        let mut world = World::new();
        offer(&mut world, family);
        let known = Packet::tcp(client, frontend, SYN);
        world.ingress(&known);
        world.ingress(&known.with_flags(ACK));
        let mut world = world.without(&[Tail::Consider]);
        for packet in [request(client, 1, frontend), Packet::udp(client, frontend)] {
            assert!(is_left(&mut world, &packet));
        }
        assert_eq!(goes_to(&mut world, &known.with_flags(ACK)).unwrap(), backend);
        assert_eq!(world.flows(), (1, 0));
    }
}

/// A packet that more has to be asked about than about most, what becomes of it, and what has to be there before.
struct Elaborate {
    what: &'static str,
    prepare: fn(&mut World, [&str; 5]),
    sent: fn([&str; 5]) -> Packet,
    becomes: fn([&str; 5]) -> Result<String, i32>,
}

fn to_frontend([client, frontend, ..]: [&str; 5]) -> Packet {
    Packet::tcp(client, frontend, SYN)
}

fn change(world: &mut World, frontend: &str, change: impl FnOnce(&mut FrontendValue)) {
    let mut value = world.get_frontend(frontend, TCP);
    change(&mut value);
    world.frontend(frontend, TCP, value);
}

const ELABORATE: [Elaborate; 9] = [
    Elaborate {
        what: "affinity",
        prepare: |world, [_, frontend, ..]| change(world, frontend, |value| value.affinity_seconds = 100),
        sent: to_frontend,
        becomes: |[.., backend, _]| Ok(backend.to_owned()),
    },
    Elaborate {
        what: "source ranges",
        prepare: |world, [_, frontend, ..]| change(world, frontend, |value| value.flags |= RANGES),
        sent: to_frontend,
        becomes: |_| Err(DROP),
    },
    Elaborate {
        what: "nobody serves",
        prepare: |world, [_, frontend, ..]| {
            change(world, frontend, |value| {
                (value.flags, value.inside_length) = (INTERNAL | INSIDE_REJECT, 0);
            });
        },
        sent: to_frontend,
        becomes: |_| Err(REDIRECT),
    },
    Elaborate {
        what: "a backend that is gone",
        prepare: |world, [_, frontend, _, backend, _]| {
            let ids = world.service(frontend, TCP, &[backend]);
            world.set_backend(ids[0], backend.parse().unwrap(), 0, 0);
        },
        sent: to_frontend,
        becomes: |_| Err(DROP),
    },
    Elaborate {
        what: "not to be masqueraded yet",
        prepare: |world, [_, frontend, ..]| {
            world.configure(|config| config.flags = 0);
            change(world, frontend, |value| value.flags |= MASQUERADE_ALL);
        },
        sent: to_frontend,
        becomes: |_| Err(DROP),
    },
    Elaborate {
        what: "in the middle of a connection",
        prepare: |world, _| world.configure(|config| config.flags |= shunt_abi::config::ADOPT_MIDSTREAM),
        sent: |family| to_frontend(family).with_flags(ACK),
        becomes: |[.., backend, _]| Ok(backend.to_owned()),
    },
    Elaborate {
        what: "SCTP",
        prepare: |_, _| {},
        sent: |[client, frontend, ..]| Packet { protocol: SCTP, ..Packet::tcp(client, frontend, 1) },
        becomes: |[.., backend, _]| Ok(backend.to_owned()),
    },
    Elaborate {
        what: "a repeated request",
        prepare: |world, family| drop(world.ingress(&to_frontend(family))),
        sent: to_frontend,
        becomes: |[.., backend, _]| Ok(backend.to_owned()),
    },
    Elaborate {
        what: "another flow of the client's port",
        prepare: |world, family| drop(world.ingress(&to_frontend(family))),
        sent: |[client, _, other, ..]| Packet::tcp(client, other, SYN),
        becomes: |[.., other_backend]| Ok(other_backend.to_owned()),
    },
];

#[test]
fn what_takes_more_than_that_is_decided_by_another_program_and_left_as_it_is_without() {
    for missing in [&[][..], &[Tail::Decide]] {
        let mut world = World::new().without(missing);
        for (case, family) in ELABORATE.iter().flat_map(|case| FAMILIES.map(|family| (case, family))) {
            world.clear();
            offer(&mut world, family);
            (case.prepare)(&mut world, family);
            let (flows, sent) = (world.flows(), (case.sent)(family));
            if missing.is_empty() {
                assert_eq!(goes_to(&mut world, &sent), (case.becomes)(family), "{}", case.what);
            } else {
                assert!(is_left(&mut world, &sent), "{}", case.what);
                assert_eq!(world.flows(), flows, "{}", case.what);
            }
        }
    }
}

#[test]
fn a_flow_that_was_decided_on_is_stored_by_another_program_and_left_as_it_is_without() {
    for family @ [client, frontend, other, ..] in FAMILIES {
        let mut world = World::new().without(&[Tail::Store]);
        offer(&mut world, family);
        world.ingress(&Packet::tcp(client, frontend, SYN));
        assert!(is_left(&mut world, &Packet::tcp(client, other, SYN)));
        assert_eq!(world.flows(), (0, 1));
        // What is decided without a flow to store needs no such program.
        assert!(!is_left(&mut world, &Packet::tcp(client, frontend, SYN)));
    }
}

#[test]
fn a_place_is_taken_at_once_from_a_flow_that_stands_alone() {
    for family @ [client, frontend, _, backend, _] in FAMILIES {
        let mut world = world(&[]).without(&[Tail::Decide, Tail::Store]);
        offer(&mut world, family);
        for port in 1..=9 {
            assert_eq!(goes_to(&mut world, &request(client, port, frontend)).unwrap(), backend);
        }
        assert_eq!((world.flows(), evicted(&mut world)), ((0, 4), 5));
    }
}

#[test]
fn a_place_of_a_flow_with_others_or_with_an_alias_is_taken_by_the_program_that_takes_its_time() {
    for missing in [&[][..], &[Tail::Store]] {
        for is_remapped in [true, false] {
            for family @ [client, frontend, other, backend, other_backend] in FAMILIES {
                let mut world = world(&[]);
                world.service(frontend, TCP, &[backend]);
                world.service(other, TCP, &[if is_remapped { backend } else { other_backend }]);
                let first = Packet::tcp(client, frontend, SYN);
                world.ingress(&first);
                if is_remapped {
                    world.ingress(&first.with_flags(ACK));
                }
                world.ingress(&Packet::tcp(client, other, SYN));
                let half_open = if is_remapped { 1 } else { 2 };
                let mut world = world.without(missing);
                for port in 1..=(4 - half_open) {
                    assert_eq!(goes_to(&mut world, &request(client, port, frontend)).unwrap(), backend);
                }
                let sent = request(client, 9, frontend);
                let what = format!("{} {is_remapped}", family[0]);
                assert_eq!(is_left(&mut world, &sent), !missing.is_empty(), "{what}");
                assert_eq!(evicted(&mut world), u64::from(missing.is_empty()), "{what}");
            }
        }
    }
}

#[test]
fn where_the_map_has_no_room_another_program_makes_it() {
    for missing in [&[][..], &[Tail::Store]] {
        for family @ [client, frontend, ..] in FAMILIES {
            let mut world = world(&[(name::FLOWS4, 2), (name::FLOWS6, 2)]).without(missing);
            offer(&mut world, family);
            for port in 1..=2 {
                assert!(!is_left(&mut world, &request(client, port, frontend)));
            }
            assert_eq!(is_left(&mut world, &request(client, 3, frontend)), !missing.is_empty());
            assert_eq!((world.flows(), evicted(&mut world)), ((0, 2), u64::from(missing.is_empty())));
        }
    }
}
