//! The dataplane is changed under connections that live and connections that come: none is lost, none refused.

use std::net::SocketAddrV4;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use shunt_tests::Mode;
use shunt_tests::lab::{Dial, Host, Protocol};
use shunt_tests::stage::{Endpoint, Layout, ProxiedPort, Slice, Stage, Traffic, service};

use super::at;

/// Between two changes, so that traffic meets each state.
const PHASE: Duration = Duration::from_millis(400);
/// Who reaches whom: from a pod to a cluster IP with endpoints on both nodes, from outside to a node port with an endpoint
/// on this node, and on the other.
const WAYS: [(&str, &str, &str); 3] = [
    ("pod", "10.96.0.10:80", "10.96.0.10:53"),
    ("client", "192.168.50.11:30081", "192.168.50.11:30081"),
    ("client", "192.168.50.11:30082", "192.168.50.11:30082"),
];
const NEAR: &str = "10.244.1.5";
const FAR: &str = "10.244.2.5";

/// Name, cluster IP, node port, endpoints.
const SERVICES: [(&str, &str, u16, &[&str]); 3] = [
    ("both", "10.96.0.10", 30080, &[NEAR, FAR]),
    ("near", "10.96.0.11", 30081, &[NEAR]),
    ("far", "10.96.0.12", 30082, &[FAR]),
];

fn objects() -> Vec<Value> {
    let mut objects = Vec::new();
    for (name, address, node_port, endpoints) in SERVICES {
        let spec = json!({"type": "NodePort", "clusterIP": address, "ports": [
            {"name": "web", "port": 80, "targetPort": 8080, "nodePort": node_port},
            {"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP", "nodePort": node_port},
        ]});
        objects.push(service(name, &spec));
        for (port_name, protocol, port) in [("web", "TCP", 8080), ("dns", "UDP", 5353)] {
            let endpoints = endpoints.iter().map(|address| {
                let node = if *address == NEAR { "node-a" } else { "node-b" };
                Endpoint::new(at(&format!("{address}:{port}")), node)
            });
            objects.push(Slice { port_name, protocol, ..Slice::new(name, port, endpoints) }.object());
        }
    }
    objects
}

/// The same as kube-proxy has them.
fn proxied() -> Vec<ProxiedPort> {
    let mut ports = Vec::new();
    for (_, address, node_port, endpoints) in SERVICES {
        for (protocol, port, target) in [("tcp", 80, 8080), ("udp", 53, 5353)] {
            let socket = |address: &str, port| SocketAddrV4::new(address.parse().expect("an address"), port);
            let endpoints = endpoints.iter().map(|endpoint| socket(endpoint, target)).collect();
            ports.push(ProxiedPort { at: socket(address, port), protocol, node_port, endpoints });
        }
    }
    ports
}

/// Two nodes with a pod that answers each, and one that asks; services known to both agents.
fn stage(mode: Mode) -> Stage {
    let mut stage = Stage::create(mode, 2).expect("a stage");
    for number in 0..2 {
        let node = stage.node_mut(number).expect("a node");
        (5..7).for_each(|last| node.add_pod(last).expect("a pod"));
    }
    stage.apply(objects()).expect("applies");
    stage
}

fn asker<'a>(stage: &'a Stage, name: &str) -> &'a Host {
    match name {
        "pod" => stage.node(0).expect("a node").pod(1).expect("a pod"),
        _ => stage.client(),
    }
}

/// Patience beyond one retransmission: what is lost is to be seen as lost, a busy machine is not.
fn dial(protocol: Protocol, to: &str) -> Dial {
    Dial::new(protocol, at(to)).patience(Duration::from_millis(900))
}

fn wait_until_all_ways_work(stage: &Stage) {
    for (from, tcp, udp) in WAYS {
        for (protocol, to) in [(Protocol::Tcp, tcp), (Protocol::Udp, udp)] {
            stage.wait_for_answer(asker(stage, from), &dial(protocol, to)).expect("the service works");
        }
    }
}

/// On every way, over both protocols: one socket that is used all the time, and new sockets all the time.
fn start_traffic(stage: &Stage) -> Vec<(String, Traffic)> {
    let mut running = Vec::new();
    for (from, tcp, udp) in WAYS {
        for (protocol, to) in [(Protocol::Tcp, tcp), (Protocol::Udp, udp)] {
            let host = asker(stage, from);
            let name = |kind: &str| format!("{kind} {protocol:?} from {from} to {to}");
            running.push((name("one socket"), Traffic::on_one_socket(host, dial(protocol, to))));
            running.push((name("new sockets"), Traffic::start(host, dial(protocol, to))));
        }
    }
    running
}

/// Ends the traffic: every request was answered, and there were enough of them.
pub(super) fn assert_nothing_was_lost(running: Vec<(String, Traffic)>, stage: &Stage) {
    let mut problems = Vec::new();
    for (name, traffic) in running {
        let report = traffic.finish().expect("the requests end");
        let failures = report.failures.len();
        if failures > 0 || report.requests < 50 {
            let first: Vec<_> = report.failures.into_iter().take(3).collect();
            problems.push(format!("{name}: {failures} of {} failed: {first:?}", report.requests));
        }
    }
    assert!(problems.is_empty(), "{}\n{}", problems.join("\n"), stage.logs());
}

