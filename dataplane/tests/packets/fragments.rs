//! Fragments: in order and not, of both directions, and of protocols whose checksum is in another fragment.

use shunt_abi::{
    backend::LOCAL,
    config::COUNT_SERVICES,
    frontend::{FrontendValue, INSIDE_REJECT, INTERNAL, WHOLE_ADDRESS},
    interface::InterfaceValue,
    name,
};

use crate::{
    packet::{Packet, SCTP, UDP, sum},
    world::{DROP, NEXT, REDIRECT, Run, World},
};

/// (client, frontend, backend) in both families.
const FAMILIES: [(&str, &str, &str); 2] = [
    ("10.244.1.5:40000", "10.96.0.10:80", "10.244.2.7:8080"),
    ("[fd00:1::5]:40000", "[fd00:96::10]:80", "[fd00:2::7]:8080"),
];

const FORWARDED: Run = Run { interface: 0, ingress_interface: 1, repeat: 0 };

/// The parts of a built IPv4 or IPv6 packet, cut into fragments of `size` bytes (a multiple of 8).
pub(crate) fn fragments(packet: &Packet, identification: u16, size: usize) -> Vec<Vec<u8>> {
    let bytes = packet.build();
    let v4 = packet.source.is_ipv4();
    let header = if v4 { 34 } else { 54 };
    let payload = &bytes[header..];
    payload
        .chunks(size)
        .enumerate()
        .map(|(index, part)| {
            let more = (index + 1) * size < payload.len();
            let mut fragment = bytes[..header].to_vec();
            let id = identification.to_be_bytes();
            if v4 {
                let offset = u16::try_from(index * size / 8).unwrap() | if more { 0x2000 } else { 0 };
                let total = u16::try_from(20 + part.len()).unwrap();
                fragment[16..18].copy_from_slice(&total.to_be_bytes());
                fragment[18..20].copy_from_slice(&id);
                fragment[20..22].copy_from_slice(&offset.to_be_bytes());
                fragment[24..26].fill(0);
                let checksum = !sum(&fragment[14..34]);
                fragment[24..26].copy_from_slice(&checksum.to_be_bytes());
            } else {
                let offset = u16::try_from(index * size).unwrap() | u16::from(more);
                let length = u16::try_from(8 + part.len()).unwrap();
                fragment[18..20].copy_from_slice(&length.to_be_bytes());
                fragment[20] = 44;
                fragment.extend([packet.protocol, 0]);
                fragment.extend(offset.to_be_bytes());
                fragment.extend([0, 0]);
                fragment.extend(id);
            }
            fragment.extend(part);
            fragment
        })
        .collect()
}

/// The packet that the fragments make, whatever their order.
pub(crate) fn reassemble(fragments: &[Vec<u8>], like: &Packet) -> Packet {
    let v4 = like.source.is_ipv4();
    let mut parts: Vec<_> = fragments
        .iter()
        .map(|fragment| {
            if v4 {
                assert_eq!(sum(&fragment[14..34]), 0xffff, "header checksum of a fragment");
                let offset = u16::from_be_bytes([fragment[20], fragment[21]]) & 0x1fff;
                (usize::from(offset) * 8, fragment[34..].to_vec())
            } else {
                let offset = u16::from_be_bytes([fragment[56], fragment[57]]) & 0xfff8;
                (usize::from(offset), fragment[62..].to_vec())
            }
        })
        .collect();
    parts.sort();
    let payload: Vec<u8> = parts.into_iter().flat_map(|(_, part)| part).collect();
    let mut bytes = fragments[0][..if v4 { 34 } else { 54 }].to_vec();
    if v4 {
        bytes[16..18].copy_from_slice(&u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
        bytes[20..22].fill(0);
        bytes[24..26].fill(0);
        let checksum = !sum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
    } else {
        bytes[18..20].copy_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        bytes[20] = like.protocol;
    }
    bytes.extend(payload);
    Packet::read(&bytes)
}

#[test]
fn fragments_follow_the_first_in_both_directions() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.service(frontend, UDP, &[backend]);
        for identification in 1..4 {
            let sent = Packet { payload: vec![0xab; 3000], ..Packet::udp(client, frontend) };
            let mut parts = fragments(&sent, identification, 1000);
            // After the first, any order.
            parts.swap(1, 3);
            let outcomes: Vec<_> =
                parts.iter().map(|part| world.run(name::INGRESS_PROGRAM, part, FORWARDED)).collect();
            assert!(outcomes.iter().all(|outcome| outcome.verdict == NEXT));
            let translated: Vec<_> = outcomes.into_iter().map(|outcome| outcome.bytes).collect();
            let arrived = reassemble(&translated, &sent);
            assert_eq!(arrived, Packet { destination: backend.parse().unwrap(), ..sent.clone() });

            let answer = fragments(&arrived.reply(), identification, 1000);
            let answered: Vec<_> =
                answer.iter().map(|part| world.run(name::EGRESS_PROGRAM, part, FORWARDED).bytes).collect();
            assert_eq!(reassemble(&answered, &sent), sent.reply());
        }
        assert_eq!(world.counts()["fragment"], 3 * 6);
    }
}

