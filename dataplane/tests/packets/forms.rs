//! Packets of every form: protocols, options, extension headers, link layers, ICMP errors.

use shunt_abi::interface::{BRIDGE_PORT, InterfaceValue};

use crate::{
    packet::{ACK, Packet, SCTP, SYN, TCP, UDP, sum},
    world::{NEXT, World},
};

/// (client, frontend, backend) in both families.
const FAMILIES: [(&str, &str, &str); 2] = [
    ("10.244.1.5:40000", "10.96.0.10:80", "10.244.2.7:8080"),
    ("[fd00:1::5]:40000", "[fd00:96::10]:80", "[fd00:2::7]:8080"),
];

#[test]
fn sctp_is_translated_with_its_checksum_put_right() {
    for (client, frontend, backend) in FAMILIES {
        for length in [0, 4, 100, 1400] {
            let mut world = World::new();
            world.service(frontend, SCTP, &[backend]);
            let sent =
                Packet { flags: 1, payload: vec![0x5a; length], ..Packet::new(SCTP, client, frontend) };
            let outcome = world.ingress(&sent);
            assert_eq!(outcome.packet(), Packet { destination: backend.parse().unwrap(), ..sent.clone() });
            let outcome = world.egress(&outcome.packet().reply().with_flags(2));
            assert_eq!(outcome.packet(), sent.reply().with_flags(2));
        }
    }
}

#[test]
fn padding_behind_the_packet_is_no_part_of_its_checksum() {
    let (client, frontend, backend) = FAMILIES[0];
    let mut world = World::new();
    world.service(frontend, SCTP, &[backend]);
    let sent = Packet { flags: 1, payload: Vec::new(), ..Packet::new(SCTP, client, frontend) };
    let mut bytes = sent.build();
    bytes.resize(60, 0xee);
    let run = crate::world::Run { ingress_interface: 1, ..Default::default() };
    let outcome = world.run(shunt_abi::name::INGRESS_PROGRAM, &bytes, run);
    assert_eq!(outcome.packet(), Packet { destination: backend.parse().unwrap(), ..sent });
}

#[test]
fn options_and_extension_headers_are_passed_over() {
    let record_route = vec![7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // Hop-by-hop options, destination options, and what follows filled in.
    let extensions =
        |protocol| vec![60, 0, 1, 4, 0, 0, 0, 0, protocol, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (client, frontend, backend) in FAMILIES {
        for protocol in [TCP, UDP] {
            let mut world = World::new();
            world.service(frontend, protocol, &[backend]);
            let options = if client.starts_with('[') { extensions(protocol) } else { record_route.clone() };
            for flags in [SYN, ACK] {
                let flags = if protocol == TCP { flags } else { 0 };
                let sent =
                    Packet { options: options.clone(), flags, ..Packet::new(protocol, client, frontend) };
                let outcome = world.ingress(&sent);
                assert_eq!(
                    outcome.packet(),
                    Packet { destination: backend.parse().unwrap(), ..sent.clone() }
                );
                assert_eq!(world.egress(&outcome.packet().reply()).packet(), sent.reply());
            }
        }
    }
}

#[test]
fn new_flows_in_frames_for_another_host_are_left_alone_except_for_the_bridge_of_a_port() {
    let bridge = [2, 0, 0, 0, 0, 0x77];
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.service(frontend, TCP, &[backend]);
        let hardware = [&bridge[..], &[2, 0, 0, 0, 0, 9]].concat();
        let sent = Packet { hardware, ..Packet::tcp(client, frontend, SYN) };
        assert_eq!(world.ingress(&sent).packet(), sent);
        assert_eq!(world.counts()["other_host"], 1);
        world.interface(
            1,
            InterfaceValue { flags: BRIDGE_PORT, address: bridge, ..InterfaceValue::default() },
        );
        assert_eq!(world.ingress(&sent).packet().destination, backend.parse().unwrap());
    }
}

/// An ICMP error of `kind` from `from` to `to` that quotes `quoted`'s first bytes.
pub(crate) fn icmp_error(from: &str, to: &str, quoted: &Packet, type_code: [u8; 2]) -> Vec<u8> {
    let inner = &quoted.build()[14..];
    let v4 = quoted.source.is_ipv4();
    let quotation = &inner[..if v4 { 28 } else { 48 }];
    let mut message = [&type_code[..], &[0, 0, 0, 0, 5, 0xdc], quotation].concat();
    // Built as a UDP packet of the right length, then given another protocol and payload.
    let shell = Packet {
        payload: vec![0; message.len() - 8],
        no_checksum: true,
        ..Packet::udp(&format!("{from}:0"), &format!("{to}:0"))
    };
    let mut bytes = shell.build();
    let (protocol_at, header) = if v4 { (23, 34) } else { (20, 54) };
    bytes[protocol_at] = if v4 { 1 } else { 58 };
    if v4 {
        bytes[24..26].fill(0);
        let checksum = !sum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
    }
    let checksum = !sum(&[icmp_pseudo_header(&bytes, message.len()), message.clone()].concat());
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    bytes.truncate(header);
    bytes.extend(message);
    bytes
}

fn icmp_pseudo_header(bytes: &[u8], length: usize) -> Vec<u8> {
    if bytes[12..14] == [8, 0] {
        return Vec::new();
    }
    [&bytes[22..54], &u32::try_from(length).unwrap().to_be_bytes(), &[0, 0, 0, 58]].concat()
}

/// Checks all checksums of an ICMP error; its addresses and those and the ports of what it quotes.
pub(crate) fn read_icmp_error(bytes: &[u8]) -> (String, String, String, String) {
    let v4 = bytes[12..14] == [8, 0];
    let address = |at: usize| {
        if v4 {
            std::net::IpAddr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap())
        } else {
            std::net::IpAddr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap())
        }
    };
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let socket = |address, port| std::net::SocketAddr::new(address, port).to_string();
    if v4 {
        assert_eq!(sum(&bytes[14..34]), 0xffff, "outer header checksum");
        assert_eq!(sum(&bytes[34..]), 0xffff, "ICMP checksum");
        assert_eq!(sum(&bytes[42..62]), 0xffff, "inner header checksum");
        let inner = (socket(address(54), port(62)), socket(address(58), port(64)));
        return (address(26).to_string(), address(30).to_string(), inner.0, inner.1);
    }
    let message = &bytes[54..];
    assert_eq!(
        sum(&[icmp_pseudo_header(bytes, message.len()), message.to_vec()].concat()),
        0xffff,
        "ICMPv6 checksum"
    );
    let inner = (socket(address(70), port(102)), socket(address(86), port(104)));
    (address(22).to_string(), address(38).to_string(), inner.0, inner.1)
}

