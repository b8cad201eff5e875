//! Traffic of single Services.

use shunt_abi::{
    config::COUNT_SERVICES,
    frontend::{FrontendValue, INSIDE_REJECT, INTERNAL},
    service::ServiceCounters,
};

use crate::{
    packet::{ACK, Packet, SYN, TCP, UDP},
    world::World,
};

/// (client, frontend, other frontend, backend) in both families.
const FAMILIES: [[&str; 4]; 2] = [
    ["10.244.1.5:40000", "10.96.0.10:80", "10.96.0.10:81", "10.244.2.7:8080"],
    ["[fd00:1::5]:40000", "[fd00:96::10]:80", "[fd00:96::10]:81", "[fd00:2::7]:8080"],
];

fn counting() -> World {
    let mut world = World::new();
    world.configure(|config| config.flags |= COUNT_SERVICES);
    world
}

/// A connection of two segments each way; the bytes of all four.
fn connect(world: &mut World, client: &str, frontend: &str) -> u64 {
    let mut bytes = 0;
    for flags in [SYN, ACK] {
        let sent = Packet::tcp(client, frontend, flags);
        let arrived = world.ingress(&sent).packet();
        world.egress(&arrived.reply());
        bytes += 2 * sent.build().len() as u64;
    }
    bytes
}

#[test]
fn packets_of_both_directions_and_flows_are_counted_with_their_service() {
    for [client, frontend, other, backend] in FAMILIES {
        let mut world = counting();
        world.service(frontend, TCP, &[backend]);
        world.service(other, TCP, &[&backend.replace(":8080", ":9090")]);
        let bytes = connect(&mut world, client, frontend);
        assert_eq!(world.traffic(1), ServiceCounters { packets: 4, bytes, flows: 1 });
        let more = connect(&mut world, &client.replace(":40000", ":40001"), other);
        assert_eq!(world.traffic(2), ServiceCounters { packets: 4, bytes: more, flows: 1 });
        assert_eq!(world.traffic(1).packets, 4, "others are counted with theirs");
    }
}

#[test]
fn a_repeated_request_is_a_packet_but_no_new_flow() {
    for [client, frontend, _, backend] in FAMILIES {
        let mut world = counting();
        world.service(frontend, TCP, &[backend]);
        let syn = Packet::tcp(client, frontend, SYN);
        world.ingress(&syn);
        world.ingress(&syn);
        let bytes = 2 * syn.build().len() as u64;
        assert_eq!(world.traffic(1), ServiceCounters { packets: 2, bytes, flows: 1 });
    }
}

#[test]
fn nothing_is_counted_unless_it_is_asked_for_nor_what_nobody_serves() {
    for [client, frontend, other, backend] in FAMILIES {
        let mut world = World::new();
        world.service(frontend, TCP, &[backend]);
        connect(&mut world, client, frontend);
        assert_eq!(world.traffic(1), ServiceCounters::default());
        world.configure(|config| config.flags |= COUNT_SERVICES);
        let value = FrontendValue { flags: INTERNAL | INSIDE_REJECT, service: 1, ..FrontendValue::default() };
        world.frontend(other, UDP, value);
        world.ingress(&Packet::udp(client, other));
        assert_eq!(world.traffic(1), ServiceCounters::default());
        // It takes effect with the next packet, of flows that are there too.
        world.ingress(&Packet::tcp(client, frontend, ACK));
        assert_eq!((world.traffic(1).packets, world.traffic(1).flows), (1, 0));
    }
}
