//! Nanoseconds of a program's run, on top of an empty one's. Run by hand: other work on the machine shows in them.
//! `cargo test --release -p shunt --test packets -- --ignored --nocapture speed`

use std::{hint::black_box, net::UdpSocket};

use shunt_abi::{config::COUNT_SERVICES, name};

use crate::{
    packet::{ACK, Packet, SYN, TCP},
    world::{Run, World},
};

/// Runs within one test run, and test runs of which the median counts.
const REPEAT: u32 = 200_000;
const SERIES: usize = 9;
/// Runs of which each meets other caches, and bytes that are read before it: more than the nearest caches hold.
const PASSING_RUNS: usize = 4_000;
const PASSING_MEMORY: usize = 2 * 1024 * 1024;

/// IP version; client, frontend, backend, and what is none of ours.
const ADDRESSES: [(&str, &str, &str, &str, &str); 2] = [
    ("IPv4", "10.244.1.5", "10.96.0.10:80", "10.244.2.7:8080", "10.244.9.9:80"),
    ("IPv6", "[fd00:1::5]", "[fd00:96::10]:80", "[fd00:2::7]:8080", "[fd00:9::9]:80"),
];

fn hot(world: &mut World, program: &str, packet: &Packet, run: Run) -> u128 {
    let bytes = packet.build();
    let mut times: Vec<_> = (0..SERIES)
        .map(|_| world.run(program, &bytes, Run { repeat: REPEAT, ..run }).duration.as_nanos())
        .collect();
    times.sort_unstable();
    times[SERIES / 2]
}

