//! Half-open flows: as many as there are places, whoever begins how many.

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use shunt_abi::name;

use crate::{
    packet::{ACK, Packet, SYN, TCP, UDP},
    world::{NEXT, World},
};

/// (client, frontend, other frontend, backend, other backend) in both families.
pub(crate) const FAMILIES: [[&str; 5]; 2] = [
    ["10.244.1.5:40000", "10.96.0.10:80", "10.96.0.11:80", "10.244.1.7:8080", "10.244.2.7:8080"],
    ["[fd00:1::5]:40000", "[fd00:96::10]:80", "[fd00:96::11]:80", "[fd00:1::7]:8080", "[fd00:2::7]:8080"],
];

/// Places that each CPU has in the worlds of these tests.
const PLACES: u32 = 4;

/// A world of few places, and this thread on one CPU.
pub(crate) fn world(capacities: &[(&'static str, u32)]) -> World {
    let mut cpu = CpuSet::new();
    cpu.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpu).unwrap();
    let cpus = u32::try_from(aya::util::nr_cpus().unwrap()).unwrap();
    let places = PLACES * cpus.next_power_of_two();
    let rings = [(name::HALF_OPEN4, places), (name::HALF_OPEN6, places)];
    World::with_capacities(&[&rings, capacities].concat())
}

/// A request for a connection from one of the client's ports.
pub(crate) fn request(client: &str, port: u16, frontend: &str) -> Packet {
    Packet::tcp(&client.replace(":40000", &format!(":{port}")), frontend, SYN)
}

/// Whether a reply to this packet, which went to this backend, is translated.
fn is_answered(world: &mut World, sent: &Packet, backend: &str) -> bool {
    let reply = Packet { destination: backend.parse().unwrap(), ..sent.clone() }.reply();
    let outcome = world.egress(&reply);
    assert_eq!(outcome.verdict, NEXT);
    outcome.packet() == sent.reply()
}

pub(crate) fn evicted(world: &mut World) -> u64 {
    world.counts().get("flow_evicted").copied().unwrap_or(0)
}

#[test]
fn a_flood_of_requests_ends_none_but_half_open_flows_the_oldest_first() {
    for [client, frontend, _, backend, _] in FAMILIES {
        let mut world = world(&[]);
        world.service(frontend, TCP, &[backend]);
        let established = request(client, 40000, frontend);
        world.ingress(&established);
        world.ingress(&established.with_flags(ACK));
        for port in 1..=10 {
            world.ingress(&request(client, port, frontend));
        }
        assert_eq!((world.flows(), evicted(&mut world)), ((1, 4), 6));
        for port in 1..=10 {
            let is_left = is_answered(&mut world, &request(client, port, frontend), backend);
            assert_eq!(is_left, port > 6, "{port}");
        }
        assert!(is_answered(&mut world, &established, backend));
        let seen = world.ingress(&established.with_flags(ACK)).packet();
        assert_eq!(seen.destination, backend.parse().unwrap());
        assert_eq!(world.counts()["flow_new"], 11, "none began twice");
    }
}

#[test]
fn a_flow_that_is_established_leaves_its_place_to_another() {
    for [client, frontend, _, backend, _] in FAMILIES {
        let mut world = world(&[]);
        world.service(frontend, TCP, &[backend]);
        for port in 1..=20 {
            let syn = request(client, port, frontend);
            world.ingress(&syn);
            world.ingress(&syn.with_flags(ACK));
        }
        for port in 21..=24 {
            world.ingress(&request(client, port, frontend));
        }
        assert_eq!((world.flows(), evicted(&mut world)), ((20, 4), 0));
        world.ingress(&request(client, 25, frontend));
        assert_eq!((world.flows(), evicted(&mut world)), ((20, 4), 1));
        assert!(!is_answered(&mut world, &request(client, 21, frontend), backend));
    }
}

#[test]
fn an_evicted_flow_begins_again_with_the_request_that_is_repeated() {
    for [client, frontend, _, backend, other_backend] in FAMILIES {
        let mut world = world(&[]);
        world.service(frontend, TCP, &[backend, other_backend]);
        let syn = request(client, 40000, frontend);
        let seen = world.ingress(&syn).packet();
        for port in 1..=4 {
            world.ingress(&request(client, port, frontend));
        }
        assert_eq!(world.egress(&seen.reply()).packet(), seen.reply());
        assert_eq!(world.ingress(&syn).packet(), seen, "by hash: the same backend");
        assert_eq!(world.egress(&seen.reply()).packet(), syn.reply());
        assert_eq!(world.flows(), (0, 4));
    }
}

#[test]
fn a_repeated_request_keeps_its_place() {
    for [client, frontend, _, backend, _] in FAMILIES {
        let mut world = world(&[]);
        world.service(frontend, TCP, &[backend]);
        for port in 1..=4 {
            for _ in 0..5 {
                world.ingress(&request(client, port, frontend));
            }
        }
        assert_eq!((world.flows(), evicted(&mut world)), ((0, 4), 0));
    }
}

#[test]
fn an_evicted_flow_that_another_follows_leaves_its_slot_to_the_next_one() {
    for [client, frontend, other, backend, other_backend] in FAMILIES {
        let mut world = world(&[]);
        world.service(frontend, TCP, &[backend]);
        world.service(other, TCP, &[other_backend]);
        world.ingress(&request(client, 40000, frontend));
        let second = request(client, 40000, other);
        world.ingress(&second);
        for port in 1..=3 {
            world.ingress(&request(client, port, frontend));
        }
        assert!(world.elements().iter().any(|(key, value)| key.slot == 0 && value.is_vacant()));
        assert!(!is_answered(&mut world, &request(client, 40000, frontend), backend));
        assert!(is_answered(&mut world, &second, other_backend));
        let elements = world.elements().len();
        world.ingress(&second.with_flags(ACK));
        world.ingress(&request(client, 40000, frontend));
        assert_eq!((world.flows(), world.elements().len()), ((1, 4), elements));
        assert!(is_answered(&mut world, &request(client, 40000, frontend), backend));
        assert!(is_answered(&mut world, &second, other_backend));
    }
}

#[test]
fn an_evicted_flow_that_was_remapped_leaves_nothing() {
    for [client, frontend, other, backend, _] in FAMILIES {
        let mut world = world(&[]);
        world.service(frontend, TCP, &[backend]);
        world.service(other, TCP, &[backend]);
        let first = request(client, 40000, frontend);
        world.ingress(&first);
        world.ingress(&first.with_flags(ACK));
        world.ingress(&request(client, 40000, other));
        assert_eq!(world.elements().len(), 3);
        for port in 1..=4 {
            world.ingress(&request(client, port, frontend));
        }
        assert_eq!((world.flows(), world.elements().len(), evicted(&mut world)), ((1, 4), 5, 1));
    }
}

#[test]
fn a_map_without_room_gets_it_from_a_half_open_flow() {
    for [client, frontend, _, backend, _] in FAMILIES {
        let mut world = world(&[(name::FLOWS4, 2), (name::FLOWS6, 2)]);
        world.service(frontend, TCP, &[backend]);
        for port in 1..=3 {
            let seen = world.ingress(&request(client, port, frontend)).packet();
            assert_eq!(seen.destination, backend.parse().unwrap());
        }
        assert_eq!((world.flows(), evicted(&mut world)), ((0, 2), 1));
        assert!(!world.counts().contains_key("drop_flows_full"));
    }
}

#[test]
fn where_all_are_established_a_full_map_is_told() {
    for [client, frontend, _, backend, _] in FAMILIES {
        let mut world = world(&[(name::FLOWS4, 2), (name::FLOWS6, 2)]);
        world.service(frontend, TCP, &[backend]);
        for port in 1..=3 {
            let syn = request(client, port, frontend);
            world.ingress(&syn);
            world.ingress(&syn.with_flags(ACK));
        }
        let counts = world.counts();
        // The request, and the segment that would have been adopted.
        assert_eq!((world.flows(), counts["drop_flows_full"], counts["flows_full"]), ((2, 0), 1, 1));
    }
}

#[test]
fn datagrams_are_established_by_the_second_of_either_side() {
    for [client, frontend, _, backend, _] in FAMILIES {
        let mut world = world(&[]);
        world.service(frontend, UDP, &[backend]);
        let sent = Packet::udp(client, frontend);
        let seen = world.ingress(&sent).packet();
        for established in [0, 1, 1] {
            assert_eq!(world.egress(&seen.reply()).packet(), sent.reply());
            assert_eq!(world.flows().0, established);
        }
        world.ingress(&sent);
        assert_eq!((world.flows(), world.counts()["flow_established"]), ((1, 0), 1));
    }
}
