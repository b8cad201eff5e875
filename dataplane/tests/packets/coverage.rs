//! Every counter and every kind of verdict, provoked: the table below, which must not leave one out.
//! `cargo test -p shunt --test packets -- --nocapture every_counter` prints it as a report.

use std::{collections::BTreeSet, process::Command, thread};

use shunt_abi::{
    backend::LOCAL,
    config::{ADOPT_MIDSTREAM, MASQUERADES4, MASQUERADES6},
    counter::Counter,
    frontend::{FrontendValue, INSIDE_REJECT, INTERNAL, MASQUERADE_ALL, RANGES, WHOLE_ADDRESS},
    interface::InterfaceValue,
    name,
};

use crate::{
    conflicts,
    forms::icmp_error,
    fragments::fragments,
    packet::{ACK, Packet, SYN, TCP, UDP},
    policies::sticky,
    shortcuts, sockets,
    unanswered::with_ranges,
    world::{DROP, NEXT, Outcome, REDIRECT, Run, World},
};

/// Who is there, in one family.
struct Case {
    client: &'static str,
    frontend: &'static str,
    other_frontend: &'static str,
    nobody: &'static str,
    backend: &'static str,
    other_backend: &'static str,
    unreachable: &'static str,
}

const FAMILIES: [Case; 2] = [
    Case {
        client: "10.244.1.5:40000",
        frontend: "10.96.0.10:80",
        other_frontend: "10.96.0.10:81",
        nobody: "10.96.0.11:80",
        backend: "10.244.2.7:8080",
        other_backend: "10.244.2.8:8080",
        unreachable: "10.244.3.7:8080",
    },
    Case {
        client: "[fd00:1::5]:40000",
        frontend: "[fd00:96::10]:80",
        other_frontend: "[fd00:96::10]:81",
        nobody: "[fd00:96::11]:80",
        backend: "[fd00:2::7]:8080",
        other_backend: "[fd00:2::8]:8080",
        unreachable: "[fd00:3::7]:8080",
    },
];

const FORWARDED: Run = Run { interface: 0, ingress_interface: 1, repeat: 0 };

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Untouched,
    Translated,
    Marked,
    Redirected,
    Dropped,
}

const KINDS: [Kind; 5] = [Kind::Untouched, Kind::Translated, Kind::Marked, Kind::Redirected, Kind::Dropped];

impl Kind {
    fn of(sent: &[u8], outcome: &Outcome) -> Self {
        match outcome.verdict {
            DROP => Self::Dropped,
            REDIRECT => Self::Redirected,
            NEXT if outcome.mark != 0 => Self::Marked,
            NEXT if outcome.bytes == sent => Self::Untouched,
            NEXT => Self::Translated,
            other => panic!("verdict {other}"),
        }
    }
}

/// Makes a packet meet its fate, in a world that has nothing else: the last packet and what became of it.
type Provocation = fn(&mut World, &Case) -> (Vec<u8>, Outcome);

fn enter(world: &mut World, packet: &Packet) -> (Vec<u8>, Outcome) {
    let outcome = world.ingress(packet);
    (packet.build(), outcome)
}

fn enter_bytes(world: &mut World, bytes: &[u8]) -> (Vec<u8>, Outcome) {
    (bytes.to_vec(), world.run(name::INGRESS_PROGRAM, bytes, FORWARDED))
}

fn syn(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    world.service(case.frontend, TCP, &[case.backend]);
    enter(world, &Packet::tcp(case.client, case.frontend, SYN))
}

fn syn_and_ack(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    syn(world, case);
    enter(world, &Packet::tcp(case.client, case.frontend, ACK))
}

/// With one place for each CPU, two of so many have the same.
fn evicting(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    syn(world, case);
    for port in 0..=aya::util::nr_cpus().unwrap() {
        let client = case.client.replace(":40000", &format!(":{}", 50_000 + port));
        world.ingress(&Packet::tcp(&client, case.frontend, SYN));
    }
    syn(world, case)
}

/// A flow has the only element, and stays.
fn overfull(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    syn_and_ack(world, case);
    enter(world, &Packet::tcp(&case.client.replace(":40000", ":40001"), case.frontend, SYN))
}

fn reply(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    let answer = syn(world, case).1.packet().reply();
    let outcome = world.egress(&answer);
    (answer.build(), outcome)
}

