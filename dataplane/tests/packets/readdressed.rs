//! This node's own clients, and backends beyond a tunnel: they see the address that the node has there.

use std::{net::SocketAddr, process::Command, thread};

use shunt_abi::{
    address::{word, words},
    backend::LOCAL,
    frontend::INTERNAL,
    interface::{InterfaceValue, TUNNEL},
    name,
};

use crate::{
    conflicts::privileged_ports,
    forms::{host, icmp_error, read_icmp_error},
    fragments::{fragments, reassemble},
    packet::{ACK, FIN, Packet, SCTP, SYN, TCP, UDP},
    world::{Outcome, REDIRECT, Run, World},
};

struct Family {
    /// Of the node's own, as the kernel chose it for the way to the frontend.
    client: &'static str,
    /// The same as the backend is to see it.
    seen: &'static str,
    frontend: &'static str,
    other: &'static str,
    backend: &'static str,
    local: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        client: "192.0.2.2:40000",
        seen: "10.244.1.0:40000",
        frontend: "10.96.0.10:80",
        other: "10.96.0.11:80",
        backend: "10.244.2.7:8080",
        local: "10.244.1.7:8080",
    },
    Family {
        client: "[2001:db8:2::2]:40000",
        seen: "[fd00:1::fff0]:40000",
        frontend: "[fd00:96::10]:80",
        other: "[fd00:96::11]:80",
        backend: "[fd00:2::7]:8080",
        local: "[fd00:1::7]:8080",
    },
];

const NETWORK: &str = "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip link set lo up
ip link add up0 address 02:00:00:00:00:0a type veth peer name up0p
ip link add tun0 address 02:00:00:00:00:0a mtu 1450 type veth peer name tun0p
ip link add cni0 type veth peer name cni0p
ip link set up0p up
ip link set tun0p up
ip link set cni0p up
ip link set up0 up
ip link set tun0 up
ip link set cni0 up
ip addr add 192.0.2.2/24 dev up0
ip addr add 192.0.2.3/24 dev up0
ip addr add 2001:db8:2::2/64 dev up0 nodad
ip addr add 10.244.1.0/32 dev tun0
ip addr add fd00:1::fff0/128 dev tun0 nodad
ip addr add 10.244.1.1/24 dev cni0
ip addr add fd00:1::1/64 dev cni0 nodad
ip route add 10.96.0.0/16 dev up0
ip route add 10.244.2.0/24 dev tun0
ip route add fd00:96::/64 dev up0
ip route add fd00:2::/64 dev tun0";

/// Of both interfaces: frames for another are not looked at.
const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];

/// The node, in a network namespace of its own.
struct Node {
    world: World,
    uplink: u32,
    tunnel: u32,
}

