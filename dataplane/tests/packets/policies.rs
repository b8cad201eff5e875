//! What frontends do besides choosing: policies, masquerading, source ranges, affinity, hairpin.

use std::thread;
use std::time::Duration;

use aya::maps::lpm_trie::{Key, LpmTrie};
use shunt_abi::{
    address::{word, words},
    backend::{ELIGIBLE_INTERNAL, LOCAL},
    config::{MASQUERADES4, MASQUERADES6, PODS_BY_INTERFACE, PODS_BY_RANGE, Range4, Range6},
    frontend::{
        FrontendValue, INSIDE_REJECT, INTERNAL, MASQUERADE_ALL, MASQUERADE_REMOTE, OUTSIDE_REJECT, RANGES,
        SOCKET_ONLY, SPLIT,
    },
    interface::{InterfaceValue, POD},
    name,
};

use crate::{
    packet::{ACK, Packet, SYN, TCP, UDP},
    world::{DROP, NEXT, REDIRECT, World},
};

const MARK: u32 = 0x4000;

/// (pod, outsider, frontend, backend, other backend) in both families.
const FAMILIES: [[&str; 5]; 2] = [
    ["10.244.1.5:40000", "203.0.113.9:40000", "10.96.0.10:80", "10.244.1.7:8080", "10.244.2.7:8080"],
    ["[fd00:1::5]:40000", "[2001:db8::9]:40000", "[fd00:96::10]:80", "[fd00:1::7]:8080", "[fd00:2::7]:8080"],
];

fn world_that_knows_pods() -> World {
    let mut world = World::new();
    world.configure(|config| {
        config.flags |= PODS_BY_RANGE;
        config.pods4[0] = Range4 {
            network: word("10.244.1.0".parse().unwrap()),
            mask: word("255.255.255.0".parse().unwrap()),
        };
        config.pods6[0] = Range6 {
            network: words("fd00:1::".parse().unwrap()),
            mask: words("ffff:ffff:ffff:ffff::".parse().unwrap()),
        };
    });
    world
}

#[test]
fn only_what_goes_to_another_node_and_does_not_come_from_this_one_for_sure_is_masqueraded() {
    for [pod, outsider, frontend, local, remote] in FAMILIES {
        for (client, kind, backend, flags, expected) in [
            (pod, INTERNAL, local, LOCAL, 0),
            (pod, INTERNAL, remote, 0, 0),
            (pod, 0, local, LOCAL, 0),
            // It may be a pod of the backend's node.
            (pod, 0, remote, 0, MARK),
            (outsider, INTERNAL, local, LOCAL, 0),
            (outsider, INTERNAL, remote, 0, MARK),
            (outsider, 0, local, LOCAL, 0),
            (outsider, 0, remote, 0, MARK),
        ] {
            let mut world = world_that_knows_pods();
            world.service_with(frontend, TCP, &[backend], flags, MASQUERADE_REMOTE | kind);
            for tcp in [SYN, ACK, ACK] {
                let outcome = world.ingress(&Packet::tcp(client, frontend, tcp));
                assert_eq!((outcome.verdict, outcome.mark), (NEXT, expected), "{client} {backend}");
                assert_eq!(outcome.packet().source, client.parse().unwrap());
            }
        }
    }
}

#[test]
fn what_cannot_be_masqueraded_yet_is_dropped_and_counted_until_it_can() {
    let families = [(MASQUERADES4, "drop_unmasqueraded4"), (MASQUERADES6, "drop_unmasqueraded6")];
    for ([_, outsider, frontend, local, remote], (there, counter)) in FAMILIES.into_iter().zip(families) {
        let mut world = world_that_knows_pods();
        world.configure(|config| config.flags &= !there);
        world.service_with(frontend, TCP, &[remote], 0, MASQUERADE_REMOTE);
        for expected in 1..=2 {
            let outcome = world.ingress(&Packet::tcp(outsider, frontend, SYN));
            assert_eq!((outcome.verdict, outcome.mark), (DROP, 0));
            assert_eq!(world.counts()[counter], expected);
        }
        world.configure(|config| config.flags |= there);
        let outcome = world.ingress(&Packet::tcp(outsider, frontend, SYN));
        assert_eq!((outcome.verdict, outcome.mark), (NEXT, MARK));
        let mut world = world_that_knows_pods();
        world.configure(|config| config.flags &= !there);
        world.service_with(frontend, TCP, &[local], LOCAL, MASQUERADE_REMOTE);
        assert_eq!(world.ingress(&Packet::tcp(outsider, frontend, SYN)).verdict, NEXT);
    }
}