#[test]
fn fragments_behind_a_cluster_ip_are_dropped_unless_their_first_one_was_translated() {
    for (client, frontend, _) in FAMILIES {
        let mut world = World::new();
        let reject = FrontendValue { flags: INTERNAL | INSIDE_REJECT, ..FrontendValue::default() };
        world.frontend(frontend, UDP, FrontendValue { flags: INTERNAL, ..FrontendValue::default() });
        let address: std::net::SocketAddr = frontend.parse().unwrap();
        world.put_frontend(
            address.ip(),
            0,
            0,
            FrontendValue { flags: WHOLE_ADDRESS | reject.flags, ..reject },
        );
        let sent = Packet { payload: vec![1; 2000], ..Packet::udp(client, frontend) };
        // Nobody is behind the frontend, so the first is dropped, and with it the second; the other has no first.
        let dropped = fragments(&sent, 1, 1000);
        let without_first = fragments(&sent, 2, 1000);
        for part in [&dropped[0], &dropped[1], &without_first[1]] {
            assert_eq!(world.run(name::INGRESS_PROGRAM, part, FORWARDED).verdict, DROP);
        }
        assert_eq!((world.counts()["drop_no_local"], world.counts()["drop_fragment"]), (1, 2));
    }
}

#[test]
fn fragments_of_others_are_left_alone() {
    let mut world = World::new();
    world.service("10.96.0.10:80", UDP, &["10.244.2.7:8080"]);
    let strange = Packet { payload: vec![1; 2000], ..Packet::udp("10.244.1.5:40000", "10.244.9.9:80") };
    for part in fragments(&strange, 7, 800) {
        for program in [name::INGRESS_PROGRAM, name::EGRESS_PROGRAM] {
            let outcome = world.run(program, &part, FORWARDED);
            assert_eq!((outcome.verdict, outcome.bytes), (NEXT, part.clone()));
        }
    }
}

/// What becomes of fragments, which must all go on, and of the packet that they make.
pub(crate) fn pass(world: &mut World, program: &str, parts: &[Vec<u8>], like: &Packet) -> Packet {
    let outcomes: Vec<_> = parts.iter().map(|part| world.run(program, part, FORWARDED)).collect();
    assert!(outcomes.iter().all(|outcome| outcome.verdict == NEXT), "{outcomes:02x?}");
    let parts: Vec<_> = outcomes.into_iter().map(|outcome| outcome.bytes).collect();
    reassemble(&parts, like)
}

/// Nothing but Services is behind the frontend's address.
fn make_cluster_ip(world: &mut World, frontend: &str) {
    let address: std::net::SocketAddr = frontend.parse().unwrap();
    let value = FrontendValue { flags: WHOLE_ADDRESS | INSIDE_REJECT, ..FrontendValue::default() };
    world.put_frontend(address.ip(), 0, 0, value);
}

