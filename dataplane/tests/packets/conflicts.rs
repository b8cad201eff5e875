//! One client port through two frontends to one backend: the backend sees two ports, the client its own.

use shunt_abi::{
    backend::LOCAL,
    config::MASQUERADES4,
    frontend::{INTERNAL, MASQUERADE_ALL},
    interface::InterfaceValue,
    known::Role,
    name,
};

use crate::{
    forms::{host, icmp_error, read_icmp_error},
    fragments::{fragments, pass},
    packet::{ACK, FIN, Packet, RST, SCTP, SYN, TCP, UDP},
    policies::sticky,
    world::{DROP, NEXT, Outcome, REDIRECT, Run, World},
};

/// (client, frontend, other frontend, backend, other backend) in both families.
const FAMILIES: [[&str; 5]; 2] = [
    ["10.244.1.5:40000", "10.96.0.10:80", "10.96.0.11:80", "10.244.1.7:8080", "10.244.2.7:8080"],
    ["[fd00:1::5]:40000", "[fd00:96::10]:80", "[fd00:96::11]:80", "[fd00:1::7]:8080", "[fd00:2::7]:8080"],
];

const FORWARDED: Run = Run { interface: 0, ingress_interface: 1, repeat: 0 };
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;

/// The client's address with every port below 1024.
pub(crate) fn privileged_ports(client: &str) -> impl Iterator<Item = String> {
    let address = client.rsplit_once(':').unwrap().0.to_owned();
    (1..1024).map(move |port| format!("{address}:{port}"))
}

/// A world where both frontends lead to this backend alone.
fn world(protocol: u8, family: [&str; 5]) -> World {
    let mut world = World::new();
    offer(&mut world, protocol, family);
    world
}

/// Forgets all else, and lets both frontends lead to this backend alone.
fn offer(world: &mut World, protocol: u8, [_, frontend, other, backend, _]: [&str; 5]) {
    world.clear();
    world.service(frontend, protocol, &[backend]);
    world.service(other, protocol, &[backend]);
}

fn first(protocol: u8, client: &str, frontend: &str) -> Packet {
    let flags = match protocol {
        TCP => SYN,
        SCTP => INIT,
        _ => 0,
    };
    Packet { flags, ..Packet::new(protocol, client, frontend) }
}

/// What follows the first packet.
fn later(protocol: u8, client: &str, frontend: &str) -> Packet {
    let flags = if protocol == TCP { ACK } else { 0 };
    first(protocol, client, frontend).with_flags(flags)
}

/// `sent` as its backend sees it, with a port that is not the client's own.
fn assert_remapped(sent: &Packet, outcome: &Outcome, backend: &str) -> Packet {
    let seen = outcome.packet();
    assert_ne!(seen.source.port(), sent.source.port());
    let mut source = sent.source;
    source.set_port(seen.source.port());
    assert_eq!(seen, Packet { source, destination: backend.parse().unwrap(), ..sent.clone() });
    seen
}

/// A packet goes to the backend, and an answer comes back to where the packet came from; what the backend saw.
fn exchange(world: &mut World, sent: &Packet, answer_flags: u8) -> Packet {
    let outcome = world.ingress(sent);
    assert_eq!(outcome.verdict, NEXT, "{:?}", world.counts());
    let seen = outcome.packet();
    let answer = world.egress(&seen.reply().with_flags(answer_flags));
    assert_eq!((answer.verdict, answer.packet()), (NEXT, sent.reply().with_flags(answer_flags)));
    seen
}

#[test]
fn two_flows_of_one_client_port_to_one_backend_keep_their_own_replies() {
    let mut world = World::new();
    for family @ [client, frontend, other, backend, _] in FAMILIES {
        for protocol in [TCP, UDP, SCTP] {
            // The first one may be opening still, or established.
            for packets in [1, 2] {
                offer(&mut world, protocol, family);
                let answer = if protocol == SCTP { INIT_ACK } else { 0 };
                let one = later(protocol, client, frontend);
                let two = later(protocol, client, other);
                exchange(&mut world, &first(protocol, client, frontend), answer);
                for _ in 1..packets {
                    exchange(&mut world, &one, 0);
                }
                let opening = first(protocol, client, other);
                let seen = assert_remapped(&opening, &world.ingress(&opening), backend);
                let again = exchange(&mut world, &opening, answer);
                assert_eq!(seen.source, again.source, "what is repeated keeps its port");
                for _ in 0..3 {
                    assert_eq!(exchange(&mut world, &one, 0).source.port(), 40000);
                    assert_eq!(exchange(&mut world, &two, 0).source, seen.source);
                }
                let counts = world.counts();
                assert_eq!((world.flows(), counts["flow_new"], counts["flow_remapped"]), ((2, 0), 2, 1));
            }
        }
    }
}

