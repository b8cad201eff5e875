//! What is a frontend and a backend at once (an address of a node with the port of a process there): packets are translated
//! to it once, and never from it again.

use shunt_abi::{backend::HOST, config::ADOPT_MIDSTREAM, frontend::INTERNAL};

use crate::{
    packet::{ACK, Packet, SYN, TCP, UDP},
    sockets,
    world::{NEXT, World},
};

/// (client, frontend, what is both, another backend of that) in both families.
const FAMILIES: [[&str; 4]; 2] = [
    ["10.244.1.5:40000", "10.96.0.10:80", "192.168.0.9:80", "192.168.0.8:80"],
    ["[fd00:1::5]:40000", "[fd00:96::10]:80", "[fd00:9::9]:80", "[fd00:9::8]:80"],
];

#[test]
fn what_continues_a_connection_to_its_backend_begins_none() {
    for [client, frontend, both, other] in FAMILIES {
        let mut world = World::new();
        world.configure(|config| config.flags |= ADOPT_MIDSTREAM);
        world.service(frontend, TCP, &[both]);
        world.service(both, TCP, &[other]);
        let request = Packet::tcp(client, frontend, SYN);
        assert_eq!(world.ingress(&request).packet().destination, both.parse().unwrap());
        // As it meets the next interface.
        let flows = world.flows();
        let translated = Packet::tcp(client, both, ACK);
        for outcome in [world.ingress(&translated), world.host_egress(&translated)] {
            assert_eq!((outcome.verdict, outcome.packet()), (NEXT, translated.clone()));
        }
        assert_eq!(world.flows(), flows);
        // Another client's is one of a connection that is to be adopted.
        let stranger = Packet::tcp(&client.replace(":40000", ":40001"), both, ACK);
        assert_eq!(world.ingress(&stranger).packet().destination, other.parse().unwrap());
    }
}

#[test]
fn what_this_node_sends_to_a_frontend_that_is_its_own_backend_goes_where_it_was_going() {
    let mut world = World::new();
    for [client, _, both, other] in FAMILIES {
        for protocol in [TCP, UDP] {
            for (flags, port) in [(0, ":40001"), (HOST, ":40002")] {
                let client = client.replace(":40000", port);
                world.service_with(both, protocol, &[both], flags, INTERNAL);
                for flags in [SYN, ACK] {
                    let sent = Packet::new(protocol, &client, both).with_flags(flags);
                    let outcome = world.host_egress(&sent);
                    assert_eq!((outcome.verdict, outcome.bytes), (NEXT, sent.build()), "{protocol}");
                }
            }
        }
        for protocol in [TCP, UDP] {
            world.service_with(both, protocol, &[other], 0, INTERNAL);
            let before = world.counts().get("host_redirect").copied().unwrap_or_default();
            let sent = Packet::new(protocol, client, both).with_flags(SYN);
            assert_eq!(world.host_egress(&sent).packet().destination, other.parse().unwrap());
            assert_eq!(world.counts()["host_redirect"], before + 1);
        }
    }
}

#[test]
fn a_socket_whose_backend_is_a_frontend_is_left_to_the_packet_programs() {
    sockets::in_world(|world, cgroup| {
        for (frontend, backend) in sockets::FAMILIES {
            for (protocol, kind) in [(TCP, "tcp"), (UDP, "udp"), (UDP, "unconnected")] {
                world.service(frontend, protocol, &[backend]);
                assert_eq!(sockets::ask(cgroup, kind, frontend), format!("backend {frontend}"), "{kind}");
            }
            for (protocol, kind) in [(TCP, "tcp"), (UDP, "udp"), (UDP, "unconnected")] {
                world.service(
                    backend,
                    protocol,
                    &[if backend.starts_with('[') { "[2001:db8::1]:80" } else { "192.0.2.1:80" }],
                );
                let said = sockets::ask(cgroup, kind, frontend);
                assert!(said.contains("unreachable"), "{kind}: {said}");
            }
        }
    });
}
