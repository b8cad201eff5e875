//! Nodes that are joined by a tunnel (VXLAN), and endpoints that are the nodes themselves.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use shunt_tests::lab::{Dial, Host, Outcome, Protocol};
use shunt_tests::stage::{Endpoint, Stage, endpoints_of};
use shunt_tests::{Mode, in_each_mode};

use super::topologies::{assert_everybody_reaches_everything, drops, filter, objects, published};
use super::{answered_by, at};

in_each_mode!(
    pods_on_an_overlay_behind_a_strict_firewall_and_reverse_path_filters,
    endpoints_beyond_a_tunnel_see_the_nodes_own_clients_at_its_address_there,
    packets_that_are_too_big_are_reported_to_those_who_sent_them,
    nodes_themselves_are_endpoints,
);

/// Two nodes with two pods each.
fn stage(mode: Mode) -> Stage {
    let mut stage = Stage::create(mode, 2).expect("a stage");
    for number in 0..2 {
        let node = stage.node_mut(number).expect("a node");
        (5..7).for_each(|last| node.add_pod(last).expect("a pod"));
    }
    stage
}

fn pods_on_an_overlay_behind_a_strict_firewall_and_reverse_path_filters(mode: Mode) {
    let mut stage = stage(mode);
    stage.add_overlay().expect("a tunnel");
    filter(&stage);
    stage.apply(objects()).expect("applies");
    assert_everybody_reaches_everything(&stage);
}

/// More than fits in one packet, of datagrams.
const LARGE: usize = 3000;

/// A node's own connections leave with the address that the kernel has for the tunnel, whatever address it chose on the way to the
/// service; strict filters at both ends.
fn endpoints_beyond_a_tunnel_see_the_nodes_own_clients_at_its_address_there(mode: Mode) {
    let mut stage = stage(mode);
    stage.add_overlay().expect("a tunnel");
    filter(&stage);
    stage.apply(objects()).expect("applies");
    let node = stage.node(0).expect("a node").machine();
    for (address, tunnel, endpoint) in
        [("10.96.0.12", "10.244.1.0", "10.244.2.5"), ("[fd00:96::12]", "fd00:244:1::fff0", "[fd00:244:2::5]")]
    {
        for (protocol, port, target) in [(Protocol::Tcp, 80, 8080), (Protocol::Udp, 53, 5353)] {
            let dial = Dial::new(protocol, at(&format!("{address}:{port}")));
            stage.wait_for_answer(node, &dial).expect("the service works");
            assert_sees(&stage, node, &dial, &format!("{endpoint}:{target}"), tunnel);
            // Longer than any link takes. The first answer teaches the endpoint the path.
            let large = Dial { payload: LARGE, reply_size: LARGE, ..dial };
            stage.wait_for_answer(node, &large).expect("large bodies arrive");
            assert_sees(&stage, node, &large, &format!("{endpoint}:{target}"), tunnel);
        }
    }
}

fn assert_sees(stage: &Stage, node: &Host, dial: &Dial, endpoint: &str, client: &str) {
    let outcome = node.worker().run(dial.clone().once()).expect("asks").outcome;
    let Outcome::Answer(answer) = &outcome else {
        panic!("{dial:?}: {outcome:?}\n{}\n{}", drops(stage), stage.logs());
    };
    assert_eq!((&answer.problem, answer.local), (&None, at(endpoint)), "{dial:?}");
    assert_eq!(answer.peer.ip().to_string(), client, "{dial:?}");
}

/// More than fits in two packets of 1500 bytes; both ways.
const BODY: usize = 5000;

fn large(to: &str) -> Dial {
    let dial = Dial::new(Protocol::Tcp, at(to)).patience(Duration::from_secs(3));
    Dial { payload: BODY, reply_size: BODY, ..dial }
}

