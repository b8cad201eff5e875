//! Packets that nobody serves: told so, or dropped in silence.

use shunt_abi::{
    address::{word, words},
    config::{Range4, Range6},
    frontend::{FrontendValue, INSIDE_REJECT, INTERNAL, WHOLE_ADDRESS},
    known::Role,
    name,
};

use crate::{
    packet::{ACK, Packet, RST, SCTP, SYN, TCP, UDP, sum},
    world::{DROP, NEXT, Outcome, REDIRECT, Run, World},
};

/// (client, frontend) in both families.
const FAMILIES: [(&str, &str); 2] =
    [("10.244.1.5:40000", "10.96.0.10:80"), ("[fd00:1::5]:40000", "[fd00:96::10]:80")];

fn rejecting(frontend: &str, protocol: u8) -> World {
    let mut world = World::new();
    let value = FrontendValue { flags: INTERNAL | INSIDE_REJECT, service: 1, ..FrontendValue::default() };
    world.frontend(frontend, protocol, value);
    world
}

#[test]
fn a_connection_that_nobody_takes_is_reset() {
    for (client, frontend) in FAMILIES {
        let mut world = rejecting(frontend, TCP);
        let sent = Packet { payload: Vec::new(), ..Packet::tcp(client, frontend, SYN) };
        let outcome = world.ingress(&sent);
        assert_eq!(outcome.verdict, REDIRECT);
        let answer = outcome.packet();
        assert_eq!(
            (answer.source, answer.destination, answer.flags),
            (sent.destination, sent.source, RST | ACK)
        );
        assert_eq!(answer.hardware, [&sent.hardware[6..], &sent.hardware[..6]].concat());
        let transport = &outcome.bytes[outcome.bytes.len() - 20..];
        assert_eq!(transport[4..12], [0, 0, 0, 0, 0, 0, 0, 8], "acknowledges the SYN, numbered 7");
        assert_eq!(world.counts()["rejected"], 1);
        assert_eq!(world.flows(), (0, 0));
    }
}

/// Checks an ICMP error in answer to `sent`, with all checksums.
fn check_unreachable(outcome: &Outcome, sent: &Packet) {
    assert_eq!(outcome.verdict, REDIRECT);
    let bytes = &outcome.bytes[14..];
    if sent.source.is_ipv4() {
        assert_eq!(sum(&bytes[..20]), 0xffff, "IPv4 header checksum");
        assert_eq!((bytes.len(), &bytes[2..4], bytes[9]), (56, &[0, 56][..], 1));
        assert_eq!(sum(&bytes[20..]), 0xffff, "ICMP checksum");
        assert_eq!(bytes[20..22], [3, 3]);
        assert_eq!(bytes[12..16], sent.build()[30..34], "from where it was sent to");
        assert_eq!(bytes[16..20], sent.build()[26..30]);
        assert_eq!(bytes[28..54], sent.build()[14..40], "quotes the packet");
    } else {
        assert_eq!((bytes.len(), &bytes[4..6], bytes[6]), (96, &[0, 56][..], 58));
        let pseudo_header = [&bytes[8..40], &[0, 0, 0, 56, 0, 0, 0, 58][..], &bytes[40..]].concat();
        assert_eq!(sum(&pseudo_header), 0xffff, "ICMPv6 checksum");
        assert_eq!(bytes[40..42], [1, 4]);
        assert_eq!(bytes[8..24], sent.build()[38..54], "from where it was sent to");
        assert_eq!(bytes[48..94], sent.build()[14..60], "quotes the packet");
    }
    // Whatever the device makes of a checksum that is left to it, it makes what is there.
    if sent.protocol == UDP {
        let quoted = &bytes[bytes.len() - 8..];
        let written = !sum(quoted);
        assert!([quoted[6], quoted[7]] == written.to_be_bytes() || written == 0, "{quoted:?}");
    }
}

#[test]
fn a_datagram_that_nobody_takes_is_answered_with_an_icmp_error() {
    for (client, frontend) in FAMILIES {
        for protocol in [UDP, SCTP] {
            // Odd and even lengths: the settled checksum depends on it.
            for length in [11, 12, 500] {
                let mut world = rejecting(frontend, protocol);
                let sent =
                    Packet { payload: vec![7; length], flags: 1, ..Packet::new(protocol, client, frontend) };
                check_unreachable(&world.ingress(&sent), &sent);
            }
        }
    }
}

#[test]
fn this_nodes_own_packets_are_answered_too() {
    for (client, frontend) in FAMILIES {
        let mut world = rejecting(frontend, UDP);
        let sent = Packet::udp(client, frontend);
        assert_eq!(world.host_egress(&sent).verdict, REDIRECT);
    }
}

