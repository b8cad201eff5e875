//! What eBPF programs leave to connection tracking is masqueraded with ports of its own: nothing knows both of these
//! connections and those that the programs translate for the node itself.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use serde_json::json;
use shunt_tests::Mode;
use shunt_tests::lab::{Attempt, Dial, Outcome, Protocol};
use shunt_tests::stage::{Endpoint, Slice, Stage, service};

use super::at;

const PORTS: [(&str, u16); 2] = [("TCP", 8080), ("UDP", 5353)];
const NODE_PORT: u16 = 30053;
/// The node's own connections to the endpoint.
const OWN: usize = 4000;
/// Of as many from outside, none is masqueraded to one of 4000 among 64512 ports with a chance of 1 in 300000.
const MASQUERADED: usize = 200;
/// Ports that clusters have node ports from, unless told otherwise.
const NODE_PORTS: RangeInclusive<u16> = 30000..=32767;

/// A stage whose one endpoint is on the other node.
fn stage(mode: Mode) -> Stage {
    let mut stage = Stage::create(mode, 2).expect("a stage");
    stage.node_mut(1).expect("a node").add_bridged_pod(5).expect("a pod");
    let ports = PORTS.map(|(protocol, port)| {
        let name = protocol.to_lowercase();
        json!({"name": name, "port": 53, "targetPort": port, "nodePort": NODE_PORT, "protocol": protocol})
    });
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00:96::10"],
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack", "ports": ports});
    let slices = PORTS.into_iter().flat_map(|(protocol, port)| {
        [at(&format!("10.244.2.5:{port}")), at(&format!("[fd00:244:2::5]:{port}"))].map(|endpoint| {
            let port_name = if protocol == "TCP" { "tcp" } else { "udp" };
            let endpoints = [Endpoint::new(endpoint, "node-b")];
            Slice { port_name, protocol, ..Slice::new("dns", port, endpoints) }.object()
        })
    });
    let objects: Vec<_> = std::iter::once(service("dns", &spec)).chain(slices).collect();
    stage.apply(objects).expect("applies");
    stage
}

/// The source that the endpoint saw each time.
fn sources(attempts: &[Attempt]) -> Vec<SocketAddr> {
    let source = |attempt: &Attempt| match &attempt.outcome {
        Outcome::Answer(answer) if answer.problem.is_none() => Some(answer.peer),
        _ => None,
    };
    let found: Vec<_> = attempts.iter().filter_map(source).collect();
    let failures = attempts.iter().filter(|attempt| source(attempt).is_none());
    let outcomes: Vec<_> = failures.map(|attempt| &attempt.outcome).collect();
    assert!(outcomes.is_empty(), "{} of {} failed: {outcomes:?}", outcomes.len(), attempts.len());
    found
}

fn masqueraded_clients_and_those_of_the_node_do_not_meet(protocol: Protocol) {
    let stage = stage(Mode::PerPacket);
    let node = stage.node(0).expect("a node").machine();
    let own = Dial::new(protocol, at("10.96.0.10:53"));
    let outside = Dial::new(protocol, at(&format!("192.168.50.11:{NODE_PORT}")));
    stage.wait_for_answer(node, &own).expect("is answered");
    stage.wait_for_answer(stage.client(), &outside).expect("is answered");
    sources(&node.ask_often(own, OWN).expect("asks"));
    sources(&stage.client().ask_often(outside, MASQUERADED).expect("asks"));
}

#[test]
fn masqueraded_connections_and_those_of_the_node_do_not_meet() {
    masqueraded_clients_and_those_of_the_node_do_not_meet(Protocol::Tcp);
}

#[test]
fn masqueraded_datagrams_and_those_of_the_node_do_not_meet() {
    masqueraded_clients_and_those_of_the_node_do_not_meet(Protocol::Udp);
}

fn ports_of_own_clients(stage: &Stage) -> RangeInclusive<u16> {
    let node = stage.node(0).expect("a node");
    let range = node.output("cat", &["/proc/sys/net/ipv4/ip_local_port_range"]).expect("is read");
    let mut bounds = range.split_whitespace().map(|bound| bound.parse().expect("a port"));
    let (first, last) = (bounds.next().expect("a first port"), bounds.next().expect("a last port"));
    first..=last
}

/// Nor does a reply look as if it were to a node port.
#[test]
fn masqueraded_ports_are_none_of_the_nodes_own_clients_or_services() {
    let stage = stage(Mode::PerPacket);
    let own = ports_of_own_clients(&stage);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for to in ["192.168.50.11", "[fd00:50::11]"] {
            let dial = Dial::new(protocol, at(&format!("{to}:{NODE_PORT}")));
            stage.wait_for_answer(stage.client(), &dial).expect("is answered");
            for source in sources(&stage.client().ask_often(dial, 40).expect("asks")) {
                let port = source.port();
                assert!(!own.contains(&port), "{source} may be a client of the node's own");
                assert!(!NODE_PORTS.contains(&port), "{source} may be a node port");
            }
        }
    }
}
