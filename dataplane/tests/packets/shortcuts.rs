//! Which packets leave the host's stack out, one by one, and what becomes of them.

use shunt_abi::{
    backend::{HOST, LOCAL},
    config::{ACCELERATE, ADOPT_MIDSTREAM},
    flow::ACCELERATED,
    frontend::{INTERNAL, MASQUERADE_ALL},
    interface::{BEGINS, BRIDGE_PORT, HANDS_OVER, InterfaceValue},
    name,
};

use crate::{
    forms::icmp_error,
    lab::{Acceleration, Lab, hardware_address, in_lab_with},
    packet::{ACK, FIN, Packet, RST, SYN, TCP, UDP, sum},
    world::{NEXT, Outcome, REDIRECT, Run},
};

/// Client, frontend, backend, and the node where the client is, of each family.
const ENDS: [[&str; 3]; 2] = [
    ["10.244.1.5:40000", "10.96.0.10:80", "10.244.1.6:8080"],
    ["[fd00:1::5]:40000", "[fd00:96::10]:80", "[fd00:1::6]:8080"],
];
const OUTSIDE: [[&str; 3]; 2] = [
    ["192.0.2.9:40000", "192.0.2.2:30080", "10.244.1.6:8080"],
    ["[2001:db8:2::9]:40000", "[2001:db8:2::2]:30080", "[fd00:1::6]:8080"],
];

fn index(interface: &str) -> u32 {
    nix::net::if_::if_nametoindex(interface).unwrap()
}

/// The node knows whom it has to do with.
fn meet_neighbours() {
    for (address, device) in [
        ("10.244.1.5", "cni0"),
        ("10.244.1.6", "cni0"),
        ("fd00:1::5", "cni0"),
        ("fd00:1::6", "cni0"),
        ("192.0.2.9", "up0"),
        ("2001:db8:2::9", "up0"),
    ] {
        command(&format!("ip neigh replace {address} lladdr 02:00:00:00:00:99 dev {device} nud permanent"));
    }
}