/// Median of test runs of one run each, on as many packets.
fn single(world: &mut World, program: &str, packets: &[Packet], run: Run) -> u128 {
    let mut times: Vec<_> =
        packets.iter().map(|packet| world.run(program, &packet.build(), run).duration.as_nanos()).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Mean of single runs between which the CPU did what pushes programs and maps out of its nearest caches: a conversation
/// through the kernel, and reading memory. Without the slowest tenth, which others interrupted.
fn in_passing(world: &mut World, program: &str, packet: &Packet, run: Run) -> i128 {
    let (socket, memory) = (UdpSocket::bind("127.0.0.1:0").unwrap(), vec![1_u8; PASSING_MEMORY]);
    let (own, bytes, mut buffer) = (socket.local_addr().unwrap(), packet.build(), [0; 64]);
    let mut times: Vec<_> = (0..PASSING_RUNS)
        .map(|_| {
            socket.send_to(&[0; 16], own).unwrap();
            socket.recv_from(&mut buffer).unwrap();
            black_box(memory.iter().step_by(64).map(|byte| u32::from(*byte)).sum::<u32>());
            world.run(program, &bytes, run).duration.as_nanos()
        })
        .collect();
    times.sort_unstable();
    times.truncate(PASSING_RUNS / 10 * 9);
    i128::try_from(times.iter().sum::<u128>() / times.len() as u128).unwrap()
}

/// What packets cost that come one by one, as they do, instead of over and over.
#[test]
#[ignore = "a measurement, not a check"]
fn nanoseconds_of_packets_that_come_one_by_one() {
    for (family, client, frontend, backend, other) in ADDRESSES {
        let mut world = World::new();
        world.service(frontend, TCP, &[backend]);
        let forwarded = Run { ingress_interface: 1, ..Run::default() };
        let syn = Packet::tcp(&format!("{client}:40000"), frontend, SYN);
        world.ingress(&syn);
        let ack = syn.with_flags(ACK);
        world.ingress(&ack);
        let reply = Packet::tcp(backend, &format!("{client}:40000"), ACK);
        let strange = Packet::tcp(&format!("{client}:40000"), other, ACK);
        let empty = in_passing(&mut world, name::EMPTY_PROGRAM, &ack, forwarded);
        println!("{family}: empty {empty}");
        for (what, program, packet) in [
            ("established", name::INGRESS_PROGRAM, &ack),
            ("reply", name::EGRESS_PROGRAM, &reply),
            ("not ours, ingress", name::INGRESS_PROGRAM, &strange),
            ("not ours, egress", name::EGRESS_PROGRAM, &strange),
        ] {
            let time = in_passing(&mut world, program, packet, forwarded);
            println!("{family}: {what}: {} ns, net", time - empty);
        }
    }
}

/// Instructions that the verifier looked at, for each program.
#[test]
#[ignore = "a measurement, not a check"]
fn instructions_verified() {
    for (program, instructions) in World::new().verified() {
        println!("{program}: {instructions}");
    }
}

#[test]
#[ignore = "a measurement, not a check"]
fn nanoseconds_of_each_program() {
    for (family, client, frontend, backend, other) in ADDRESSES {
        let mut world = World::new();
        let forwarded = Run { ingress_interface: 1, ..Run::default() };
        // The rewritten packet is the same packet, so that it stays a hit for a hundred thousand runs.
        world.service(frontend, TCP, &[frontend]);
        let other_backend = &backend.replace(":8080", ":9090");
        world.service(&frontend.replace(":80", ":81"), TCP, &[other_backend]);
        let many = format!("{client}:40000");
        let syn = Packet::tcp(&many, frontend, SYN);
        world.ingress(&syn);
        let ack = syn.with_flags(ACK);
        world.ingress(&ack);
        let strange = Packet::tcp(&many, other, ACK);
        let empty = hot(&mut world, name::EMPTY_PROGRAM, &ack, forwarded);
        let empty_single = single(&mut world, name::EMPTY_PROGRAM, &vec![ack.clone(); 4001], forwarded);
        println!("{family}: empty {empty} hot, {empty_single} single");
        let mut line = |what: &str, program: &str, packet: &Packet| {
            let time = hot(&mut world, program, packet, forwarded);
            println!("{family}: {what}: {} ns hot, net", time - empty);
        };
        line("established", name::INGRESS_PROGRAM, &ack);
        line("reply", name::EGRESS_PROGRAM, &ack.reply());
        let direct = Packet::tcp(&many, other_backend, ACK);
        line("directly to a backend, ingress", name::INGRESS_PROGRAM, &direct);
        line("not ours, ingress", name::INGRESS_PROGRAM, &strange);
        line("not ours, egress", name::EGRESS_PROGRAM, &strange);
        world.configure(|config| config.flags |= COUNT_SERVICES);
        let mut line = |what: &str, program: &str, packet: &Packet| {
            let time = hot(&mut world, program, packet, forwarded);
            println!("{family}: {what}, its Service counted: {} ns hot, net", time - empty);
        };
        line("established", name::INGRESS_PROGRAM, &ack);
        line("reply", name::EGRESS_PROGRAM, &ack.reply());
        let (first, second) = beginnings(client, frontend, backend);
        let (first, second) = (first - empty_single, second - empty_single);
        println!("{family}: first packet {first}, establishing {second}: few flows, single, net");
        let mut world = World::new();
        world.service(frontend, TCP, &[backend]);
        let flows = packets(client, frontend);
        let begin = single(&mut world, name::INGRESS_PROGRAM, &flows, forwarded);
        let acks: Vec<_> = flows.iter().map(|packet| packet.with_flags(ACK)).collect();
        let promote = single(&mut world, name::INGRESS_PROGRAM, &acks, forwarded);
        let follow = single(&mut world, name::INGRESS_PROGRAM, &acks, forwarded);
        println!(
            "{family}: single, net: first packet {}, establishing {}, established with another port {}",
            begin - empty_single,
            promote - empty_single,
            follow - empty_single
        );
    }
}

/// Medians of single runs on the first packet of a flow and on the one that establishes it: few flows, forgotten and begun
/// again, so that what they touch stays in the CPU's caches.
fn beginnings(client: &str, frontend: &str, backend: &str) -> (u128, u128) {
    let mut world = World::new();
    world.service(frontend, TCP, &[backend]);
    let requests: Vec<_> = packets(client, frontend).into_iter().take(64).collect();
    let run = Run { ingress_interface: 1, ..Run::default() };
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..64 {
        for (flags, times) in [SYN, ACK].into_iter().zip(&mut times) {
            for packet in &requests {
                let bytes = packet.with_flags(flags).build();
                times.push(world.run(name::INGRESS_PROGRAM, &bytes, run).duration.as_nanos());
            }
        }
        world.forget_flows();
    }
    let [first, second] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    (first, second)
}

fn packets(client: &str, frontend: &str) -> Vec<Packet> {
    (20_000..24_001).map(|port| Packet::tcp(&format!("{client}:{port}"), frontend, SYN)).collect()
}