fn midstream(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    world.service(case.frontend, TCP, &[case.backend]);
    enter(world, &Packet::tcp(case.client, case.frontend, ACK))
}

fn adopted(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    world.configure(|config| config.flags |= ADOPT_MIDSTREAM);
    midstream(world, case)
}

fn moved(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    let ids = world.service(case.frontend, UDP, &[case.backend]);
    let packet = Packet::udp(case.client, case.frontend);
    world.ingress(&packet);
    world.set_backend(ids[0], case.backend.parse().unwrap(), 0, 2);
    world.service(case.frontend, UDP, &[case.other_backend]);
    enter(world, &packet)
}

fn other_host(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    world.service(case.frontend, TCP, &[case.backend]);
    let hardware = vec![2, 0, 0, 0, 0, 0x77, 2, 0, 0, 0, 0, 9];
    enter(world, &Packet { hardware, ..Packet::tcp(case.client, case.frontend, SYN) })
}

fn masqueraded(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    world.configure(|config| config.flags |= MASQUERADES4 | MASQUERADES6);
    masquerading(world, case)
}

fn masquerading(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    world.service_with(case.frontend, TCP, &[case.backend], LOCAL, INTERNAL | MASQUERADE_ALL);
    enter(world, &Packet::tcp(case.client, case.frontend, SYN))
}

/// The rule that would masquerade is not there.
fn unmasqueraded(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    world.configure(|config| config.flags &= !(MASQUERADES4 | MASQUERADES6));
    masquerading(world, case)
}

fn hairpin(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    world.service(case.frontend, TCP, &[&case.client.replace(":40000", ":8080")]);
    enter(world, &Packet::tcp(case.client, case.frontend, SYN))
}

fn from_host(world: &mut World, case: &Case, backend: &str) -> (Vec<u8>, Outcome) {
    world.interface(1, InterfaceValue::default());
    world.service(case.frontend, TCP, &[backend]);
    let packet = Packet::tcp(case.client, case.frontend, SYN);
    let outcome = world.host_egress(&packet);
    (packet.build(), outcome)
}

fn affinity(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    world.service(case.frontend, TCP, &[case.backend, case.other_backend]);
    sticky(world, case.frontend, 100);
    world.ingress(&Packet::tcp(case.client, case.frontend, SYN));
    enter(world, &Packet::tcp(&case.client.replace(":40000", ":40001"), case.frontend, SYN))
}

fn error(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    let translated = syn(world, case).1.packet();
    let host = |socket: &str| socket.rsplit_once(':').unwrap().0.to_owned();
    let kind = if case.client.starts_with('[') { [2, 0] } else { [3, 4] };
    let bytes = icmp_error(&host(case.backend), &host(case.client), &translated, kind);
    let outcome = world.run(name::EGRESS_PROGRAM, &bytes, FORWARDED);
    (bytes, outcome)
}

/// Fragments of two packets, of which the first is run in order, and of the second `which`.
fn cut(world: &mut World, case: &Case, which: Option<usize>) -> (Vec<u8>, Outcome) {
    world.service(case.frontend, UDP, &[case.backend]);
    let packet = Packet { payload: vec![1; 1500], ..Packet::udp(case.client, case.frontend) };
    let first = fragments(&packet, 1, 800);
    enter_bytes(world, &first[0]);
    let last = enter_bytes(world, &first[1]);
    whole_address(world, case);
    which.map_or(last, |which| enter_bytes(world, &fragments(&packet, 2, 800)[which]))
}

fn fragment_of_nothing(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    world.service(case.frontend, UDP, &[case.backend]);
    whole_address(world, case);
    let packet = Packet { payload: vec![1; 1500], ..Packet::udp(case.client, case.frontend) };
    enter_bytes(world, &fragments(&packet, 1, 800)[1])
}

fn whole_address(world: &mut World, case: &Case) {
    with_ranges(world);
    let address: std::net::SocketAddr = case.frontend.parse().unwrap();
    let value = FrontendValue { flags: WHOLE_ADDRESS | INSIDE_REJECT, ..FrontendValue::default() };
    world.put_frontend(address.ip(), 0, 0, value);
}

fn unserved(world: &mut World, case: &Case, flags: u32) -> (Vec<u8>, Outcome) {
    world.frontend(case.frontend, TCP, FrontendValue { flags, service: 1, ..FrontendValue::default() });
    enter(world, &Packet::tcp(case.client, case.frontend, SYN))
}