fn command(words: &str) {
    let mut words = words.split(' ');
    let output = std::process::Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn in_shortcut_lab(body: impl FnOnce(&mut Lab) + Send) {
    in_lab_with(Acceleration::ToNeighbours, |lab| {
        meet_neighbours();
        body(lab);
    });
}

/// As the node's bridge is addressed; on its ports, and on links, the receiver differs.
fn addressed(interface: &str, packet: &Packet) -> Packet {
    let device = if interface.starts_with("pod") { "cni0" } else { interface };
    let hardware = [&hardware_address(device)[..], &[2, 0, 0, 0, 0, 5]].concat();
    Packet { hardware, ..packet.clone() }
}

fn enters_as(lab: &mut Lab, interface: &str, bytes: &[u8]) -> Outcome {
    let run = Run { interface: index(interface), ingress_interface: index(interface), repeat: 1 };
    lab.world.run(name::ACCELERATED_INGRESS_PROGRAM, bytes, run)
}

/// A packet addressed to the node enters by an interface.
fn enters(lab: &mut Lab, interface: &str, packet: &Packet) -> Outcome {
    enters_as(lab, interface, &addressed(interface, packet).build())
}

fn hops(outcome: &Outcome) -> u8 {
    outcome.bytes[if outcome.bytes[12..14] == [8, 0] { 22 } else { 21 }]
}

/// The same packet with so many hops left.
fn with_hops(mut bytes: Vec<u8>, hops: u8) -> Vec<u8> {
    if bytes[12..14] == [8, 0] {
        bytes[22] = hops;
        bytes[24..26].fill(0);
        let checksum = !sum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
    } else {
        bytes[21] = hops;
    }
    bytes
}

fn is_any_accelerated(lab: &mut Lab) -> bool {
    lab.world.elements().iter().any(|(_, flow)| flow.flags & ACCELERATED != 0)
}

/// Has a request of each family leave the stack out; how many did as the programs count them.
pub(crate) fn provoke_acceleration() -> u64 {
    let mut counted = 0;
    in_shortcut_lab(|lab| {
        for [client, frontend, backend] in ENDS {
            lab.world.service_with(frontend, TCP, &[backend], LOCAL, INTERNAL);
            assert_eq!(enters(lab, "pod5", &Packet::tcp(client, frontend, SYN)).verdict, REDIRECT);
        }
        counted = lab.world.counts()["accelerated"];
    });
    counted
}

#[test]
fn every_packet_of_a_connection_goes_the_same_way_and_loses_a_hop() {
    in_shortcut_lab(|lab| {
        for (ends, client_at) in
            ENDS.map(|ends| (ends, "pod5")).into_iter().chain(OUTSIDE.map(|ends| (ends, "up0")))
        {
            let [client, frontend, backend] = ends;
            lab.world.service_with(frontend, TCP, &[backend], LOCAL, INTERNAL);
            for flags in [SYN, SYN | ACK, ACK, ACK, FIN | ACK, FIN | ACK, RST] {
                let request = Packet::tcp(client, frontend, flags);
                if flags != SYN | ACK {
                    let outcome = enters(lab, client_at, &request);
                    assert_eq!((outcome.verdict, hops(&outcome)), (REDIRECT, 63), "{client} {flags}");
                    assert_eq!(outcome.packet().destination, backend.parse().unwrap());
                }
                if flags != SYN {
                    let reply = Packet::tcp(backend, client, flags);
                    let outcome = enters(lab, "pod6", &reply);
                    assert_eq!((outcome.verdict, hops(&outcome)), (REDIRECT, 63), "{client} {flags}");
                    assert_eq!(outcome.packet().source, frontend.parse().unwrap());
                }
            }
        }
        let counts = lab.world.counts();
        assert_eq!(counts["accelerated"], counts["forward"] + counts["reverse"]);
    });
}

#[test]
fn the_last_hop_and_what_is_too_long_are_the_kernels_business() {
    in_shortcut_lab(|lab| {
        for ends in ENDS {
            let [client, frontend, backend] = ends;
            lab.world.service(frontend, TCP, &[backend]);
            assert_eq!(enters(lab, "pod5", &Packet::tcp(client, frontend, SYN)).verdict, REDIRECT);
            let (request, reply) = (Packet::tcp(client, frontend, ACK), Packet::tcp(backend, client, ACK));
            for left in [0, 1] {
                let outcome = enters_as(lab, "pod5", &with_hops(addressed("pod5", &request).build(), left));
                assert_eq!((outcome.verdict, hops(&outcome)), (NEXT, left));
                assert_eq!(outcome.packet().destination, backend.parse().unwrap(), "translated all the same");
                let outcome = enters_as(lab, "pod6", &with_hops(addressed("pod6", &reply).build(), left));
                assert_eq!((outcome.verdict, hops(&outcome)), (NEXT, left));
                assert_eq!(outcome.packet().source, backend.parse().unwrap(), "translated where it leaves");
            }
            let header = if request.source.is_ipv4() { 40 } else { 60 };
            for (length, verdict) in [(1500 - header, REDIRECT), (1501 - header, NEXT)] {
                let long = |packet: &Packet| Packet { payload: vec![1; length], ..packet.clone() };
                assert_eq!(enters(lab, "pod5", &long(&request)).verdict, verdict, "{length}");
                assert_eq!(enters(lab, "pod6", &long(&reply)).verdict, verdict, "{length}");
            }
        }
    });
}

#[test]
fn nobody_sends_in_the_name_of_client_or_backend() {
    in_shortcut_lab(|lab| {
        for ends in ENDS {
            let [client, frontend, backend] = ends;
            lab.world.service(frontend, TCP, &[backend]);
            // Strict rp_filter is to see the first packet of somebody who is elsewhere, and all that follow.
            for flags in [SYN, ACK] {
                assert_eq!(enters(lab, "up0", &Packet::tcp(client, frontend, flags)).verdict, NEXT);
            }
            assert!(!is_any_accelerated(lab));
            lab.world.forget_flows();
            assert_eq!(enters(lab, "pod5", &Packet::tcp(client, frontend, SYN)).verdict, REDIRECT);
            assert_eq!(enters(lab, "up0", &Packet::tcp(client, frontend, ACK)).verdict, NEXT);
            let reply = Packet::tcp(backend, client, SYN | ACK);
            let outcome = enters(lab, "up0", &reply);
            assert_eq!((outcome.verdict, outcome.packet().source), (NEXT, backend.parse().unwrap()));
            assert_eq!(enters(lab, "pod6", &reply).verdict, REDIRECT);
            // The port is known now.
            assert_eq!(enters(lab, "pod5", &reply).verdict, NEXT);
            lab.world.forget_flows();
        }
    });
}

#[test]
fn a_connection_that_began_slow_stays_so() {
    in_shortcut_lab(|lab| {
        for ends in ENDS {
            let [client, frontend, backend] = ends;
            let (address, _) = backend.rsplit_once(':').unwrap();
            let address = address.trim_matches(['[', ']']);
            lab.world.service(frontend, TCP, &[backend]);
            command(&format!("ip neigh del {address} dev cni0"));
            assert_eq!(enters(lab, "pod5", &Packet::tcp(client, frontend, SYN)).verdict, NEXT);
            meet_neighbours();
            assert_eq!(enters(lab, "pod6", &Packet::tcp(backend, client, SYN | ACK)).verdict, NEXT);
            assert_eq!(enters(lab, "pod5", &Packet::tcp(client, frontend, ACK)).verdict, NEXT);
            // Until the same ports are used again.
            enters(lab, "pod5", &Packet::tcp(client, frontend, RST));
            assert_eq!(enters(lab, "pod5", &Packet::tcp(client, frontend, SYN)).verdict, REDIRECT);
        }
    });
}

#[test]
fn a_neighbour_that_is_forgotten_in_between_is_asked_for_on_the_way() {
    in_shortcut_lab(|lab| {
        for [client, frontend, backend] in ENDS {
            lab.world.service(frontend, TCP, &[backend]);
            assert_eq!(enters(lab, "pod5", &Packet::tcp(client, frontend, SYN)).verdict, REDIRECT);
            command("ip neigh flush dev cni0 nud permanent");
            assert_eq!(enters(lab, "pod5", &Packet::tcp(client, frontend, ACK)).verdict, REDIRECT);
            assert_eq!(enters(lab, "pod6", &Packet::tcp(backend, client, ACK)).verdict, REDIRECT);
            meet_neighbours();
        }
    });
}

#[test]
fn routes_are_asked_about_each_packet() {
    in_shortcut_lab(|lab| {
        let [client, frontend, backend] = ENDS[0];
        lab.world.service(frontend, TCP, &[backend]);
        let request = |flags| Packet::tcp(client, frontend, flags);
        assert_eq!(enters(lab, "pod5", &request(SYN)).verdict, REDIRECT);
        for kind in ["unreachable", "blackhole", "prohibit"] {
            command(&format!("ip route add {kind} 10.244.1.6/32"));
            assert_eq!(enters(lab, "pod5", &request(ACK)).verdict, NEXT, "{kind}");
            command(&format!("ip route del {kind} 10.244.1.6/32"));
        }
        command("ip route add 10.244.1.6/32 dev cni0 mtu lock 1000");
        let long = Packet { payload: vec![1; 1000], ..request(ACK) };
        assert_eq!(enters(lab, "pod5", &long).verdict, NEXT);
        command("ip route del 10.244.1.6/32");
        assert_eq!(enters(lab, "pod5", &long).verdict, REDIRECT);
        command("sysctl -qw net.ipv4.conf.cni0.forwarding=0");
        assert_eq!(enters(lab, "pod5", &request(ACK)).verdict, NEXT);
    });
}

#[test]
fn what_needs_the_stack_goes_through_it() {
    in_shortcut_lab(|lab| {
        for ends in ENDS {
            let [client, frontend, backend] = ends;
            let syn = Packet::tcp(client, frontend, SYN);
            for (backend_flags, flags, why) in [
                (0, INTERNAL, "backends elsewhere"),
                (LOCAL | HOST, INTERNAL, "the node's own"),
                (LOCAL, INTERNAL | MASQUERADE_ALL, "masqueraded"),
            ] {
                lab.world.service_with(frontend, TCP, &[backend], backend_flags, flags);
                assert_eq!(enters(lab, "pod5", &syn).verdict, NEXT, "{why}");
                assert!(!is_any_accelerated(lab), "{why}");
                lab.world.forget_flows();
            }
            lab.world.service(frontend, TCP, &[backend]);
            // Adopted in its middle: nobody knows how it began.
            lab.world.configure(|config| config.flags |= ADOPT_MIDSTREAM);
            assert_eq!(enters(lab, "pod5", &syn.with_flags(ACK)).verdict, NEXT);
            assert!(!is_any_accelerated(lab));
            lab.world.forget_flows();
            let extension = if syn.source.is_ipv4() { vec![1; 4] } else { vec![0, 0, 1, 4, 0, 0, 0, 0] };
            let optional = Packet { options: extension, ..syn.clone() };
            if syn.source.is_ipv4() {
                assert_eq!(enters(lab, "pod5", &optional).verdict, NEXT, "options");
                lab.world.forget_flows();
            }
            // Somebody else waits for what enters there.
            let bridge = hardware_address("cni0");
            let watched = InterfaceValue {
                flags: BRIDGE_PORT,
                address: bridge,
                upper: index("cni0"),
                ..InterfaceValue::default()
            };
            lab.world.interface(index("pod5"), watched);
            assert_eq!(enters(lab, "pod5", &syn).verdict, NEXT, "watched");
            lab.world.forget_flows();
            lab.world.interface(index("pod5"), InterfaceValue { flags: BRIDGE_PORT | BEGINS, ..watched });
            assert_eq!(enters(lab, "pod5", &syn).verdict, REDIRECT);
            lab.world.forget_flows();
        }
    });
}

#[test]
fn frames_between_ports_of_one_bridge_lose_no_hop() {
    in_shortcut_lab(|lab| {
        for hands_over in [0, HANDS_OVER] {
            for [client, frontend, backend] in ENDS {
                lab.world.forget_flows();
                lab.world.service(frontend, TCP, &[backend]);
                let value = InterfaceValue {
                    flags: BRIDGE_PORT | BEGINS | hands_over,
                    address: hardware_address("cni0"),
                    upper: index("cni0"),
                    ..InterfaceValue::default()
                };
                lab.world.interface(index("pod5"), value);
                assert_eq!(enters(lab, "pod5", &Packet::tcp(client, frontend, SYN)).verdict, REDIRECT);
                let hardware = vec![2, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0, 6];
                let reply = Packet { hardware, ..Packet::tcp(backend, client, SYN | ACK) };
                let outcome = enters_as(lab, "pod6", &reply.build());
                assert_eq!((outcome.verdict, hops(&outcome)), (REDIRECT, 64));
                assert_eq!(outcome.packet(), Packet { source: frontend.parse().unwrap(), ..reply });
            }
        }
    });
}

#[test]
fn errors_about_accelerated_packets_go_their_way() {
    in_shortcut_lab(|lab| {
        for [client, frontend, backend] in ENDS {
            let v4 = frontend.starts_with("10.");
            let unreachable = if v4 { [3, 3] } else { [1, 4] };
            let ip = |socket: &str| socket.rsplit_once(':').unwrap().0.to_owned();
            lab.world.service(frontend, UDP, &[backend]);
            let request = Packet::udp(client, frontend);
            let sent = enters(lab, "pod5", &request);
            assert_eq!(sent.verdict, REDIRECT);
            let reply = Packet::udp(backend, client);
            assert_eq!(enters(lab, "pod6", &reply).verdict, REDIRECT);
            let mut error = icmp_error(&ip(backend), &ip(client), &Packet::udp(client, backend), unreachable);
            error[..6].copy_from_slice(&hardware_address("cni0"));
            let outcome = enters_as(lab, "pod6", &error);
            assert_eq!((outcome.verdict, hops(&outcome)), (REDIRECT, 63), "the backend's");
            let mut error =
                icmp_error(&ip(client), &ip(frontend), &Packet::udp(frontend, client), unreachable);
            error[..6].copy_from_slice(&hardware_address("cni0"));
            let outcome = enters_as(lab, "pod5", &error);
            assert_eq!((outcome.verdict, hops(&outcome)), (REDIRECT, 63), "the client's");
            // Of flows that go through the stack, nothing is different.
            lab.world.forget_flows();
            lab.world.configure(|config| config.flags &= !ACCELERATE);
            assert_eq!(enters(lab, "pod5", &request).verdict, NEXT);
            let error = icmp_error(&ip(backend), &ip(client), &Packet::udp(client, backend), unreachable);
            assert_eq!(enters_as(lab, "pod6", &error).bytes, error);
            lab.world.configure(|config| config.flags |= ACCELERATE);
            lab.world.forget_flows();
        }
    });
}

#[test]
fn flows_go_on_as_they_began_when_new_ones_are_not_accelerated_any_more() {
    in_shortcut_lab(|lab| {
        for [client, frontend, backend] in ENDS {
            lab.world.service(frontend, TCP, &[backend]);
            assert_eq!(enters(lab, "pod5", &Packet::tcp(client, frontend, SYN)).verdict, REDIRECT);
            lab.world.configure(|config| config.flags &= !ACCELERATE);
            assert_eq!(enters(lab, "pod6", &Packet::tcp(backend, client, SYN | ACK)).verdict, REDIRECT);
            assert_eq!(enters(lab, "pod5", &Packet::tcp(client, frontend, ACK)).verdict, REDIRECT);
            let other = client.replace("40000", "40001");
            for flags in [SYN, ACK] {
                assert_eq!(enters(lab, "pod5", &Packet::tcp(&other, frontend, flags)).verdict, NEXT);
            }
            // The program without acceleration sends requests of those on, and knows no replies.
            let bytes = addressed("pod5", &Packet::tcp(client, frontend, ACK)).build();
            let run = Run { interface: index("pod5"), ingress_interface: index("pod5"), repeat: 1 };
            assert_eq!(lab.world.run(name::INGRESS_PROGRAM, &bytes, run).verdict, REDIRECT);
            lab.world.configure(|config| config.flags |= ACCELERATE);
        }
    });
}

#[test]
#[ignore = "a measurement, not a check"]
fn nanoseconds_of_accelerated_packets() {
    for acceleration in [Acceleration::ToNeighbours, Acceleration::IntoPods] {
        in_lab_with(acceleration, |lab| {
            meet_neighbours();
            for [client, frontend, backend] in ENDS {
                lab.world.service(frontend, TCP, &[backend]);
                let median = |lab: &mut Lab, program: &str, interface: &str, packets: &[Packet]| {
                    let run =
                        Run { interface: index(interface), ingress_interface: index(interface), repeat: 1 };
                    let each = packets.iter().map(|packet| {
                        let bytes = addressed(interface, packet).build();
                        lab.world.run(program, &bytes, run).duration.as_nanos()
                    });
                    let mut times: Vec<_> = each.collect();
                    times.sort_unstable();
                    times[times.len() / 2]
                };
                let request = |port: u16, flags| {
                    let client = client.replace("40000", &port.to_string());
                    Packet::tcp(&client, frontend, flags)
                };
                let syns: Vec<_> = (20_000..20_600).map(|port| request(port, SYN)).collect();
                let ways = [
                    ("accelerated", ACCELERATE, name::ACCELERATED_INGRESS_PROGRAM),
                    ("not", 0, name::INGRESS_PROGRAM),
                ];
                for (what, flag, program) in ways {
                    lab.world.forget_flows();
                    lab.world.configure(|config| config.flags = (config.flags & !ACCELERATE) | flag);
                    let empty = median(lab, name::EMPTY_PROGRAM, "pod5", &syns);
                    let first = median(lab, program, "pod5", &syns) - empty;
                    let acks = vec![syns[7].with_flags(ACK); 600];
                    let established = median(lab, program, "pod5", &acks) - empty;
                    let replies =
                        vec![
                            Packet { destination: syns[7].source, ..Packet::tcp(backend, client, ACK) };
                            4000
                        ];
                    let reply = median(lab, program, "pod6", &replies) - empty;
                    println!(
                        "{acceleration:?} {client} {what}: first {first}, established {established}, reply at its ingress {reply} ns single, net"
                    );
                }
                lab.world.configure(|config| config.flags |= ACCELERATE);
            }
        });
    }
}
