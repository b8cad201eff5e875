//! Networks as CNIs make them, with a firewall and reverse path filters in the way: every kind of client reaches every kind
//! of endpoint.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use shunt_tests::lab::{Dial, Host, Protocol, http_get, write_sysctls};
use shunt_tests::stage::{Endpoint, Slice, Stage, StageNode, endpoints_of, service};
use shunt_tests::{Mode, in_each_mode};

use super::at;

in_each_mode!(
    routed_pods_behind_a_strict_firewall_and_reverse_path_filters,
    bridged_pods_behind_a_strict_firewall_and_reverse_path_filters,
);

/// Enough that one of two endpoints is missed with a chance of 2^-19.
const ATTEMPTS: usize = 20;
/// Where there is but one.
const FEW_ATTEMPTS: usize = 4;

/// What is not known is dropped, as is what connection tracking takes for invalid. Known are pods' own addresses and ports
/// (no service's), the way out, and neighbour discovery, which passes here between ports of a bridge.
const FIREWALL: &str = "table inet firewall {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state invalid drop
        ct state established,related accept
        meta l4proto ipv6-icmp accept
        oifname up0 ct state new accept
        ip daddr 10.244.0.0/16 th dport { 8080, 5353, 9090, 9091 } ct state new accept
        ip6 daddr fd00:244::/32 th dport { 8080, 5353, 9090, 9091 } ct state new accept
    }
    chain input {
        type filter hook input priority 0; policy accept;
        ct state invalid drop
    }
    chain output {
        type filter hook output priority 0; policy accept;
        ct state invalid drop
    }
}";

/// Name, last part of the cluster IPs, node port, number of the endpoint pods (node, pod) behind it.
type Published = (&'static str, u8, u16, &'static [(usize, usize)]);

/// The endpoint pods are the first of each node; the second ones ask.
const SERVICES: [Published; 3] =
    [("near", 11, 30081, &[(0, 0)]), ("far", 12, 30082, &[(1, 0)]), ("both", 13, 30083, &[(0, 0), (1, 0)])];

pub(super) fn pod_address(node: usize, pod: usize, v6: bool) -> IpAddr {
    let (node, last) = (node + 1, pod + 5);
    let text = if v6 { format!("fd00:244:{node}::{last}") } else { format!("10.244.{node}.{last}") };
    text.parse().expect("an address")
}

pub(super) fn objects() -> Vec<Value> {
    let objects = SERVICES.map(|(name, last, node_port, pods)| {
        published(name, last, node_port, |v6, port| {
            let at = |(node, pod): &(usize, usize)| {
                let at = SocketAddr::new(pod_address(*node, *pod, v6), port);
                Endpoint::new(at, ["node-a", "node-b"][*node])
            };
            pods.iter().map(at).collect()
        })
    });
    objects.concat()
}

/// A dual-stack Service with node ports, and its slices. `endpoints` tells those of an IP version (6 or not) at a port.
pub(super) fn published(
    name: &str,
    last: u8,
    node_port: u16,
    endpoints: impl Fn(bool, u16) -> Vec<Endpoint>,
) -> Vec<Value> {
    let addresses = [format!("10.96.0.{last}"), format!("fd00:96::{last}")];
    let spec = json!({"type": "NodePort", "clusterIP": addresses[0], "clusterIPs": addresses,
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack", "ports": [
        {"name": "web", "port": 80, "targetPort": 8080, "nodePort": node_port},
        {"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP", "nodePort": node_port},
    ]});
    let mut objects = vec![service(name, &spec)];
    for (port_name, protocol, port) in [("web", "TCP", 8080), ("dns", "UDP", 5353)] {
        for v6 in [false, true] {
            let slice = Slice::new(name, port, endpoints(v6, port));
            objects.push(Slice { port_name, protocol, ..slice }.object());
        }
    }
    objects
}

/// By which address a service is asked for.
#[derive(Debug, Clone, Copy)]
enum By {
    ClusterIp,
    /// Of the node with this number.
    NodePort(usize),
}