/// The address of a socket, bare and as in a socket.
pub(crate) fn host(socket: &str) -> (String, String) {
    let bracketed = socket.rsplit_once(':').unwrap().0.to_owned();
    (bracketed.trim_matches(['[', ']']).to_owned(), bracketed)
}

#[test]
fn errors_about_translated_packets_reach_who_sent_them_in_terms_they_know() {
    let run = crate::world::Run { ingress_interface: 1, ..Default::default() };
    for (client, frontend, backend) in FAMILIES {
        let router = if client.starts_with('[') { "[fd00:3::1]" } else { "10.244.3.1" };
        let too_big = if client.starts_with('[') { [2, 0] } else { [3, 4] };
        for protocol in [TCP, UDP] {
            let mut world = World::new();
            world.service(frontend, protocol, &[backend]);
            let sent = Packet {
                flags: if protocol == TCP { SYN } else { 0 },
                ..Packet::new(protocol, client, frontend)
            };
            let translated = world.ingress(&sent).packet();
            // A router, or the backend itself, complains of the client's packet.
            for (from, shown) in [(router, router), (&host(backend).1, &host(frontend).1)] {
                let error = icmp_error(from, &host(client).1, &translated, too_big);
                let outcome = world.run(shunt_abi::name::EGRESS_PROGRAM, &error, run);
                assert_eq!(outcome.verdict, NEXT);
                let seen = read_icmp_error(&outcome.bytes);
                let shown = shown.trim_matches(['[', ']']).to_owned();
                assert_eq!(seen, (shown, host(client).0, client.to_owned(), frontend.to_owned()));
            }
            // The client's side complains of the answer.
            let answer = world.egress(&translated.reply()).packet();
            let error = icmp_error(&host(client).1, &host(frontend).1, &answer, too_big);
            let outcome = world.run(shunt_abi::name::INGRESS_PROGRAM, &error, run);
            let seen = read_icmp_error(&outcome.bytes);
            assert_eq!(seen, (host(client).0, host(backend).0, backend.to_owned(), client.to_owned()));
            assert_eq!(world.counts()["icmp_error"], 3);
        }
    }
}

#[test]
fn errors_about_other_packets_pass_unchanged() {
    let run = crate::world::Run { ingress_interface: 1, ..Default::default() };
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.service(frontend, TCP, &[backend]);
        let error = icmp_error(&host(backend).1, &host(client).1, &Packet::tcp(client, backend, SYN), [3, 4]);
        for program in [shunt_abi::name::INGRESS_PROGRAM, shunt_abi::name::EGRESS_PROGRAM] {
            let outcome = world.run(program, &error, run);
            assert_eq!((outcome.verdict, outcome.bytes), (NEXT, error.clone()));
        }
    }
}