#[test]
fn a_fragment_ahead_of_its_first_follows_the_last_packet_between_the_same_hosts() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.configure(|config| config.flags |= COUNT_SERVICES);
        world.service(frontend, UDP, &[backend]);
        make_cluster_ip(&mut world, frontend);
        let sent = Packet { payload: vec![0xab; 3000], ..Packet::udp(client, frontend) };
        let to_backend = Packet { destination: backend.parse().unwrap(), ..sent.clone() };
        for identification in 1..4 {
            let mut parts = fragments(&sent, identification, 1000);
            let mut answer = fragments(&to_backend.reply(), identification, 1000);
            if identification > 1 {
                parts.reverse();
                answer.reverse();
            }
            assert_eq!(pass(&mut world, name::INGRESS_PROGRAM, &parts, &sent), to_backend);
            assert_eq!(pass(&mut world, name::EGRESS_PROGRAM, &answer, &sent), sent.reply());
        }
        let counts = world.counts();
        assert_eq!((counts["fragment"], counts["fragment_early"]), (18, 12));
        assert_eq!(world.traffic(1).packets, 24, "fragments count with their Service");
    }
}

#[test]
fn the_repetition_of_a_packet_that_was_lost_to_disorder_gets_through() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.service(frontend, UDP, &[backend]);
        make_cluster_ip(&mut world, frontend);
        let sent = Packet { payload: vec![0xab; 2000], ..Packet::udp(client, frontend) };
        let mut parts = fragments(&sent, 1, 1000);
        parts.reverse();
        let verdicts = parts.iter().map(|part| world.run(name::INGRESS_PROGRAM, part, FORWARDED).verdict);
        assert_eq!(verdicts.collect::<Vec<_>>(), [DROP, DROP, NEXT]);
        let mut again = fragments(&sent, 2, 1000);
        again.reverse();
        let arrived = pass(&mut world, name::INGRESS_PROGRAM, &again, &sent);
        assert_eq!(arrived.destination, backend.parse().unwrap());
    }
}

#[test]
fn disorder_at_an_address_that_others_may_have_too_is_left_to_them() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.service(frontend, UDP, &[backend]);
        let ours = Packet { payload: vec![0xab; 2000], ..Packet::udp(client, frontend) };
        pass(&mut world, name::INGRESS_PROGRAM, &fragments(&ours, 1, 1000), &ours);
        let other =
            Packet { payload: vec![0xab; 2000], ..Packet::udp(client, &frontend.replace(":80", ":53")) };
        let mut parts = fragments(&other, 2, 1000);
        parts.reverse();
        assert_eq!(pass(&mut world, name::INGRESS_PROGRAM, &parts, &other), other);
    }
}

#[test]
fn what_a_backend_sends_past_the_frontend_is_left_alone_in_disorder_too() {
    for (client, frontend, backend) in FAMILIES {
        let mut world = World::new();
        world.service(frontend, UDP, &[backend]);
        let sent = Packet { payload: vec![0xab; 2000], ..Packet::udp(client, frontend) };
        let arrived = pass(&mut world, name::INGRESS_PROGRAM, &fragments(&sent, 1, 1000), &sent);
        let answer = arrived.reply();
        assert_eq!(pass(&mut world, name::EGRESS_PROGRAM, &fragments(&answer, 1, 1000), &sent), sent.reply());
        let other =
            Packet { payload: vec![0xab; 2000], ..Packet::udp(&backend.replace(":8080", ":99"), client) };
        for (identification, is_reversed) in [(2, false), (3, true)] {
            let mut parts = fragments(&other, identification, 1000);
            if is_reversed {
                parts.reverse();
            }
            assert_eq!(pass(&mut world, name::EGRESS_PROGRAM, &parts, &other), other);
        }
    }
}

#[test]
fn replies_to_masqueraded_packets_are_not_taken_for_those_to_the_nodes_own() {
    for (_, frontend, backend) in FAMILIES {
        let node = if backend.starts_with('[') { "[2001:db8::2]:40000" } else { "192.0.2.2:40000" };
        let mut world = World::new();
        world.service(frontend, UDP, &[backend]);
        world.node_address(node.rsplit_once(':').unwrap().0.trim_matches(['[', ']']));
        world.host_egress(&Packet::udp(node, frontend));
        let own = Packet { payload: vec![0xab; 2000], ..Packet::udp(backend, node) };
        let answered: Vec<_> = fragments(&own, 1, 1000)
            .iter()
            .map(|part| world.run(name::INGRESS_PROGRAM, part, FORWARDED).bytes)
            .collect();
        assert_eq!(reassemble(&answered, &own).source, frontend.parse().unwrap());
        let masqueraded = Packet { destination: node.replace(":40000", ":50000").parse().unwrap(), ..own };
        for (identification, is_reversed) in [(2, false), (3, true)] {
            let mut parts = fragments(&masqueraded, identification, 1000);
            if is_reversed {
                parts.reverse();
            }
            assert_eq!(pass(&mut world, name::INGRESS_PROGRAM, &parts, &masqueraded), masqueraded);
        }
    }
}