fn assert_large_bodies_arrive(stage: &Stage, who: &str, host: &Host, to: &str, endpoint: &str) {
    let outcome = host.worker().run(large(to).once()).expect("asks").outcome;
    assert_eq!(
        answered_by(&outcome),
        Some(at(endpoint)),
        "{who} -> {to}: {outcome:?}\n{}\n{}",
        drops(stage),
        stage.logs()
    );
}

/// The largest packets that a machine knows to arrive at a destination.
fn known_mtu(host: &Host, to: &str) -> Option<u32> {
    let mut command = std::process::Command::new("ip");
    let output = command.args(["-n", host.namespace().name(), "route", "get", to]).output().expect("ip runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    words.next().map(|mtu| mtu.parse().expect("a number"))
}

/// Pods and clients believe in 1500 bytes; the tunnel takes less, and the way back to the client even less.
fn packets_that_are_too_big_are_reported_to_those_who_sent_them(mode: Mode) {
    let mut stage = stage(mode);
    stage.add_overlay().expect("a tunnel");
    stage.apply(objects()).expect("applies");
    let (pod, other) = (stage.node(0).expect("a node").pod(1), stage.node(1).expect("a node").pod(1));
    let (pod, other) = (pod.expect("a pod"), other.expect("a pod"));
    let client = stage.client();
    // Small packets find their way first, so that what fails is what was too big.
    for (host, to) in [
        (pod, "10.96.0.12:80"),
        (pod, "[fd00:96::12]:80"),
        (other, "10.96.0.11:80"),
        (other, "[fd00:96::11]:80"),
        (client, "192.168.50.11:30082"),
        (client, "[fd00:50::11]:30082"),
    ] {
        stage.wait_for_answer(host, &Dial::new(Protocol::Tcp, at(to))).expect("the service works");
    }
    // The client is too far behind the tunnel to be told by it of anything but what it sent itself.
    assert_large_bodies_arrive(&stage, "client", client, "192.168.50.11:30082", "10.244.2.5:8080");
    assert_large_bodies_arrive(&stage, "client", client, "[fd00:50::11]:30082", "[fd00:244:2::5]:8080");
    assert_eq!(
        known_mtu(client, "192.168.50.11"),
        Some(1450),
        "the client was told by the node port's address"
    );
    assert_eq!(known_mtu(client, "fd00:50::11"), Some(1450));
    // Of a pod, what it talks to is the service or, with socket load balancing, the endpoint.
    assert_large_bodies_arrive(&stage, "pod", pod, "10.96.0.12:80", "10.244.2.5:8080");
    assert_large_bodies_arrive(&stage, "pod", pod, "[fd00:96::12]:80", "[fd00:244:2::5]:8080");
    let (v4, v6) =
        if mode == Mode::Ebpf { ("10.244.2.5", "fd00:244:2::5") } else { ("10.96.0.12", "fd00:96::12") };
    assert_eq!((known_mtu(pod, v4), known_mtu(pod, v6)), (Some(1450), Some(1450)), "the pod was told");
    // And the other way round: the endpoint is here, the client's own node translates.
    assert_large_bodies_arrive(&stage, "other pod", other, "10.96.0.11:80", "10.244.1.5:8080");
    assert_large_bodies_arrive(&stage, "other pod", other, "[fd00:96::11]:80", "[fd00:244:1::5]:8080");
    // The way back to the client narrows: the node tells the endpoint, which answers a masqueraded address.
    let node = stage.node(0).expect("a node").machine();
    node.ip(&[
        "route add 192.168.50.200/32 dev up0 mtu lock 1300",
        "route add fd00:50::200/128 dev up0 mtu lock 1300 metric 1",
    ])
    .expect("narrower routes");
    assert_large_bodies_arrive(&stage, "client", client, "192.168.50.11:30082", "10.244.2.5:8080");
    assert_large_bodies_arrive(&stage, "client", client, "[fd00:50::11]:30082", "[fd00:244:2::5]:8080");
    assert_large_bodies_arrive(&stage, "client", client, "192.168.50.11:30081", "10.244.1.5:8080");
    assert_large_bodies_arrive(&stage, "client", client, "[fd00:50::11]:30081", "[fd00:244:1::5]:8080");
}

/// Name, last part of the cluster IPs, node port, numbers of the nodes behind it.
const NODES: [(&str, u8, u16, &[usize]); 3] =
    [("own", 21, 30091, &[0]), ("other", 22, 30092, &[1]), ("nodes", 23, 30093, &[0, 1])];

fn node_endpoint(node: usize, v6: bool, port: u16) -> SocketAddr {
    let number = node + 1;
    at(&if v6 { format!("[fd00:50::1{number}]:{port}") } else { format!("192.168.50.1{number}:{port}") })
}

/// Services whose endpoints are pods with `hostNetwork`.
fn host_network_objects() -> Vec<Value> {
    let objects = NODES.map(|(name, last, node_port, nodes)| {
        published(name, last, node_port, |v6, port| {
            let at =
                |node: &usize| Endpoint::new(node_endpoint(*node, v6, port), ["node-a", "node-b"][*node]);
            nodes.iter().map(at).collect()
        })
    });
    objects.concat()
}

fn nodes_themselves_are_endpoints(mode: Mode) {
    let mut stage = stage(mode);
    filter(&stage);
    for number in 0..2 {
        let machine = stage.node(number).expect("a node").machine();
        machine.listen(Protocol::Tcp, 8080).expect("listens");
        machine.listen(Protocol::Udp, 5353).expect("listens");
    }
    stage.apply(host_network_objects()).expect("applies");
    let node = |number| stage.node(number).expect("a node");
    let inside = [
        ("pod", node(0).pod(0).expect("a pod")),
        ("pod of the other node", node(1).pod(0).expect("a pod")),
        ("node", node(0).machine()),
        ("other node", node(1).machine()),
    ];
    for (name, last, node_port, nodes) in NODES {
        for (who, host) in inside {
            let cluster_ips = [format!("10.96.0.{last}"), format!("[fd00:96::{last}]")];
            assert_nodes_answer(&stage, (who, host), name, &cluster_ips, None, nodes);
        }
        for (who, host) in inside.into_iter().chain([("outside", stage.client())]) {
            let addresses = ["192.168.50.11".to_owned(), "[fd00:50::11]".to_owned()];
            assert_nodes_answer(&stage, (who, host), name, &addresses, Some(node_port), nodes);
        }
    }
}

/// Asks an address of each IP version by both protocols; each of the nodes has to answer.
fn assert_nodes_answer(
    stage: &Stage,
    (who, host): (&str, &Host),
    name: &str,
    addresses: &[String; 2],
    node_port: Option<u16>,
    nodes: &[usize],
) {
    for (address, v6) in addresses.iter().zip([false, true]) {
        for (protocol, port, target) in [(Protocol::Tcp, 80, 8080), (Protocol::Udp, 53, 5353)] {
            let to = format!("{address}:{}", node_port.unwrap_or(port));
            let dial = Dial::new(protocol, at(&to));
            let problem = |error: anyhow::Error| -> ! {
                panic!("{who} -> {name} {to} {protocol:?}: {error:#}\n{}\n{}", drops(stage), stage.logs())
            };
            let answered = |outcome: &Outcome| answered_by(outcome).is_some();
            let patience = shunt_tests::stage::CHANGE_PATIENCE;
            stage.wait_until(host, &dial, patience, answered).unwrap_or_else(|error| problem(error));
            let attempts = host.ask_often(dial, if nodes.len() > 1 { 20 } else { 4 }).expect("asks");
            let seen = endpoints_of(&attempts).unwrap_or_else(|error| problem(error));
            let wanted: Vec<_> = nodes.iter().map(|node| node_endpoint(*node, v6, target)).collect();
            assert_eq!(seen, wanted, "{who} -> {name} {to} {protocol:?}");
        }
    }
}