fn wrong_port(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    whole_address(world, case);
    enter(world, &Packet::tcp(case.client, case.frontend, SYN))
}

fn unallocated(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    whole_address(world, case);
    enter(world, &Packet::tcp(case.client, case.nobody, SYN))
}

fn out_of_range(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    world.service_with(case.frontend, TCP, &[case.backend], LOCAL, INTERNAL | RANGES);
    enter(world, &Packet::tcp(case.client, case.frontend, SYN))
}

fn remapped(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    syn_and_ack(world, case);
    world.service(case.other_frontend, TCP, &[case.backend]);
    enter(world, &Packet::tcp(case.client, case.other_frontend, SYN))
}

/// Every port that the backend might see is taken.
fn conflict(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    world.service(case.frontend, TCP, &[case.backend]);
    world.service(case.other_frontend, TCP, &[case.backend]);
    for client in conflicts::privileged_ports(case.client) {
        world.ingress(&Packet::tcp(&client, case.frontend, SYN));
    }
    let client = case.client.replace(":40000", ":700");
    enter(world, &Packet::tcp(&client, case.other_frontend, SYN))
}

fn names_nobody(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    let (inside_offset, inside_length) = world.pool(&[0]);
    let value = FrontendValue {
        flags: INTERNAL,
        service: 1,
        inside_offset,
        inside_length,
        ..FrontendValue::default()
    };
    world.frontend(case.frontend, TCP, value);
    enter(world, &Packet::tcp(case.client, case.frontend, SYN))
}

/// It ends between the flags and the checksum.
fn cut_off(world: &mut World, case: &Case) -> (Vec<u8>, Outcome) {
    world.service(case.frontend, TCP, &[case.backend]);
    let mut bytes = Packet { payload: Vec::new(), ..Packet::tcp(case.client, case.frontend, SYN) }.build();
    bytes.truncate(bytes.len() - 4);
    enter_bytes(world, &bytes)
}

/// Counters of packets: what becomes of the packet that provokes each.
const PROVOCATIONS: &[(Counter, Kind, Provocation)] = &[
    (Counter::Forward, Kind::Translated, syn),
    (Counter::Reverse, Kind::Translated, reply),
    (Counter::FlowNew, Kind::Translated, syn),
    (Counter::FlowAdopted, Kind::Translated, adopted),
    (Counter::FlowEstablished, Kind::Translated, syn_and_ack),
    (Counter::FlowsFull, Kind::Translated, syn_and_ack),
    (Counter::FlowEvicted, Kind::Translated, evicting),
    (Counter::DropFlowsFull, Kind::Dropped, overfull),
    (Counter::FlowMoved, Kind::Translated, moved),
    (Counter::FlowRemapped, Kind::Translated, remapped),
    (Counter::MidstreamLeft, Kind::Untouched, midstream),
    (Counter::OtherHost, Kind::Untouched, other_host),
    (Counter::Masqueraded, Kind::Marked, masqueraded),
    (Counter::Hairpin, Kind::Redirected, hairpin),
    (Counter::HostRedirect, Kind::Redirected, |world, case| from_host(world, case, case.backend)),
    (Counter::AffinityHit, Kind::Translated, affinity),
    (Counter::IcmpError, Kind::Translated, error),
    (Counter::Fragment, Kind::Translated, |world, case| cut(world, case, None)),
    (Counter::FragmentEarly, Kind::Translated, |world, case| cut(world, case, Some(1))),
    (Counter::Rejected, Kind::Redirected, |world, case| unserved(world, case, INTERNAL | INSIDE_REJECT)),
    (Counter::RejectedPort, Kind::Redirected, wrong_port),
    (Counter::DropNoLocal, Kind::Dropped, |world, case| unserved(world, case, INTERNAL)),
    (Counter::DropSourceRange, Kind::Dropped, out_of_range),
    (Counter::DropUnallocated, Kind::Dropped, unallocated),
    (Counter::DropFragment, Kind::Dropped, fragment_of_nothing),
    (Counter::DropConflict, Kind::Dropped, conflict),
    (Counter::DropNoBackend, Kind::Dropped, names_nobody),
    (Counter::DropNoRoute, Kind::Dropped, |world, case| from_host(world, case, case.unreachable)),
    (Counter::DropRewrite, Kind::Dropped, cut_off),
    (Counter::DropUnmasqueraded4, Kind::Dropped, unmasqueraded),
    (Counter::DropUnmasqueraded6, Kind::Dropped, unmasqueraded),
];