fn there_and_back(other: Mode) {
    let mut stage = stage(Mode::Nftables);
    wait_until_all_ways_work(&stage);
    let running = start_traffic(&stage);
    sleep(PHASE);
    for mode in [other, Mode::Nftables] {
        stage.node_mut(0).expect("a node").switch_agent(mode).expect("switches");
        sleep(PHASE);
    }
    assert_nothing_was_lost(running, &stage);
}

#[test]
fn nothing_is_lost_from_nftables_to_ebpf_and_back() {
    there_and_back(Mode::Ebpf);
}

#[test]
fn nothing_is_lost_from_nftables_to_ebpf_per_packet_and_back() {
    there_and_back(Mode::PerPacket);
}

/// Takes a node over from kube-proxy, and gives it back: shunt in mode nftables, kube-proxy beside it, then shunt's tables go.
fn from_kube_proxy_and_back(layout: Layout, mode: Mode) {
    let mut stage = stage(mode);
    wait_until_all_ways_work(&stage);
    // A node that never had shunt.
    let node = stage.node_mut(0).expect("a node");
    node.stop_agent().expect("ends");
    clean_up(&stage);
    layout.load(stage.node(0).expect("a node"), &proxied()).expect("kube-proxy's rules");
    wait_until_all_ways_work(&stage);
    let running = start_traffic(&stage);
    sleep(PHASE);
    let node = stage.node_mut(0).expect("a node");
    node.switch_agent(mode).expect("takes over");
    sleep(PHASE);
    let left = left_by_kube_proxy(&stage);
    assert!(left.is_empty(), "kube-proxy's rules are still there: {left}\n{}", stage.logs());
    let node = stage.node_mut(0).expect("a node");
    if mode.is_ebpf() {
        node.switch_agent(Mode::Nftables).expect("leaves mode ebpf");
        sleep(PHASE);
    }
    let node = stage.node_mut(0).expect("a node");
    node.stop_agent().expect("ends");
    layout.load(node, &proxied()).expect("kube-proxy's rules");
    node.output("nft", &["delete table ip shunt; delete table ip6 shunt"]).expect("shunt's tables go");
    sleep(PHASE);
    assert_nothing_was_lost(running, &stage);
    clean_up(&stage);
}

fn left_by_kube_proxy(stage: &Stage) -> String {
    let node = stage.node(0).expect("a node");
    let tables = node.output("nft", &["list", "tables"]).expect("nft runs");
    let rules = node.output("iptables-save", &[]).expect("iptables runs");
    let lines = tables.lines().filter(|line| line.contains("kube-proxy"));
    let lines = lines.chain(rules.lines().filter(|line| line.contains("KUBE-")));
    lines.collect::<Vec<_>>().join("\n")
}

/// `shunt cleanup` leaves nothing behind, whatever was there.
fn clean_up(stage: &Stage) {
    let node = stage.node(0).expect("a node");
    let program = shunt_tests::flows::shunt_program().expect("the agent");
    node.output(program.to_str().expect("text"), &["cleanup"]).expect("cleans up");
    let tables = node.output("nft", &["list", "tables"]).expect("nft runs");
    assert!(!tables.contains("shunt"), "{tables}");
    assert_eq!(left_by_kube_proxy(stage), "");
    // The kernel itself has two files there, `maps.debug` and `progs.debug`.
    let pins = node.output("find", &["/sys/fs/bpf", "-mindepth", "1", "-not", "-name", "*.debug"]);
    let pins = pins.expect("find runs");
    assert_eq!(pins, "", "pins of maps, programs or links");
    let disciplines = node.output("tc", &["qdisc", "show"]).expect("tc runs");
    assert!(!disciplines.contains("clsact"), "{disciplines}");
    let attached = shunt_tests::lab::attached_programs(node.machine().namespace()).expect("can be asked for");
    assert_eq!(attached, Vec::<String>::new());
}

#[test]
fn nothing_is_lost_from_kube_proxys_iptables_to_nftables_and_back() {
    from_kube_proxy_and_back(Layout::Iptables, Mode::Nftables);
}

#[test]
fn nothing_is_lost_from_kube_proxys_iptables_to_ebpf_and_back() {
    from_kube_proxy_and_back(Layout::Iptables, Mode::Ebpf);
}

#[test]
fn nothing_is_lost_from_kube_proxys_iptables_to_ebpf_per_packet_and_back() {
    from_kube_proxy_and_back(Layout::Iptables, Mode::PerPacket);
}

#[test]
fn nothing_is_lost_from_kube_proxys_nftables_to_nftables_and_back() {
    from_kube_proxy_and_back(Layout::Nftables, Mode::Nftables);
}

#[test]
fn nothing_is_lost_from_kube_proxys_nftables_to_ebpf_and_back() {
    from_kube_proxy_and_back(Layout::Nftables, Mode::Ebpf);
}

#[test]
fn nothing_is_lost_from_kube_proxys_nftables_to_ebpf_per_packet_and_back() {
    from_kube_proxy_and_back(Layout::Nftables, Mode::PerPacket);
}
