//! Packets that are none of ours.

use crate::{
    packet::{ACK, Packet, SYN, TCP, UDP},
    world::{NEXT, World},
};

#[test]
fn packets_to_others_pass_unchanged_in_both_directions() {
    let mut world = World::new();
    world.service("10.96.0.10:80", TCP, &["10.244.2.7:8080"]);
    world.service("[fd00:96::10]:80", TCP, &["[fd00:2::7]:8080"]);
    for packet in [
        Packet::tcp("10.244.1.5:40000", "10.244.9.9:80", SYN),
        Packet::tcp("10.244.1.5:40000", "10.96.0.10:81", SYN),
        Packet::udp("10.244.1.5:40000", "10.96.0.10:80"),
        Packet::tcp("10.244.2.7:8080", "10.244.1.5:40000", ACK),
        Packet::tcp("[fd00:1::5]:40000", "[fd00:9::9]:80", SYN),
        Packet::new(UDP, "[fd00:1::5]:40000", "[fd00:96::10]:80"),
        Packet::tcp("[fd00:2::7]:8080", "[fd00:1::5]:40000", ACK),
    ] {
        for outcome in [world.ingress(&packet), world.egress(&packet), world.host_egress(&packet)] {
            assert_eq!((outcome.verdict, outcome.bytes), (NEXT, packet.build()), "{packet:?}");
        }
    }
    assert_eq!(world.counts().len(), 0);
}