/// Counters of sockets.
const SOCKETS: [(Counter, &str); 4] = [
    (Counter::SocketConnect, "tcp"),
    (Counter::SocketSend, "unconnected"),
    (Counter::SocketReceive, "unconnected"),
    (Counter::SocketRefused, "tcp"),
];

/// Routes of a node: to everybody, but not to one.
const ROUTES: [&str; 4] = [
    "ip link set lo up",
    "sysctl -qw net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1",
    "ip route add unreachable 10.244.3.0/24",
    "ip route add unreachable fd00:3::/64",
];

/// The world that a counter of what is full needs.
fn small_world(counter: Counter) -> Option<World> {
    let cpus = u32::try_from(aya::util::nr_cpus().unwrap()).unwrap().next_power_of_two();
    match counter {
        Counter::FlowsFull => {
            let mut world = World::new();
            world.limit_established(0);
            Some(world)
        }
        Counter::FlowEvicted => {
            Some(World::with_capacities(&[(name::HALF_OPEN4, cpus), (name::HALF_OPEN6, cpus)]))
        }
        Counter::DropFlowsFull => Some(World::with_capacities(&[(name::FLOWS4, 1), (name::FLOWS6, 1)])),
        _ => None,
    }
}

fn provoke(world: &mut World, counter: Counter, expected: Kind, provocation: Provocation) {
    for (case, times) in FAMILIES.iter().zip(1..) {
        let times = match counter {
            Counter::DropUnmasqueraded4 => 1,
            Counter::DropUnmasqueraded6 => times - 1,
            _ => times,
        };
        let (sent, outcome) = provocation(world, case);
        assert_eq!(Kind::of(&sent, &outcome), expected, "{counter:?}: {outcome:02x?}");
        let count = world.counts().get(counter.label()).copied().unwrap_or(0);
        assert!(count >= times, "{counter:?} of {}: {count}", case.client);
    }
    println!("| {} | {expected:?} |", counter.label());
}

fn provoke_with_sockets() {
    sockets::in_world(|world, cgroup| {
        for (counter, kind) in SOCKETS {
            for (frontend, backend) in sockets::FAMILIES {
                let protocol = if kind == "tcp" { TCP } else { UDP };
                if counter == Counter::SocketRefused {
                    let value = FrontendValue { flags: INTERNAL | INSIDE_REJECT, ..FrontendValue::default() };
                    world.frontend(frontend, protocol, value);
                } else {
                    world.service(frontend, protocol, &[backend]);
                }
                let before = world.counts().get(counter.label()).copied().unwrap_or(0);
                sockets::ask(cgroup, kind, frontend);
                assert!(world.counts()[counter.label()] > before, "{counter:?} of {frontend}");
            }
            println!("| {} | a socket |", counter.label());
        }
    });
}

#[test]
fn every_counter_and_every_kind_of_verdict_is_provoked() {
    let packets = PROVOCATIONS.iter().map(|(counter, ..)| *counter);
    let sockets = SOCKETS.iter().map(|(counter, _)| *counter);
    // It takes interfaces, routes and neighbours.
    assert_eq!(shortcuts::provoke_acceleration(), 2);
    let provoked: BTreeSet<_> = packets.chain(sockets).chain([Counter::Accelerated]).collect();
    assert_eq!(provoked, Counter::ALL.iter().copied().collect(), "the table leaves one out");
    let kinds: BTreeSet<_> = PROVOCATIONS.iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(kinds, KINDS.into());
    println!("| counter | what became of the packet |\n|---|---|");
    thread::scope(|scope| {
        scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
            for line in ROUTES {
                let mut words = line.split(' ');
                let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
                assert!(output.status.success(), "{line}: {output:?}");
            }
            let mut world = World::new();
            for (counter, kind, provocation) in PROVOCATIONS {
                if let Some(mut small) = small_world(*counter) {
                    provoke(&mut small, *counter, *kind, *provocation);
                    continue;
                }
                provoke(&mut world, *counter, *kind, *provocation);
                world.clear();
            }
        });
    });
    provoke_with_sockets();
}