#[test]
fn the_ports_of_a_connection_that_is_over_are_not_given_to_one_through_another_frontend() {
    let mut world = World::new();
    for family @ [client, frontend, other, backend, _] in FAMILIES {
        for (by_client, by_backend) in [(FIN, FIN), (RST, ACK), (ACK, RST), (ACK, FIN)] {
            offer(&mut world, TCP, family);
            exchange(&mut world, &first(TCP, client, frontend), SYN | ACK);
            exchange(&mut world, &later(TCP, client, frontend), ACK);
            exchange(&mut world, &later(TCP, client, frontend).with_flags(ACK | by_client), ACK | by_backend);
            let syn = first(TCP, client, other);
            let seen = assert_remapped(&syn, &world.ingress(&syn), backend);
            exchange(&mut world, &later(TCP, client, other), ACK);
            // The client's own frontend: its kernel knows that the ports are free.
            let own = exchange(&mut world, &first(TCP, client, frontend), SYN | ACK);
            assert_eq!(own.source.port(), 40000);
            assert_eq!(exchange(&mut world, &later(TCP, client, other), ACK).source, seen.source);
        }
    }
}

#[test]
fn another_backend_is_preferred_to_another_port_unless_affinity_forbids_it() {
    let mut world = World::new();
    for family @ [client, frontend, other, backend, other_backend] in FAMILIES {
        for is_sticky in [false, true] {
            offer(&mut world, TCP, family);
            world.service(other, TCP, &[backend, other_backend]);
            if is_sticky {
                sticky(&mut world, other, 100);
                // With another port the client has got a backend.
                let before = first(TCP, &client.replace(":40000", ":41000"), other);
                let chosen = world.ingress(&before).packet().destination.to_string();
                world.service(frontend, TCP, &[&chosen]);
                exchange(&mut world, &first(TCP, client, frontend), SYN | ACK);
                let syn = first(TCP, client, other);
                assert_remapped(&syn, &world.ingress(&syn), &chosen);
                continue;
            }
            for backend in [backend, other_backend] {
                world.service(frontend, TCP, &[backend]);
                let client =
                    &client.replace(":40000", if backend == other_backend { ":40001" } else { ":40002" });
                exchange(&mut world, &first(TCP, client, frontend), SYN | ACK);
                let seen = exchange(&mut world, &first(TCP, client, other), SYN | ACK);
                assert_eq!(seen.source, client.parse().unwrap());
                assert_ne!(seen.destination, backend.parse().unwrap());
            }
        }
    }
}

#[test]
fn a_remapped_flow_that_may_not_be_established_keeps_its_port() {
    for [client, frontend, other, backend, _] in FAMILIES {
        let mut world = World::new();
        world.limit_established(1);
        world.service(frontend, TCP, &[backend]);
        world.service(other, TCP, &[backend]);
        exchange(&mut world, &first(TCP, client, frontend), SYN | ACK);
        exchange(&mut world, &later(TCP, client, frontend), ACK);
        let syn = first(TCP, client, other);
        let seen = assert_remapped(&syn, &world.ingress(&syn), backend);
        assert_eq!(exchange(&mut world, &syn, SYN | ACK), seen);
        assert_eq!(world.flows(), (1, 1));
        for _ in 0..2 {
            assert_eq!(exchange(&mut world, &later(TCP, client, other), ACK).source, seen.source);
        }
        assert_eq!((world.flows(), world.elements().len(), world.counts()["flows_full"]), ((1, 1), 3, 2));
    }
}

#[test]
fn of_a_remapped_flow_whose_backend_is_gone_nothing_is_left() {
    let mut world = World::new();
    for family @ [client, frontend, other, backend, other_backend] in FAMILIES {
        for packets in [1, 2] {
            offer(&mut world, UDP, family);
            let ids = world.service(other, UDP, &[backend]);
            let (one, two) = (first(UDP, client, frontend), first(UDP, client, other));
            exchange(&mut world, &one, 0);
            for _ in 0..packets {
                assert_remapped(&two, &world.ingress(&two), backend);
            }
            world.set_backend(ids[0], backend.parse().unwrap(), LOCAL, 2);
            world.service(other, UDP, &[other_backend]);
            let seen = exchange(&mut world, &two, 0);
            assert_eq!((seen.source, seen.destination), (two.source, other_backend.parse().unwrap()));
            assert_eq!((world.flows(), world.elements().len()), ((0, 2), 2), "{packets}");
        }
    }
}