pub(crate) fn with_ranges(world: &mut World) {
    world.configure(|config| {
        config.services4[0] = Range4 {
            network: word("10.96.0.0".parse().unwrap()),
            mask: word("255.255.0.0".parse().unwrap()),
        };
        config.services6[0] = Range6 {
            network: words("fd00:96::".parse().unwrap()),
            mask: words("ffff:ffff:ffff:ffff::".parse().unwrap()),
        };
    });
}

#[test]
fn the_wrong_port_of_a_cluster_ip_is_rejected_and_an_unallocated_one_dropped() {
    for (client, frontend) in FAMILIES {
        let mut world = World::new();
        with_ranges(&mut world);
        let address: std::net::SocketAddr = frontend.parse().unwrap();
        let value = FrontendValue { flags: WHOLE_ADDRESS | INSIDE_REJECT, ..FrontendValue::default() };
        world.put_frontend(address.ip(), 0, 0, value);
        assert_eq!(world.ingress(&Packet::tcp(client, frontend, SYN)).verdict, REDIRECT);
        let sent = Packet::udp(client, frontend);
        check_unreachable(&world.ingress(&sent), &sent);
        let nobody = frontend.replace("10]", "11]").replace(".10:", ".11:");
        assert_eq!(world.ingress(&Packet::tcp(client, &nobody, SYN)).verdict, DROP);
        assert_eq!((world.counts()["rejected_port"], world.counts()["drop_unallocated"]), (2, 1));
    }
}

/// A cluster IP with no ports, in no range that is known.
fn with_cluster_ip(world: &mut World, address: std::net::IpAddr) {
    let value = FrontendValue { flags: WHOLE_ADDRESS | INSIDE_REJECT, ..FrontendValue::default() };
    world.put_frontend(address, 0, 0, value);
    world.know_socket(Role::Frontend, address, 0, 0);
}

#[test]
fn the_wrong_port_of_a_cluster_ip_is_rejected_where_the_ranges_are_not_known() {
    for (client, frontend) in FAMILIES {
        let mut world = World::new();
        let address: std::net::SocketAddr = frontend.parse().unwrap();
        with_cluster_ip(&mut world, address.ip());
        for protocol in [TCP, UDP, SCTP] {
            let sent = Packet::new(protocol, client, frontend).with_flags(SYN);
            assert_eq!(world.ingress(&sent).verdict, REDIRECT, "{protocol}");
            assert_eq!(world.host_egress(&sent).verdict, REDIRECT, "{protocol}");
        }
        assert_eq!(world.counts()["rejected_port"], 6);
        let nobody = frontend.replace("10]", "11]").replace(".10:", ".11:");
        assert_eq!(world.ingress(&Packet::tcp(client, &nobody, SYN)).verdict, NEXT);
    }
}

#[test]
fn what_only_looks_like_a_cluster_ip_or_is_this_nodes_is_left_alone() {
    for (client, frontend) in FAMILIES {
        let address: std::net::SocketAddr = frontend.parse().unwrap();
        let sent = Packet::tcp(client, frontend, SYN);
        let mut world = World::new();
        world.know_socket(Role::Frontend, address.ip(), 0, 0);
        assert_eq!(world.ingress(&sent).verdict, NEXT, "gone, but the bitmap keeps it");
        assert_eq!(world.host_egress(&sent).verdict, NEXT);
        with_cluster_ip(&mut world, address.ip());
        world.node_address(&address.ip().to_string());
        assert_eq!(world.ingress(&sent).verdict, NEXT, "processes of the node may listen there");
    }
}

/// An echo request; what `kind` says otherwise.
fn echo(client: &str, to: &str, kind: [u8; 2]) -> Vec<u8> {
    let [source, destination] = [client, to].map(|text| text.parse::<std::net::SocketAddr>().unwrap().ip());
    let mut bytes = Packet::udp(client, to).build();
    let (header, protocol) = if source.is_ipv4() { (20, 1) } else { (40, 58) };
    bytes[14 + if header == 20 { 9 } else { 6 }] = protocol;
    let message = bytes.split_off(14 + header);
    let mut message = [&kind[..], &[0, 0], &message[4..]].concat();
    let pseudo_header = match (source, destination) {
        (std::net::IpAddr::V6(source), std::net::IpAddr::V6(destination)) => {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            [&source.octets()[..], &destination.octets(), &length, &[0, 0, 0, 58]].concat()
        }
        _ => Vec::new(),
    };
    let checksum = !sum(&[pseudo_header, message.clone()].concat());
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    if header == 20 {
        bytes[24..26].fill(0);
        let checksum = !sum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
    }
    [bytes, message].concat()
}

/// Where a packet enters, and where this node's own leaves.
const WAYS: [(&str, Run); 2] = [
    (name::INGRESS_PROGRAM, Run { interface: 0, ingress_interface: 1, repeat: 0 }),
    (name::EGRESS_PROGRAM, Run { interface: 0, ingress_interface: 0, repeat: 0 }),
];