#[test]
fn fragments_of_replies_to_this_node_go_where_the_first_one_goes() {
    /// Of the loopback interface, by which what goes to the node's own address leaves.
    const LOOPBACK: u32 = 77;
    for (_, frontend, backend) in FAMILIES {
        let node = if backend.starts_with('[') { "[2001:db8::2]:40000" } else { "192.0.2.2:40000" };
        let mut world = World::new();
        world.interface(LOOPBACK, InterfaceValue { address: [7; 6], ..InterfaceValue::default() });
        world.service(frontend, UDP, &[backend]);
        world.node_address(node.rsplit_once(':').unwrap().0.trim_matches(['[', ']']));
        world.host_egress(&Packet::udp(node, frontend));
        world.set_interface_of_flows(LOOPBACK);
        let reply = Packet { payload: vec![0xab; 4000], ..Packet::udp(backend, node) };
        for part in fragments(&reply, 1, 1000) {
            let outcome = world.run(name::INGRESS_PROGRAM, &part, FORWARDED);
            assert_eq!((outcome.verdict, &outcome.bytes[..6]), (REDIRECT, &[7; 6][..]));
        }
    }
}

#[test]
fn fragments_of_a_backend_to_itself_go_back_to_it_in_both_directions() {
    for ((client, frontend, _), hairpin) in
        FAMILIES.into_iter().zip(["169.254.20.7:40000", "[fd00:ffff::7]:40000"])
    {
        let backend = client.replace(":40000", ":8080");
        let mut world = World::new();
        world.service(frontend, UDP, &[&backend]);
        let sent = Packet { payload: vec![0xab; 2000], ..Packet::udp(client, frontend) };
        let seen = Packet {
            source: hairpin.parse().unwrap(),
            destination: backend.parse().unwrap(),
            ..sent.clone()
        };
        for (packet, expected) in [(&sent, &seen), (&seen.reply(), &sent.reply())] {
            let outcomes: Vec<_> = fragments(packet, 1, 1000)
                .iter()
                .map(|part| world.run(name::INGRESS_PROGRAM, part, FORWARDED))
                .collect();
            assert!(outcomes.iter().all(|outcome| outcome.verdict == REDIRECT), "{outcomes:02x?}");
            let parts: Vec<_> = outcomes.into_iter().map(|outcome| outcome.bytes).collect();
            let arrived = reassemble(&parts, &sent);
            assert_eq!((arrived.source, arrived.destination), (expected.source, expected.destination));
        }
    }
}

#[test]
fn fragmented_sctp_is_translated_where_the_port_stays_and_dropped_where_its_checksum_cannot_follow() {
    for (client, frontend, backend) in FAMILIES {
        let sent = Packet { flags: 1, payload: vec![0x5a; 2000], ..Packet::new(SCTP, client, frontend) };
        let same_port = backend.replace(":8080", ":80");
        let mut world = World::new();
        world.service_with(frontend, SCTP, &[&same_port], LOCAL, INTERNAL);
        let arrived = pass(&mut world, name::INGRESS_PROGRAM, &fragments(&sent, 1, 1000), &sent);
        assert_eq!(arrived.destination, same_port.parse().unwrap());
        let answer = arrived.reply().with_flags(2);
        let seen = pass(&mut world, name::EGRESS_PROGRAM, &fragments(&answer, 1, 1000), &answer);
        assert_eq!(seen, sent.reply().with_flags(2));

        let mut world = World::new();
        world.service(frontend, SCTP, &[backend]);
        let whole = world.ingress(&Packet { payload: vec![1; 20], ..sent.clone() });
        let answer = Packet { payload: vec![1; 2000], ..whole.packet().reply() }.with_flags(2);
        for (program, packet) in [(name::INGRESS_PROGRAM, &sent), (name::EGRESS_PROGRAM, &answer)] {
            for part in fragments(packet, 2, 1000) {
                assert_eq!(world.run(program, &part, FORWARDED).verdict, DROP);
            }
        }
        assert_eq!(world.counts()["drop_fragment"], 6);
    }
}