#[test]
fn fragments_of_remapped_flows_follow_the_first_in_both_directions() {
    for family @ [client, frontend, other, backend, _] in FAMILIES {
        let mut world = world(UDP, family);
        exchange(&mut world, &first(UDP, client, frontend), 0);
        let sent = Packet { payload: vec![0xab; 3000], ..first(UDP, client, other) };
        for identification in 1..4 {
            let mut pass = |program, packet: &Packet| {
                pass(&mut world, program, &fragments(packet, identification, 1000), packet)
            };
            let seen = pass(name::INGRESS_PROGRAM, &sent);
            assert_ne!(seen.source, sent.source);
            assert_eq!(
                seen,
                Packet { source: seen.source, destination: backend.parse().unwrap(), ..sent.clone() }
            );
            assert_eq!(pass(name::EGRESS_PROGRAM, &seen.reply()), sent.reply());
        }
    }
}

#[test]
fn fragmented_sctp_of_a_remapped_flow_is_dropped_in_both_directions() {
    for [client, frontend, other, backend, _] in FAMILIES {
        // Nothing but the client's port changes.
        let backend = &backend.replace(":8080", ":80");
        let mut world = world(SCTP, [client, frontend, other, backend, backend]);
        exchange(&mut world, &first(SCTP, client, frontend), INIT_ACK);
        let init = first(SCTP, client, other);
        let seen = assert_remapped(&init, &world.ingress(&init), backend);
        let large = |packet: &Packet| Packet { payload: vec![0x5a; 2000], ..packet.clone() };
        for (program, packet) in [(name::INGRESS_PROGRAM, &init), (name::EGRESS_PROGRAM, &seen.reply())] {
            for part in fragments(&large(packet), 2, 1000) {
                assert_eq!(world.run(program, &part, FORWARDED).verdict, DROP);
            }
        }
        assert_eq!(world.counts()["drop_fragment"], 6);
    }
}

#[test]
fn errors_about_packets_of_remapped_flows_quote_the_port_that_their_receiver_knows() {
    let mut world = World::new();
    for family @ [client, frontend, other, backend, _] in FAMILIES {
        let too_big = if client.starts_with('[') { [2, 0] } else { [3, 4] };
        let (client_host, other_host, backend_host) = (host(client), host(other), host(backend));
        for protocol in [TCP, UDP] {
            offer(&mut world, protocol, family);
            exchange(&mut world, &first(protocol, client, frontend), 0);
            let sent = first(protocol, client, other);
            let seen = assert_remapped(&sent, &world.ingress(&sent), backend);
            // The backend complains of the client's packet.
            let error = icmp_error(&backend_host.1, &client_host.1, &seen, too_big);
            let outcome = world.run(name::EGRESS_PROGRAM, &error, FORWARDED);
            let expected = (other_host.0.clone(), client_host.0.clone(), client.to_owned(), other.to_owned());
            assert_eq!(read_icmp_error(&outcome.bytes), expected);
            // The client complains of the answer.
            let answer = world.egress(&seen.reply()).packet();
            let error = icmp_error(&client_host.1, &other_host.1, &answer, too_big);
            let outcome = world.run(name::INGRESS_PROGRAM, &error, FORWARDED);
            let (known, hosts) = (seen.source.to_string(), (client_host.0.clone(), backend_host.0.clone()));
            assert_eq!(read_icmp_error(&outcome.bytes), (hosts.0, hosts.1, backend.to_owned(), known));
            assert_eq!(world.counts()["icmp_error"], 2);
        }
    }
}

#[test]
fn a_backend_that_is_its_own_client_through_two_frontends_reaches_itself_twice() {
    let mut world = World::new();
    for ([client, frontend, other, ..], hairpin) in FAMILIES.into_iter().zip(["169.254.20.7", "fd00:ffff::7"])
    {
        let backend = &client.replace(":40000", ":8080");
        for protocol in [TCP, UDP, SCTP] {
            offer(&mut world, protocol, [client, frontend, other, backend, backend]);
            let mut ports = Vec::new();
            for to in [frontend, other, frontend, other] {
                for sent in [first(protocol, client, to), later(protocol, client, to)] {
                    let outcome = world.ingress(&sent);
                    assert_eq!(outcome.verdict, REDIRECT);
                    let seen = outcome.packet();
                    assert_eq!(
                        (seen.source.ip(), seen.destination),
                        (hairpin.parse().unwrap(), backend.parse().unwrap())
                    );
                    ports.push(seen.source.port());
                    let answer = Packet { hardware: sent.hardware.clone(), ..seen.reply() };
                    let outcome = world.ingress(&answer);
                    assert_eq!(outcome.verdict, REDIRECT);
                    let answer = outcome.packet();
                    assert_eq!(
                        (answer.source, answer.destination),
                        (to.parse().unwrap(), client.parse().unwrap())
                    );
                }
            }
            assert_eq!(ports[..2], [40000; 2]);
            assert_ne!(ports[2], 40000);
            assert_eq!(ports[..4], ports[4..]);
            assert_eq!(ports[2], ports[3]);
        }
    }
}