#[test]
fn who_pings_a_cluster_ip_is_told_that_nobody_is_there() {
    for ((client, frontend), request) in FAMILIES.into_iter().zip([8, 128]) {
        for (program, run) in WAYS {
            let mut world = World::new();
            with_ranges(&mut world);
            let address: std::net::SocketAddr = frontend.parse().unwrap();
            with_cluster_ip(&mut world, address.ip());
            let sent = echo(client, frontend, [request, 0]);
            let outcome = world.run(program, &sent, run);
            assert_eq!(outcome.verdict, REDIRECT, "{program}");
            let header = if request == 8 { 20 } else { 40 };
            let kind = if request == 8 { [3, 3] } else { [1, 4] };
            assert_eq!(outcome.bytes[14 + header..][..2], kind);
            assert_eq!(outcome.bytes[14 + header + 8..], sent[14..14 + header + 8], "quotes the packet");
            let nobody = frontend.replace("10]", "11]").replace(".10:", ".11:");
            assert_eq!(world.run(program, &echo(client, &nobody, [request, 0]), run).verdict, DROP);
            assert_eq!((world.counts()["rejected_port"], world.counts()["drop_unallocated"]), (1, 1));
        }
    }
}

#[test]
fn other_icmp_messages_to_cluster_ips_and_pings_of_others_are_left_alone() {
    for ((client, frontend), [request, other]) in FAMILIES.into_iter().zip([[8, 0], [128, 136]]) {
        for (program, run) in WAYS {
            let mut world = rejecting(frontend, TCP);
            with_ranges(&mut world);
            assert_eq!(world.run(program, &echo(client, frontend, [other, 0]), run).verdict, NEXT);
            let elsewhere = frontend.replace("10.96", "10.97").replace("fd00:96", "fd00:97");
            assert_eq!(world.run(program, &echo(client, &elsewhere, [request, 0]), run).verdict, NEXT);
        }
    }
}

#[test]
fn a_port_that_a_cluster_ip_has_no_longer_is_rejected() {
    for (client, frontend) in FAMILIES {
        let mut world = rejecting(frontend, TCP);
        world.clear();
        with_ranges(&mut world);
        let address: std::net::SocketAddr = frontend.parse().unwrap();
        let value = FrontendValue { flags: WHOLE_ADDRESS | INSIDE_REJECT, ..FrontendValue::default() };
        world.put_frontend(address.ip(), 0, 0, value);
        assert_eq!(world.ingress(&Packet::tcp(client, frontend, SYN)).verdict, REDIRECT);
        assert_eq!(world.counts()["rejected_port"], 1);
    }
}

#[test]
fn a_reset_is_not_answered() {
    for (client, frontend) in FAMILIES {
        let mut world = World::new();
        with_ranges(&mut world);
        let address: std::net::SocketAddr = frontend.parse().unwrap();
        let value = FrontendValue { flags: WHOLE_ADDRESS | INSIDE_REJECT, ..FrontendValue::default() };
        world.put_frontend(address.ip(), 0, 0, value);
        assert_eq!(world.ingress(&Packet::tcp(client, frontend, RST)).verdict, DROP);
    }
}

#[test]
fn a_segment_in_the_middle_of_an_unknown_connection_is_left_alone_unless_told_to_adopt_it() {
    for ((client, frontend), backend) in FAMILIES.into_iter().zip(["10.244.2.7:8080", "[fd00:2::7]:8080"]) {
        let mut world = World::new();
        world.service(frontend, TCP, &[backend]);
        let packet = Packet::tcp(client, frontend, ACK);
        let outcome = world.ingress(&packet);
        assert_eq!((outcome.verdict, outcome.packet()), (NEXT, packet.clone()));
        assert_eq!(world.counts()["midstream_left"], 1);
        world.configure(|config| config.flags |= shunt_abi::config::ADOPT_MIDSTREAM);
        assert_eq!(world.ingress(&packet).packet().destination, backend.parse().unwrap());
        assert_eq!(world.counts()["flow_adopted"], 1);
    }
}

#[test]
fn a_pool_that_names_nobody_drops() {
    for (client, frontend) in FAMILIES {
        let mut world = World::new();
        let (inside_offset, inside_length) = world.pool(&[0]);
        let value = FrontendValue {
            flags: INTERNAL,
            service: 1,
            inside_offset,
            inside_length,
            ..FrontendValue::default()
        };
        world.frontend(frontend, TCP, value);
        assert_eq!(world.ingress(&Packet::tcp(client, frontend, SYN)).verdict, DROP);
        assert_eq!(world.counts()["drop_no_backend"], 1);
    }
}