#[test]
fn with_masquerade_all_everybody_is_masqueraded() {
    for [pod, _, frontend, local, _] in FAMILIES {
        let mut world = world_that_knows_pods();
        world.service_with(frontend, UDP, &[local], LOCAL, INTERNAL | MASQUERADE_ALL);
        assert_eq!(world.ingress(&Packet::udp(pod, frontend)).mark, MARK);
    }
}

/// It would not find the way back to the address that stands for itself, which this node alone knows.
#[test]
fn a_backend_of_another_node_that_is_its_own_client_is_masqueraded() {
    for [pod, _, frontend, _, _] in FAMILIES {
        let backend = pod.replace(":40000", ":8080");
        let mut world = world_that_knows_pods();
        world.service_with(frontend, TCP, &[&backend], 0, MASQUERADE_REMOTE);
        let outcome = world.ingress(&Packet::tcp(pod, frontend, SYN));
        assert_eq!((outcome.verdict, outcome.mark), (NEXT, MARK));
        let seen = outcome.packet();
        assert_eq!((seen.source, seen.destination), (pod.parse().unwrap(), backend.parse().unwrap()));
    }
}

/// A frontend with one pool for pods and another for outsiders.
fn split(world: &mut World, frontend: &str, inside: &[u32], outside: &[u32], flags: u32) {
    let (inside_offset, inside_length) = world.pool(inside);
    let (outside_offset, outside_length) = world.pool(outside);
    let value = FrontendValue {
        flags: SPLIT | flags,
        service: 9,
        inside_offset,
        inside_length,
        outside_offset,
        outside_length,
        ..FrontendValue::default()
    };
    world.frontend(frontend, TCP, value);
}

#[test]
fn local_policy_sends_pods_anywhere_and_outsiders_to_this_node() {
    for [pod, outsider, frontend, local, remote] in FAMILIES {
        let mut world = world_that_knows_pods();
        let local_id = world.backend(local.parse().unwrap(), LOCAL, TCP);
        let remote_id = world.backend(remote.parse().unwrap(), 0, TCP);
        split(&mut world, frontend, &[remote_id], &[local_id], 0);
        for (client, backend) in [(pod, remote), (outsider, local)] {
            let outcome = world.ingress(&Packet::tcp(client, frontend, SYN));
            assert_eq!((outcome.packet().destination, outcome.mark), (backend.parse().unwrap(), 0));
        }
    }
}

#[test]
fn pods_may_be_told_by_their_interface() {
    for [pod, _, frontend, local, remote] in FAMILIES {
        let mut world = World::new();
        world.configure(|config| config.flags |= PODS_BY_INTERFACE);
        // Test runs are on the loopback interface.
        world.interface(1, InterfaceValue { flags: POD, ..InterfaceValue::default() });
        let local_id = world.backend(local.parse().unwrap(), LOCAL, TCP);
        let remote_id = world.backend(remote.parse().unwrap(), 0, TCP);
        split(&mut world, frontend, &[remote_id], &[local_id], 0);
        let outcome = world.ingress(&Packet::tcp(pod, frontend, SYN));
        assert_eq!(outcome.packet().destination, remote.parse().unwrap());
    }
}

#[test]
fn an_empty_pool_drops_or_rejects_as_it_says() {
    for [pod, outsider, frontend, local, _] in FAMILIES {
        for (flags, pod_verdict, outsider_verdict) in
            [(0, DROP, DROP), (INSIDE_REJECT, REDIRECT, DROP), (OUTSIDE_REJECT, DROP, REDIRECT)]
        {
            let mut world = world_that_knows_pods();
            world.backend(local.parse().unwrap(), LOCAL, TCP);
            split(&mut world, frontend, &[], &[], flags);
            assert_eq!(world.ingress(&Packet::tcp(pod, frontend, SYN)).verdict, pod_verdict);
            assert_eq!(world.ingress(&Packet::tcp(outsider, frontend, SYN)).verdict, outsider_verdict);
        }
    }
}

fn allow(world: &mut World, service: u32, source: &str, bits: u32) {
    match source.parse().unwrap() {
        std::net::IpAddr::V4(address) => {
            let mut trie = LpmTrie::<_, [u32; 2], u32>::try_from(world.map(name::RANGES4)).unwrap();
            trie.insert(&Key::new(32 + bits, [service, word(address)]), 1, 0).unwrap();
        }
        std::net::IpAddr::V6(address) => {
            let mut trie = LpmTrie::<_, [u32; 5], u32>::try_from(world.map(name::RANGES6)).unwrap();
            let [a, b, c, d] = words(address);
            trie.insert(&Key::new(32 + bits, [service, a, b, c, d]), 1, 0).unwrap();
        }
    }
}

