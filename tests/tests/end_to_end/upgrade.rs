//! Agents that cannot go on with the maps of the last one follow it, under connections that live and connections that come:
//! of either IP version, on sockets and per packet, from pods, nodes and from outside.
//!
//! The first agent is one of this build with other maps, or the program that `SHUNT_EARLIER_BIN` names: a build whose
//! layouts differ.

use std::thread::sleep;
use std::time::Duration;

use shunt_tests::Mode;
use shunt_tests::flows::shunt_program;
use shunt_tests::lab::{Dial, Host, Protocol};
use shunt_tests::stage::{Stage, Traffic};

use super::at;
use super::switches::assert_nothing_was_lost;
use super::topologies::{assert_everybody_reaches_everything, objects};

/// Between two agents, so that traffic meets each state.
const PHASE: Duration = Duration::from_millis(500);
/// In maps of flows; one agent after the other.
const FLOWS: [u32; 3] = [70_001, 70_002, 70_003];
/// Names the agent of an earlier build.
const EARLIER: &str = "SHUNT_EARLIER_BIN";
/// Who reaches what: address of TCP, and port for UDP.
const WAYS: [(&str, &str, u16, u16); 8] = [
    ("pod", "10.96.0.13", 80, 53),
    ("pod", "[fd00:96::13]", 80, 53),
    ("node", "10.96.0.13", 80, 53),
    ("node", "[fd00:96::13]", 80, 53),
    ("client", "192.168.50.11", 30081, 30081),
    ("client", "[fd00:50::11]", 30081, 30081),
    ("client", "192.168.50.11", 30082, 30082),
    ("client", "[fd00:50::11]", 30082, 30082),
];

/// Patience beyond one retransmission: what is lost is to be seen as lost, a busy machine is not.
fn dial(protocol: Protocol, address: &str, port: u16) -> Dial {
    Dial::new(protocol, at(&format!("{address}:{port}"))).patience(Duration::from_millis(900))
}

fn asker<'a>(stage: &'a Stage, name: &str) -> &'a Host {
    match name {
        "pod" => stage.node(0).expect("a node").pod(1).expect("a pod"),
        "node" => stage.node(0).expect("a node").machine(),
        _ => stage.client(),
    }
}

/// On every way: sockets that are used all the time, and new connections all the time.
fn start_traffic(stage: &Stage) -> Vec<(String, Traffic)> {
    let mut running = Vec::new();
    for (from, address, tcp, udp) in WAYS {
        let host = asker(stage, from);
        let (tcp, udp) = (dial(Protocol::Tcp, address, tcp), dial(Protocol::Udp, address, udp));
        let unconnected = Dial { unconnected: true, ..udp.clone() };
        for dial in [&tcp, &udp] {
            stage.wait_for_answer(host, dial).expect("the service works");
        }
        let name = |kind: &str| format!("{kind} from {from} to {address}");
        running.push((name("one connection"), Traffic::on_one_socket(host, tcp.clone())));
        running.push((name("new connections"), Traffic::start(host, tcp)));
        running.push((name("one datagram socket"), Traffic::on_one_socket(host, udp)));
        running.push((name("one unconnected socket"), Traffic::on_one_socket(host, unconnected)));
    }
    running
}

fn nothing_is_lost_when_maps_are_replaced(mode: Mode) {
    let mut stage = Stage::create(mode, 2).expect("a stage");
    for number in 0..2 {
        let node = stage.node_mut(number).expect("a node");
        (5..7).for_each(|last| node.add_pod(last).expect("a pod"));
    }
    stage.apply(objects()).expect("applies");
    if let Some(earlier) = std::env::var_os(EARLIER) {
        let node = stage.node_mut(0).expect("a node");
        node.set_program(earlier.into());
        node.succeed_agent(70_000).expect("the earlier build runs");
        node.set_program(shunt_program().expect("the agent"));
    }
    let running = start_traffic(&stage);
    sleep(PHASE);
    for flows in FLOWS {
        let before = folders(&stage);
        stage.node_mut(0).expect("a node").succeed_agent(flows).expect("follows");
        sleep(PHASE);
        let after = folders(&stage);
        assert_eq!(after.len(), 1, "what the last agent left is gone");
        assert_ne!(after, before, "the agent has maps of its own");
    }
    assert_nothing_was_lost(running, &stage);
    assert_everybody_reaches_everything(&stage);
}

/// Of pinned maps.
fn folders(stage: &Stage) -> Vec<String> {
    let words = ["/sys/fs/bpf/shunt", "-mindepth", "1", "-maxdepth", "1"];
    let found = stage.node(0).expect("a node").output("find", &words).expect("find runs");
    found.lines().map(str::to_owned).collect()
}

#[test]
fn nothing_is_lost_when_maps_are_replaced_on_sockets() {
    nothing_is_lost_when_maps_are_replaced(Mode::Ebpf);
}

#[test]
fn nothing_is_lost_when_maps_are_replaced_per_packet() {
    nothing_is_lost_when_maps_are_replaced(Mode::PerPacket);
}
