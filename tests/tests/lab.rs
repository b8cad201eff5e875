//! The lab: packets go where the links say, and nothing is left behind.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shunt_tests::lab::{
    Attempt, Cluster, Dial, Namespace, Outcome, PodLink, Protocol, Surroundings, unique_name,
};

fn answer(attempt: Attempt) -> (SocketAddr, SocketAddr) {
    match attempt.outcome {
        Outcome::Answer(answer) if answer.problem.is_none() => (answer.local, answer.peer),
        other => panic!("no good answer: {other:?}"),
    }
}

fn names_of(process: u32) -> Vec<String> {
    let mine = |name: &String| name.starts_with(&format!("shuntlab{process}-"));
    let directories = ["/run/netns".into(), std::env::temp_dir()];
    let entries = directories.iter().filter_map(|path| std::fs::read_dir(path).ok()).flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(mine).collect()
}

#[test]
fn pods_routed_and_bridged_and_outside_hosts_reach_each_other() {
    let cluster = Cluster::create().expect("a cluster");
    let net = |text: &str| text.parse().expect("a network");
    let node = cluster.node("node-a", &[net("192.168.50.10/24"), net("fd00:50::10/64")]).expect("a node");
    let client = cluster.host("client", &[net("192.168.50.200/24"), net("fd00:50::200/64")]).expect("a host");
    client
        .ip(&["route add 10.244.0.0/16 via 192.168.50.10", "route add fd00:244::/32 via fd00:50::10"])
        .expect("routes");
    node.add_bridge(&[net("10.244.1.1/24"), net("fd00:244:1::1/64")]).expect("a bridge");
    let gateways = ["10.244.1.1", "fd00:244:1::1"].map(|text| text.parse().expect("an address"));
    let bridged = node
        .pod("bridged", PodLink::Bridge, &[net("10.244.1.5/24"), net("fd00:244:1::5/64")], &gateways)
        .expect("a pod");
    let routed = node
        .pod("routed", PodLink::Routed, &[net("10.244.2.5/32"), net("fd00:244:2::5/128")], &[])
        .expect("a pod");
    let hosts = [&client, bridged.host(), routed.host(), node.host()];
    for host in hosts {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            host.listen(protocol, 7).expect("listens");
        }
    }
    for (from, to) in hosts.iter().flat_map(|from| hosts.iter().map(move |to| (from, to))) {
        for (source, address) in from.addresses().iter().zip(to.addresses()) {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                let to = SocketAddr::new(*address, 7);
                let (local, peer) = answer(from.ask(protocol, to).expect("asks"));
                // The node chooses among its addresses.
                let chooses = Arc::ptr_eq(from.namespace(), node.host().namespace());
                assert_eq!((local, chooses || peer.ip() == *source), (to, true), "{protocol:?} {peer}");
            }
        }
    }
}

#[test]
fn silence_refusal_and_large_datagrams_are_told_apart() {
    let cluster = Cluster::create().expect("a cluster");
    let server = cluster.host("server", &["192.168.50.1/24".parse().expect("a network")]).expect("a host");
    let client = cluster.host("client", &["192.168.50.2/24".parse().expect("a network")]).expect("a host");
    server.listen(Protocol::Udp, 7).expect("listens");
    let to = |port| SocketAddr::new("192.168.50.1".parse::<IpAddr>().expect("an address"), port);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let attempt = client.ask(protocol, to(8)).expect("asks");
        assert!(matches!(attempt.outcome, Outcome::Rejected(_)), "{attempt:?}");
    }
    let large = Dial { payload: 9000, reply_size: 20_000, ..Dial::new(Protocol::Udp, to(7)) };
    answer(client.ask_often(large, 1).expect("asks").remove(0));
    server.ip(&["route add blackhole 192.168.50.2/32"]).expect("a route");
    let short = Dial::new(Protocol::Tcp, to(8)).patience(Duration::from_millis(200));
    let attempt = client.ask_often(short, 1).expect("asks").remove(0);
    assert_eq!(attempt.outcome, Outcome::Timeout);
}

#[test]
fn a_program_sees_the_namespace_in_sys_and_the_cgroups_and_bpf_in_their_places() {
    let unique = unique_name();
    let namespace = Arc::new(Namespace::create(&unique, "node").expect("a namespace"));
    let place = Surroundings::create(&unique, &namespace).expect("surroundings");
    assert_eq!(place.output("ls", &["/sys/class/net"]).expect("runs").trim(), "lo");
    assert_eq!(place.output("stat", &["-fc", "%T", "/sys/fs/bpf"]).expect("runs").trim(), "bpf_fs");
    let cgroup = place.cgroup().expect("a cgroup").path().to_str().expect("text").to_owned();
    assert!(place.output("cat", &[&format!("{cgroup}/cgroup.procs")]).is_ok());
    // What one program pins is there for the next, and nowhere else.
    let kept = "/sys/fs/bpf/kept";
    place.output("mkdir", &[kept]).expect("runs");
    place.output("rmdir", &[kept]).expect("it is still there");
    assert!(!Path::new(kept).exists());
    let log = place.directory().join("log");
    let mut program = place.start(&["sleep".into(), "1000".into()], &log).expect("starts");
    assert_eq!(program.status().expect("a state"), None);
    let (status, killed) = program.stop().expect("stops");
    assert!(!killed && !status.success());
}

#[test]
fn a_panic_leaves_nothing_behind() {
    let unique = unique_name();
    let name = unique.clone();
    let panicked = std::thread::spawn(move || {
        let namespace = Arc::new(Namespace::create(&name, "node").expect("a namespace"));
        let place = Surroundings::create(&name, &namespace).expect("surroundings");
        let _program =
            place.start(&["sleep".into(), "1000".into()], &place.directory().join("log")).expect("starts");
        panic!("on purpose");
    })
    .join();
    assert!(panicked.is_err());
    assert!(!names_of(std::process::id()).iter().any(|name| name.starts_with(&unique)));
}

/// Not a test of its own: the process that the tests below end.
#[test]
#[ignore = "helper that waits to be ended"]
fn helper_that_holds_a_lab_until_it_is_ended() {
    let unique = unique_name();
    let namespace = Arc::new(Namespace::create(&unique, "node").expect("a namespace"));
    let place = Surroundings::create(&unique, &namespace).expect("surroundings");
    let _program =
        place.start(&["sleep".into(), "1000".into()], &place.directory().join("log")).expect("starts");
    std::thread::sleep(Duration::from_secs(100));
}

fn end_a_holder(signal: Signal) -> u32 {
    let mut holder = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "helper_that_holds_a_lab_until_it_is_ended"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let id = holder.id();
    let deadline = Instant::now() + Duration::from_secs(10);
    let has_log = || std::env::temp_dir().join(format!("shuntlab{id}-1/log")).exists();
    while !has_log() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(has_log(), "the holder does not get ready: {:?}", names_of(id));
    let process = Pid::from_raw(i32::try_from(id).expect("a process id"));
    kill(process, signal).expect("is signalled");
    holder.wait().expect("ends");
    id
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let id = end_a_holder(Signal::SIGINT);
    assert_eq!(names_of(id), Vec::<String>::new());
}

#[test]
fn what_a_killed_lab_leaves_is_removed_by_the_next_one() {
    let id = end_a_holder(Signal::SIGKILL);
    assert!(!names_of(id).is_empty(), "a killed process cannot clean up");
    let next = end_a_holder(Signal::SIGINT);
    assert_eq!((names_of(id), names_of(next)), (Vec::<String>::new(), Vec::<String>::new()));
}