#[test]
fn this_node_as_client_is_remapped_to_ports_that_masqueraded_connections_do_not_have() {
    let mut world = World::new();
    for (node, family) in ["192.0.2.2", "2001:db8::2"].into_iter().zip(FAMILIES) {
        let [_, frontend, other, backend, _] = family;
        let client = &if node.contains(':') { format!("[{node}]:40000") } else { format!("{node}:40000") };
        for protocol in [TCP, UDP, SCTP] {
            offer(&mut world, protocol, family);
            world.interface(1, InterfaceValue::default());
            world.node_address(node);
            let mut ports = Vec::new();
            for to in [frontend, other, frontend, other] {
                for sent in [first(protocol, client, to), later(protocol, client, to)] {
                    let seen = world.host_egress(&sent).packet();
                    assert_eq!(seen.destination, backend.parse().unwrap());
                    ports.push(seen.source.port());
                    let answer = world.ingress(&seen.reply());
                    assert_eq!(
                        answer.packet(),
                        Packet { hardware: answer.packet().hardware, ..sent.reply() }
                    );
                }
            }
            assert_eq!((ports[0], ports[1], ports[2]), (40000, 40000, ports[3]));
            assert!(ports[2] != 40000 && (32_768..61_000).contains(&ports[2]), "{ports:?}");
            assert_eq!(ports[..4], ports[4..]);
        }
    }
}

#[test]
fn remapped_flows_are_masqueraded_as_others_are() {
    let [client, frontend, other, backend, _] = FAMILIES[0];
    let mut world = World::new();
    for frontend in [frontend, other] {
        world.service_with(frontend, TCP, &[backend], 0, INTERNAL | MASQUERADE_ALL);
    }
    exchange(&mut world, &first(TCP, client, frontend), SYN | ACK);
    world.configure(|config| config.flags &= !MASQUERADES4);
    let syn = first(TCP, client, other);
    assert_eq!(world.ingress(&syn).verdict, DROP);
    assert_eq!((world.flows(), world.counts()["drop_unmasqueraded4"]), ((0, 1), 1));
    world.configure(|config| config.flags |= MASQUERADES4);
    for sent in [syn, later(TCP, client, other)] {
        let outcome = world.ingress(&sent);
        assert_eq!((outcome.verdict, outcome.mark), (NEXT, 0x4000));
        let seen = assert_remapped(&sent, &outcome, backend);
        assert_eq!(world.egress(&seen.reply()).packet(), sent.reply());
    }
}

#[test]
fn ports_stay_privileged_or_not() {
    let mut world = World::new();
    for family @ [client, frontend, other, backend, _] in FAMILIES {
        for (port, range) in [(53, 1..1024), (1023, 1..1024), (1024, 1024..30_000), (65_535, 1024..30_000)] {
            offer(&mut world, UDP, family);
            let client = &client.replace(":40000", &format!(":{port}"));
            exchange(&mut world, &first(UDP, client, frontend), 0);
            let sent = first(UDP, client, other);
            let seen = assert_remapped(&sent, &world.ingress(&sent), backend);
            assert!(range.contains(&seen.source.port()), "{port} became {}", seen.source.port());
        }
    }
}

#[test]
fn a_connection_that_can_have_no_port_is_dropped_and_leaves_nothing_behind() {
    for family @ [client, frontend, other, _, _] in FAMILIES {
        let client = &client.replace(":40000", ":700");
        // Other flows have every port, or replies to it would look like requests to a frontend.
        for are_frontends in [false, true] {
            let mut world = world(TCP, family);
            if are_frontends {
                world.ingress(&first(TCP, client, frontend));
            }
            for port in privileged_ports(client) {
                if are_frontends {
                    let at: std::net::SocketAddr = port.parse().unwrap();
                    world.know_socket(Role::Frontend, at.ip(), at.port(), TCP);
                } else {
                    world.ingress(&first(TCP, &port, frontend));
                }
            }
            let before = (world.flows(), world.elements().len());
            assert_eq!(world.ingress(&first(TCP, client, other)).verdict, DROP);
            assert_eq!(
                ((world.flows(), world.elements().len()), world.counts()["drop_conflict"]),
                (before, 1)
            );
        }
    }
}