fn in_node(body: impl FnOnce(&mut Node) + Send) {
    let run = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
        for line in NETWORK.lines() {
            let mut words = line.split(' ');
            let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
        }
        body(&mut Node::new());
    };
    thread::scope(|scope| {
        scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

impl Node {
    fn new() -> Self {
        let index = |name| nix::net::if_::if_nametoindex(name).unwrap();
        let mut node = Self { world: World::new(), uplink: index("up0"), tunnel: index("tun0") };
        for address in ["192.0.2.2", "192.0.2.3", "2001:db8:2::2", "10.244.1.0", "fd00:1::fff0"] {
            node.world.node_address(address);
        }
        node.describe(TUNNEL);
        node.world.interface(index("cni0"), value(0, "10.244.1.1", "fd00:1::1"));
        node
    }

    /// Tells the programs of the interfaces; `flags` of the tunnel.
    fn describe(&mut self, flags: u32) {
        self.world.interface(1, InterfaceValue::default());
        self.world.interface(self.uplink, value(0, "192.0.2.2", "2001:db8:2::2"));
        self.world.interface(self.tunnel, value(flags, "10.244.1.0", "fd00:1::fff0"));
    }

    /// Forgets all else, and lets both frontends lead to the backend beyond the tunnel.
    fn offer(&mut self, protocol: u8, family: &Family) {
        self.world.clear();
        self.describe(TUNNEL);
        for frontend in [family.frontend, family.other] {
            self.world.service_with(frontend, protocol, &[family.backend], 0, INTERNAL);
        }
    }

    /// What a client of the node sends, on its way out by the uplink.
    fn send(&mut self, bytes: &[u8]) -> Outcome {
        let leaving = Run { interface: self.uplink, ..Run::default() };
        self.world.run(name::EGRESS_PROGRAM, &framed(bytes), leaving)
    }

    /// What the backend sends, on its way in by the tunnel.
    fn receive(&mut self, bytes: &[u8]) -> Outcome {
        let entering = Run { interface: self.tunnel, ingress_interface: self.tunnel, repeat: 0 };
        self.world.run(name::INGRESS_PROGRAM, &framed(bytes), entering)
    }

    /// A packet goes to the backend, and an answer comes back to where the packet came from; what the backend saw.
    fn exchange(&mut self, sent: &Packet, answer_flags: u8) -> Packet {
        let outcome = self.send(&sent.build());
        assert_eq!(outcome.verdict, REDIRECT, "{:?}", self.world.counts());
        let seen = Packet { hardware: sent.hardware.clone(), ..outcome.packet() };
        let answer = self.receive(&seen.reply().with_flags(answer_flags).build());
        // Handed over by the interface that it is expected by.
        assert_eq!(answer.verdict, REDIRECT);
        let answer = answer.packet();
        let expected = sent.reply().with_flags(answer_flags);
        assert_eq!(answer, Packet { hardware: answer.hardware.clone(), ..expected });
        seen
    }
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&HARDWARE[..], &bytes[6..]].concat()
}

fn value(flags: u32, v4: &str, v6: &str) -> InterfaceValue {
    let (source4, source6) = (word(v4.parse().unwrap()), words(v6.parse().unwrap()));
    InterfaceValue { flags, source4, source6, ..InterfaceValue::default() }
}

fn first(protocol: u8, client: &str, frontend: &str) -> Packet {
    let flags = match protocol {
        TCP => SYN,
        SCTP => 1,
        _ => 0,
    };
    Packet { flags, ..Packet::new(protocol, client, frontend) }
}

fn later(protocol: u8, client: &str, frontend: &str) -> Packet {
    first(protocol, client, frontend).with_flags(if protocol == TCP { ACK } else { 0 })
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_backend_sees_the_address_that_the_node_has_in_the_tunnel_and_the_client_its_own() {
    in_node(|node| {
        for family in &FAMILIES {
            for protocol in [TCP, UDP, SCTP] {
                node.offer(protocol, family);
                let opening = first(protocol, family.client, family.frontend);
                let answer = if protocol == TCP { SYN | ACK } else { opening.flags * 2 };
                let seen = node.exchange(&opening, answer);
                let expected =
                    Packet { source: at(family.seen), destination: at(family.backend), ..opening.clone() };
                assert_eq!(seen, expected);
                assert_eq!(node.exchange(&opening, answer), seen, "what is repeated keeps its port");
                for _ in 0..3 {
                    let sent = later(protocol, family.client, family.frontend);
                    assert_eq!(node.exchange(&sent, sent.flags).source, at(family.seen));
                }
                let counts = node.world.counts();
                assert_eq!(
                    (node.world.flows(), node.world.elements().len(), counts["flow_new"]),
                    ((1, 0), 2, 1)
                );
            }
        }
    });
}

#[test]
fn the_clients_own_address_stays_where_it_is_right_or_meant() {
    in_node(|node| {
        for family in &FAMILIES {
            let keeps = |node: &mut Node, client: &str, backend: &str, flags: u16| {
                node.world.service_with(family.frontend, TCP, &[backend], flags, INTERNAL);
                let outcome = node.send(&first(TCP, client, family.frontend).build());
                assert_eq!(outcome.verdict, REDIRECT);
                assert_eq!(
                    (outcome.packet().source, outcome.packet().destination),
                    (at(client), at(backend))
                );
                node.world.forget_flows();
            };
            node.offer(TCP, family);
            // Pods of this node know the way to all of its addresses.
            keeps(node, family.client, family.local, LOCAL);
            // It is that of the tunnel already.
            keeps(node, family.seen, family.backend, 0);
            // No tunnel, and an address that is not the uplink's first: a route or the client wants it.
            node.describe(0);
            let wanted = family.client.replace(".2:", ".3:").replace(":2::2]", ":2::3]");
            keeps(node, &wanted, family.backend, 0);
            // Interfaces without an address of their own.
            node.world.interface(node.tunnel, InterfaceValue { flags: TUNNEL, ..InterfaceValue::default() });
            keeps(node, family.client, family.backend, 0);
            // By the same interface as to the frontend.
            node.describe(TUNNEL);
            let near = family.client.replace(".2:40000", ".9:8080").replace("::2]:40000", "::9]:8080");
            keeps(node, &wanted, &near, 0);
        }
    });
}

#[test]
fn between_two_uplinks_the_address_changes_if_it_was_chosen_by_the_interface() {
    in_node(|node| {
        for family in &FAMILIES {
            node.offer(TCP, family);
            node.describe(0);
            let seen = node.exchange(&first(TCP, family.client, family.frontend), SYN | ACK);
            assert_eq!(seen.source, at(family.seen));
        }
    });
}

#[test]
fn ports_that_are_taken_at_the_other_address_become_others() {
    in_node(|node| {
        for family in &FAMILIES {
            for protocol in [TCP, UDP, SCTP] {
                node.offer(protocol, family);
                // Through two frontends to one backend, and from the other address itself.
                let clients = [
                    (family.client, family.frontend),
                    (family.client, family.other),
                    (family.seen, family.frontend),
                ];
                let mut seen = Vec::new();
                for _ in 0..2 {
                    for (client, frontend) in clients {
                        let opening = first(protocol, client, frontend);
                        seen.push(
                            node.exchange(&opening, if protocol == TCP { SYN | ACK } else { 0 }).source,
                        );
                    }
                }
                assert_eq!(seen[..3], seen[3..], "each keeps its port");
                assert_eq!(seen[0], at(family.seen));
                assert!(seen[..3].iter().all(|source| source.ip() == seen[0].ip()));
                assert!(seen[1] != seen[0] && seen[2] != seen[0] && seen[1] != seen[2], "{seen:?}");
                assert!((32_768..61_000).contains(&seen[1].port()));
                for (client, frontend) in clients {
                    node.exchange(&later(protocol, client, frontend), if protocol == TCP { ACK } else { 0 });
                }
            }
        }
    });
}

#[test]
fn privileged_ports_stay_privileged_and_no_port_is_given_twice() {
    in_node(|node| {
        for family in &FAMILIES {
            node.offer(TCP, family);
            let mut seen = std::collections::BTreeSet::new();
            let mut translated = 0;
            for frontend in [family.frontend, family.other] {
                for client in privileged_ports(family.client).take(300) {
                    let outcome = node.send(&first(TCP, &client, frontend).build());
                    assert_eq!(outcome.verdict, REDIRECT);
                    let source = outcome.packet().source;
                    assert_eq!((source.ip(), source.port() < 1024), (at(family.seen).ip(), true));
                    translated += 1;
                    assert!(seen.insert(source), "{source}");
                }
            }
            assert_eq!(seen.len(), translated);
        }
    });
}

#[test]
fn of_a_connection_that_is_over_or_a_flow_whose_backend_is_gone_nothing_is_left() {
    in_node(|node| {
        for family in &FAMILIES {
            node.offer(TCP, family);
            for _ in 0..3 {
                node.exchange(&first(TCP, family.client, family.frontend), SYN | ACK);
                for (flags, answer) in [(ACK, ACK), (ACK | FIN, ACK | FIN), (ACK, ACK)] {
                    let sent = later(TCP, family.client, family.frontend).with_flags(flags);
                    assert_eq!(node.exchange(&sent, answer).source.ip(), at(family.seen).ip());
                }
                assert_eq!((node.world.flows(), node.world.elements().len()), ((1, 0), 2));
            }
            node.offer(UDP, family);
            let ids = node.world.service_with(family.frontend, UDP, &[family.backend], 0, INTERNAL);
            let sent = first(UDP, family.client, family.frontend);
            for _ in 0..2 {
                node.exchange(&sent, 0);
            }
            node.world.set_backend(ids[0], at(family.backend), LOCAL, 2);
            node.world.service(family.frontend, UDP, &[family.local]);
            let outcome = node.send(&sent.build());
            assert_eq!(
                (outcome.packet().source, outcome.packet().destination),
                (sent.source, at(family.local))
            );
            assert_eq!((node.world.flows(), node.world.elements().len()), ((0, 1), 1));
        }
    });
}

/// What becomes of the packet that these fragments make.
fn pass(like: &Packet, parts: &[Vec<u8>], mut one: impl FnMut(&[u8]) -> Outcome) -> Packet {
    let outcomes: Vec<_> = parts.iter().map(|part| one(part)).collect();
    let verdicts: Vec<_> = outcomes.iter().map(|outcome| outcome.verdict).collect();
    assert!(verdicts.iter().all(|verdict| *verdict == REDIRECT), "{verdicts:?}");
    let hardware = &outcomes[0].bytes[..6];
    assert!(outcomes.iter().all(|outcome| outcome.bytes[..6] == *hardware), "all go one way");
    reassemble(&outcomes.into_iter().map(|outcome| outcome.bytes).collect::<Vec<_>>(), like)
}

#[test]
fn fragments_have_the_other_address_in_both_directions() {
    in_node(|node| {
        for family in &FAMILIES {
            for protocol in [UDP, SCTP] {
                node.offer(protocol, family);
                // Checksums of fragmented SCTP follow no port.
                let backend = family.backend.replace(":8080", ":80");
                node.world.service_with(family.frontend, protocol, &[&backend], 0, INTERNAL);
                let sent =
                    Packet { payload: vec![0xab; 3000], ..first(protocol, family.client, family.frontend) };
                // Some fit through the tunnel, of some the first does not.
                for (identification, size) in [(1, 1000), (2, 1440), (3, 1000)] {
                    let seen = pass(&sent, &fragments(&sent, identification, size), |part| node.send(part));
                    assert_eq!((seen.source, seen.destination), (at(family.seen), at(&backend)));
                    let answer = Packet { hardware: sent.hardware.clone(), ..seen.reply() };
                    let parts = fragments(&answer, identification, size);
                    let got = pass(&answer, &parts, |part| node.receive(part));
                    assert_eq!((got.source, got.destination), (sent.destination, sent.source));
                }
            }
        }
    });
}

#[test]
fn errors_tell_each_side_of_the_addresses_that_it_knows() {
    in_node(|node| {
        for family in &FAMILIES {
            let v6 = family.client.starts_with('[');
            let too_big = if v6 { [2, 0] } else { [3, 4] };
            let (router, plain) =
                if v6 { ("[fd00:2::1]", "fd00:2::1") } else { ("10.244.2.1", "10.244.2.1") };
            let [client, seen_host, frontend, backend] =
                [family.client, family.seen, family.frontend, family.backend].map(host);
            for protocol in [TCP, UDP] {
                node.offer(protocol, family);
                let sent = first(protocol, family.client, family.frontend);
                let seen = node.exchange(&sent, 0);
                // The backend, or a router, complains of the client's packet.
                for (from, shown) in [(router, plain), (&backend.1, &frontend.0)] {
                    let outcome = node.receive(&icmp_error(from, &seen_host.1, &seen, too_big));
                    assert_eq!(outcome.verdict, REDIRECT, "by the interface where it is expected");
                    let expected = (
                        shown.to_owned(),
                        client.0.clone(),
                        family.client.to_owned(),
                        family.frontend.to_owned(),
                    );
                    assert_eq!(read_icmp_error(&outcome.bytes), expected);
                }
                // This node complains of the answer.
                let outcome = node.send(&icmp_error(&client.1, &frontend.1, &sent.reply(), too_big));
                assert_eq!(outcome.verdict, REDIRECT);
                let expected = (
                    seen_host.0.clone(),
                    backend.0.clone(),
                    family.backend.to_owned(),
                    seen.source.to_string(),
                );
                assert_eq!(read_icmp_error(&outcome.bytes), expected);
                assert_eq!(node.world.counts()["icmp_error"], 3);
            }
        }
    });
}
