//! Malformed and truncated packets by the thousand, of every form: never changed unless they are to a frontend, from a
//! backend or about such a packet. (That no right checksum becomes a wrong one, [`World::run`] checks.)

use std::{collections::BTreeMap, ops::Range};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use shunt_abi::{
    frontend::{FrontendValue, INSIDE_REJECT, INTERNAL},
    name,
};

use crate::{
    checksums,
    forms::icmp_error,
    fragments::fragments,
    packet::{ACK, Packet, SCTP, SYN, TCP, UDP},
    world::{DROP, NEXT, REDIRECT, Run, World},
};

const PACKETS: usize = 60_000;

/// Sources, and destinations: a frontend, one that nobody serves, an address without one, a stranger.
const FAMILIES: [([&str; 2], [&str; 4]); 2] = [
    (
        ["10.244.1.5:40000", "10.244.2.7:8080"],
        ["10.96.0.10:80", "10.96.0.12:80", "10.96.0.11:80", "10.244.9.9:53"],
    ),
    (
        ["[fd00:1::5]:40000", "[fd00:2::7]:8080"],
        ["[fd00:96::10]:80", "[fd00:96::12]:80", "[fd00:96::11]:80", "[fd00:9::9]:53"],
    ),
];

/// IPv4 addresses in options, and a chain of IPv6 extension headers that ends with `protocol`.
fn options(random: &mut StdRng, is_v4: bool, protocol: u8) -> Vec<u8> {
    if is_v4 {
        let words = random.random_range(0..10);
        return (0..words).flat_map(|_| [1, 1, 1, random.random_range(0..2)]).collect();
    }
    match random.random_range(0..4) {
        0 => vec![protocol, 0, 1, 4, 0, 0, 0, 0],
        1 => vec![60, 0, 1, 4, 0, 0, 0, 0, protocol, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        _ => Vec::new(),
    }
}

/// Forms of packets.
const FORMS: [&str; 6] = ["plain", "options", "VLAN", "first fragment", "later fragment", "ICMP error"];

fn build(random: &mut StdRng, form: &str) -> Vec<u8> {
    let (sources, destinations) = FAMILIES[random.random_range(0..2)];
    let protocol = [TCP, UDP, SCTP][random.random_range(0..3)];
    let most = if form.ends_with("fragment") { 900 } else { 80 };
    let packet = Packet {
        flags: [SYN, ACK, 1, 4, 255][random.random_range(0..5)],
        payload: vec![random.random(); random.random_range(most - 80..most)],
        ..Packet::new(protocol, sources[random.random_range(0..2)], destinations[random.random_range(0..4)])
    };
    let packet = if random.random_ratio(1, 3) { packet.reply() } else { packet };
    let is_v4 = packet.source.is_ipv4();
    match form {
        "options" => Packet { options: options(random, is_v4, protocol), ..packet }.build(),
        "VLAN" => {
            let bytes = packet.build();
            [&bytes[..12], &[0x81, 0, 0, 5], &bytes[12..]].concat()
        }
        "first fragment" => fragments(&packet, random.random_range(0..20), 400).swap_remove(0),
        "later fragment" => fragments(&packet, random.random_range(0..20), 400).swap_remove(1),
        "ICMP error" => {
            let types: &[u8] = if is_v4 { &[3, 11, 12, 8] } else { &[1, 2, 3, 4, 128] };
            // What a router would quote.
            let is_translated = random.random() && packet.destination == destinations[0].parse().unwrap();
            let backend = sources[1].parse().unwrap();
            let packet = if is_translated { Packet { destination: backend, ..packet } } else { packet };
            let kind = [types[random.random_range(0..types.len())], random.random_range(0..5)];
            let ends = [packet.source, packet.destination].map(|end| {
                let text = end.to_string();
                text.rsplit_once(':').unwrap().0.to_owned()
            });
            icmp_error(&ends[1], &ends[0], &packet, kind)
        }
        _ => packet.build(),
    }
}

/// Where the IP header begins and how long it is: the kernel runs nothing on a packet that ends within.
fn fixed_header(bytes: &[u8]) -> Range<usize> {
    match bytes[12..14] {
        [0x86, 0xdd] => 14..54,
        [0x81, 0] => 14..18,
        _ => 14..34,
    }
}

/// Cuts it off, or changes some of its bytes (the addresses too, now and then); some have right checksums again.
fn spoil(random: &mut StdRng, bytes: &mut Vec<u8>) {
    if random.random_ratio(1, 3) {
        bytes.truncate(random.random_range(fixed_header(bytes).end..=bytes.len()));
    }
    for _ in 0..random.random_range(0..4) {
        // Not the link layer: frames for other hosts, or of other protocols, are not looked at.
        let at = random.random_range(14..bytes.len());
        bytes[at] = random.random();
    }
    if random.random() {
        checksums::repair(bytes);
    }
}

/// Whether a packet's addresses, or those of the one that it may quote, are those of a frontend or a backend.
fn is_ours(bytes: &[u8]) -> bool {
    let ours: [&[u8]; 6] = [
        &[10, 96, 0, 10],
        &[10, 96, 0, 12],
        &[10, 244, 2, 7],
        &[0xfd, 0, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10],
        &[0xfd, 0, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12],
        &[0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
    ];
    let header = fixed_header(bytes);
    let is_icmp =
        if header.end == 34 { bytes[23] == 1 } else { bytes[20] == 58 || bytes[20] == 0 || bytes[20] == 60 };
    let within = if is_icmp { &bytes[header.start..] } else { &bytes[header] };
    ours.iter().any(|address| within.windows(address.len()).any(|window| window == *address))
}

fn world() -> World {
    let mut world = World::new();
    for protocol in [TCP, UDP, SCTP] {
        for (frontend, rejecting, backend) in [
            ("10.96.0.10:80", "10.96.0.12:80", "10.244.2.7:8080"),
            ("[fd00:96::10]:80", "[fd00:96::12]:80", "[fd00:2::7]:8080"),
        ] {
            world.service(frontend, protocol, &[backend]);
            let value = FrontendValue { flags: INTERNAL | INSIDE_REJECT, ..FrontendValue::default() };
            world.frontend(rejecting, protocol, value);
        }
    }
    world
}

/// Runs a program on it, and judges; whether it was changed.
fn meet(world: &mut World, program: &str, ingress_interface: u32, bytes: &[u8]) -> bool {
    let outcome = world.run(program, bytes, Run { ingress_interface, ..Run::default() });
    assert!([NEXT, DROP, REDIRECT].contains(&outcome.verdict), "{bytes:02x?}");
    if outcome.verdict != NEXT {
        assert!(is_ours(bytes), "{}: {bytes:02x?}", outcome.verdict);
        return true;
    }
    if outcome.bytes == bytes {
        return false;
    }
    assert!(is_ours(bytes), "changed: {bytes:02x?} to {:02x?}", outcome.bytes);
    assert_eq!(outcome.bytes.len(), bytes.len(), "{bytes:02x?}");
    true
}

/// Entering, forwarded, and this host's own.
const HOOKS: [(&str, u32); 3] =
    [(name::INGRESS_PROGRAM, 1), (name::EGRESS_PROGRAM, 1), (name::EGRESS_PROGRAM, 0)];

#[test]
fn malformed_packets_are_left_as_they_are() {
    let mut world = world();
    let mut random = StdRng::seed_from_u64(20_261_120);
    // How many were changed, and how many not.
    let mut seen = BTreeMap::<_, [usize; 2]>::new();
    for number in 0..PACKETS {
        let form = FORMS[number % FORMS.len()];
        let mut bytes = build(&mut random, form);
        spoil(&mut random, &mut bytes);
        let (program, ingress_interface) = HOOKS[random.random_range(0..3)];
        let changed = meet(&mut world, program, ingress_interface, &bytes);
        seen.entry(form).or_default()[usize::from(changed)] += 1;
    }
    println!("(left, changed): {seen:?}");
    assert_eq!(seen["VLAN"][1], 0, "tags within the frame are left to others");
    for (form, [left, changed]) in seen.into_iter().filter(|(form, _)| *form != "VLAN") {
        assert!(left > PACKETS / 50 && changed > PACKETS / 400, "{form}: {left} left, {changed} changed");
    }
}

#[test]
fn packets_cut_off_anywhere_are_no_surprise() {
    let mut world = world();
    let mut random = StdRng::seed_from_u64(1);
    for form in FORMS {
        for _ in 0..12 {
            let bytes = build(&mut random, form);
            for length in fixed_header(&bytes).end..=bytes.len().min(160) {
                for (program, ingress_interface) in HOOKS {
                    meet(&mut world, program, ingress_interface, &bytes[..length]);
                }
            }
        }
    }
}
