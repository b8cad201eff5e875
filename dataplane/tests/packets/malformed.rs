//! Malformed and truncated packets by the thousand: never changed unless they are to a frontend or from a backend.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use shunt_abi::name;

use crate::{
    packet::{ACK, Packet, SCTP, SYN, TCP, UDP},
    world::{DROP, NEXT, REDIRECT, Run, World},
};

const PACKETS: usize = 20_000;

/// A packet of any kind, of a translated flow or of others.
fn any_packet(random: &mut StdRng) -> Vec<u8> {
    let (clients, others) = if random.random() {
        (["10.244.1.5:40000", "10.244.2.7:8080"], ["10.96.0.10:80", "10.96.0.11:80", "10.244.9.9:53"])
    } else {
        (
            ["[fd00:1::5]:40000", "[fd00:2::7]:8080"],
            ["[fd00:96::10]:80", "[fd00:96::11]:80", "[fd00:9::9]:53"],
        )
    };
    let protocol = [TCP, UDP, SCTP][random.random_range(0..3)];
    let packet = Packet {
        flags: [SYN, ACK, 1, 4, 255][random.random_range(0..5)],
        payload: vec![random.random(); random.random_range(0..80)],
        ..Packet::new(protocol, clients[random.random_range(0..2)], others[random.random_range(0..3)])
    };
    let packet = if random.random_ratio(1, 3) { packet.reply() } else { packet };
    packet.build()
}

/// Cuts it off, or changes some of its bytes (the addresses too, now and then).
fn spoil(random: &mut StdRng, bytes: &mut Vec<u8>) {
    if random.random() {
        // The kernel runs nothing on a packet that ends within its IP header.
        let least = if bytes[12] == 8 { 34 } else { 54 };
        bytes.truncate(random.random_range(least..=bytes.len()));
    }
    for _ in 0..random.random_range(0..6) {
        let at = random.random_range(0..bytes.len());
        // Not the link layer: frames for other hosts, or of other protocols, are not looked at.
        if at >= 14 {
            bytes[at] = random.random();
        }
    }
}

/// Whether the addresses, wherever they can be, are those of a frontend or a backend.
fn is_ours(bytes: &[u8]) -> bool {
    let ours: [&[u8]; 4] = [
        &[10, 96, 0, 10],
        &[10, 244, 2, 7],
        &[0xfd, 0, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10],
        &[0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
    ];
    ours.iter().any(|address| bytes.windows(address.len()).any(|window| window == *address))
}

#[test]
fn malformed_packets_are_left_as_they_are() {
    let mut world = World::new();
    for protocol in [TCP, UDP, SCTP] {
        world.service("10.96.0.10:80", protocol, &["10.244.2.7:8080"]);
        world.service("[fd00:96::10]:80", protocol, &["[fd00:2::7]:8080"]);
    }
    let mut random = StdRng::seed_from_u64(20_261_120);
    let (mut translated, mut strange) = (0, 0);
    for number in 0..PACKETS {
        let mut bytes = any_packet(&mut random);
        spoil(&mut random, &mut bytes);
        let program = [name::INGRESS_PROGRAM, name::EGRESS_PROGRAM][number % 2];
        let outcome = world.run(program, &bytes, Run { ingress_interface: 1, ..Run::default() });
        assert!([NEXT, DROP, REDIRECT].contains(&outcome.verdict), "{bytes:02x?}");
        if outcome.bytes == bytes {
            strange += 1;
            continue;
        }
        translated += 1;
        assert!(is_ours(&bytes), "changed: {bytes:02x?} to {:02x?}", outcome.bytes);
        assert_eq!(outcome.bytes.len(), bytes.len(), "{bytes:02x?}");
    }
    assert!(translated > PACKETS / 20 && strange > PACKETS / 20, "{translated} translated, {strange} not");
}