#[test]
fn sources_outside_of_every_range_are_dropped() {
    for ([pod, outsider, frontend, local, _], (range, bits)) in
        FAMILIES.into_iter().zip([("203.0.113.0", 24), ("2001:db8::", 32)])
    {
        let mut world = world_that_knows_pods();
        world.service_with(frontend, TCP, &[local], LOCAL, RANGES);
        let service = world.get_frontend(frontend, TCP).service;
        allow(&mut world, service + 1, "0.0.0.0", 0);
        allow(&mut world, service, range, bits);
        assert_eq!(world.ingress(&Packet::tcp(outsider, frontend, SYN)).verdict, NEXT);
        assert_eq!(world.ingress(&Packet::tcp(pod, frontend, SYN)).verdict, DROP);
        assert_eq!(world.counts()["drop_source_range"], 1);
    }
}

#[test]
fn frontends_for_sockets_leave_packets_alone() {
    for [pod, _, frontend, local, _] in FAMILIES {
        let mut world = World::new();
        world.service_with(frontend, TCP, &[local], LOCAL, SOCKET_ONLY);
        let packet = Packet::tcp(pod, frontend, SYN);
        assert_eq!(world.ingress(&packet).bytes, packet.build());
    }
}

fn ports(client: &str) -> impl Iterator<Item = String> {
    let address = client.rsplit_once(':').unwrap().0.to_owned();
    (41_000..41_040).map(move |port| format!("{address}:{port}"))
}

pub(crate) fn sticky(world: &mut World, frontend: &str, seconds: u32) {
    let value = FrontendValue { affinity_seconds: seconds, ..world.get_frontend(frontend, TCP) };
    world.frontend(frontend, TCP, value);
}

#[test]
fn a_client_keeps_its_backend_as_long_as_that_is_eligible() {
    for [pod, _, frontend, one, two] in FAMILIES {
        let mut world = World::new();
        let ids = world.service(frontend, TCP, &[one, two]);
        sticky(&mut world, frontend, 100);
        let reach = |world: &mut World, client: &str| {
            world.ingress(&Packet::tcp(client, frontend, SYN)).packet().destination
        };
        let first = reach(&mut world, pod);
        for client in ports(pod) {
            assert_eq!(reach(&mut world, &client), first);
        }
        // Still in the pool's memory, but not eligible any more.
        let (id, other) = if first == one.parse().unwrap() { (ids[0], two) } else { (ids[1], one) };
        world.set_backend(id, first, LOCAL, 1);
        let (inside_offset, inside_length) =
            world.pool(&ids.iter().copied().filter(|i| *i != id).collect::<Vec<_>>());
        let value = FrontendValue { inside_offset, inside_length, ..world.get_frontend(frontend, TCP) };
        world.frontend(frontend, TCP, value);
        for client in ports(pod).map(|client| client.replace(":41", ":42")) {
            assert_eq!(reach(&mut world, &client), other.parse().unwrap());
        }
        world.set_backend(id, first, LOCAL | ELIGIBLE_INTERNAL, 1);
    }
}

#[test]
fn affinity_ends_when_its_time_is_over() {
    let [pod, _, frontend, one, two] = FAMILIES[0];
    let mut world = World::new();
    world.service(frontend, TCP, &[one, two]);
    sticky(&mut world, frontend, 1);
    let mut reached = std::collections::BTreeSet::new();
    for client in ports(pod).take(8) {
        reached.insert(world.ingress(&Packet::tcp(&client, frontend, SYN)).packet().destination);
        thread::sleep(Duration::from_millis(1050));
    }
    assert_eq!(reached.len(), 2, "eight choices of two backends all fell on one");
}

#[test]
fn a_backend_that_is_its_own_client_reaches_itself_from_another_address() {
    for ([client, _, frontend, _, _], hairpin) in
        FAMILIES.into_iter().zip(["169.254.20.7:40000", "[fd00:ffff::7]:40000"])
    {
        let backend = client.replace(":40000", ":8080");
        let mut world = World::new();
        world.service(frontend, TCP, &[&backend]);
        for tcp in [SYN, ACK] {
            let sent = Packet::tcp(client, frontend, tcp);
            let outcome = world.ingress(&sent);
            assert_eq!(outcome.verdict, REDIRECT);
            let seen = outcome.packet();
            assert_eq!((seen.source, seen.destination), (hairpin.parse().unwrap(), backend.parse().unwrap()));
            assert_eq!(seen.hardware, [&sent.hardware[6..], &sent.hardware[..6]].concat());

            let answer = Packet { hardware: sent.hardware.clone(), ..seen.reply() };
            let outcome = world.ingress(&answer);
            assert_eq!(outcome.verdict, REDIRECT);
            let seen = outcome.packet();
            assert_eq!((seen.source, seen.destination), (frontend.parse().unwrap(), client.parse().unwrap()));
        }
        assert_eq!(world.flows(), (1, 0));
    }
}