/// Asks over both protocols and IP versions; each endpoint has to answer.
fn assert_reaches(stage: &Stage, who: &str, host: &Host, published: Published, by: By) {
    let (name, last, node_port, pods) = published;
    for v6 in [false, true] {
        for (protocol, port, target) in [(Protocol::Tcp, 80, 8080), (Protocol::Udp, 53, 5353)] {
            let to = match (by, v6) {
                (By::NodePort(node), false) => at(&format!("192.168.50.1{}:{node_port}", node + 1)),
                (By::NodePort(node), true) => at(&format!("[fd00:50::1{}]:{node_port}", node + 1)),
                (By::ClusterIp, false) => at(&format!("10.96.0.{last}:{port}")),
                (By::ClusterIp, true) => at(&format!("[fd00:96::{last}]:{port}")),
            };
            let dial = Dial::new(protocol, to);
            let problem = |error: anyhow::Error| -> ! {
                panic!("{who} -> {name} {to} {protocol:?}: {error:#}\n{}\n{}", drops(stage), stage.logs())
            };
            stage.wait_for_answer(host, &dial).unwrap_or_else(|error| problem(error));
            let count = if pods.len() > 1 { ATTEMPTS } else { FEW_ATTEMPTS };
            let attempts = host.ask_often(dial, count).expect("asks");
            let seen = endpoints_of(&attempts).unwrap_or_else(|error| problem(error));
            let mut wanted: Vec<_> = pods
                .iter()
                .map(|(node, pod)| SocketAddr::new(pod_address(*node, *pod, v6), target))
                .collect();
            wanted.sort();
            assert_eq!(seen, wanted, "{who} -> {name} {to} {protocol:?}");
        }
    }
}

/// What the agents count of packets that they dropped.
pub(super) fn drops(stage: &Stage) -> String {
    let nodes = (0..stage.nodes()).map(|number| stage.node(number).expect("a node"));
    nodes.map(drops_of).collect::<Vec<_>>().join("\n")
}

fn drops_of(node: &StageNode) -> String {
    let patience = std::time::Duration::from_secs(2);
    let metrics = http_get(None, at("127.0.0.1:10249"), "/metrics".to_owned(), patience);
    let answer = node.machine().worker().run(metrics).expect("asks");
    let body = answer
        .map_or_else(|error| format!("no metrics, for want of an answer: {error:?}"), |answer| answer.body);
    let counted = |line: &&str| line.contains("drop") && !line.starts_with('#') && !line.ends_with(" 0");
    let lines: Vec<_> = body.lines().filter(counted).collect();
    format!(
        "{}: {}",
        node.name(),
        if lines.is_empty() { "nothing dropped".to_owned() } else { lines.join("\n") }
    )
}

/// Pods, nodes and a machine outside, by cluster IP and by node ports of the own node and of the other one; and endpoints
/// that reach themselves.
pub(super) fn assert_everybody_reaches_everything(stage: &Stage) {
    let node = |number| stage.node(number).expect("a node");
    let pod = |number, pod| node(number).pod(pod).expect("a pod");
    let inside = [
        ("pod", pod(0, 1)),
        ("pod of the other node", pod(1, 1)),
        ("node", node(0).machine()),
        ("other node", node(1).machine()),
    ];
    for published in SERVICES {
        for (who, host) in inside {
            assert_reaches(stage, who, host, published, By::ClusterIp);
        }
        for (who, host) in inside.into_iter().chain([("outside", stage.client())]) {
            assert_reaches(stage, who, host, published, By::NodePort(0));
        }
    }
    let [near, far, _] = SERVICES;
    for (published, itself) in [(near, pod(0, 0)), (far, pod(1, 0))] {
        for by in [By::ClusterIp, By::NodePort(0), By::NodePort(1)] {
            assert_reaches(stage, "the endpoint itself", itself, published, by);
        }
    }
}

/// Puts the firewall and the reverse path filters in place.
pub(super) fn filter(stage: &Stage) {
    for number in 0..2 {
        let node = stage.node(number).expect("a node");
        let file = node.node().surroundings().directory().join("firewall.nft");
        std::fs::write(&file, FIREWALL).expect("writes");
        node.output("nft", &["-f", file.to_str().expect("text")]).expect("nft runs");
        write_sysctls(node.machine().namespace(), &[("net/ipv4/conf/*/rp_filter", "1")]).expect("is written");
    }
}

fn routed_pods_behind_a_strict_firewall_and_reverse_path_filters(mode: Mode) {
    let mut stage = Stage::create(mode, 2).expect("a stage");
    for number in 0..2 {
        let node = stage.node_mut(number).expect("a node");
        (5..7).for_each(|last| node.add_pod(last).expect("a pod"));
    }
    filter(&stage);
    stage.apply(objects()).expect("applies");
    assert_everybody_reaches_everything(&stage);
}

fn bridged_pods_behind_a_strict_firewall_and_reverse_path_filters(mode: Mode) {
    let mut stage = Stage::create(mode, 2).expect("a stage");
    for number in 0..2 {
        let node = stage.node_mut(number).expect("a node");
        (5..7).for_each(|last| node.add_bridged_pod(last).expect("a pod"));
    }
    if !mode.is_ebpf() {
        super::bridge::filter_bridged_packets(&stage);
    }
    filter(&stage);
    stage.apply(objects()).expect("applies");
    assert_everybody_reaches_everything(&stage);
}
