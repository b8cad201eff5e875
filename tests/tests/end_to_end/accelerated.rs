//! Packets between pods of a node, and between pods and the outside, past the node's stack: to everybody the same as ever,
//! under firewalls that know connections, and while it is switched on and off.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use shunt_tests::Mode;
use shunt_tests::agent::Metrics;
use shunt_tests::lab::{Dial, Host, Outcome, Protocol, http_get};
use shunt_tests::stage::{CHANGE_PATIENCE, Endpoint, Slice, Stage, StageNode, Traffic, service};

use super::at;
use super::bridge::filter_bridged_packets;
use super::switches::assert_nothing_was_lost;
use super::topologies::{assert_everybody_reaches_everything, drops, filter, objects, pod_address};

/// Between two changes, so that traffic meets each state.
const PHASE: Duration = Duration::from_millis(400);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Each pod behind an interface of its own.
    Routed,
    /// All pods on one bridge.
    Bridged,
}

fn stage(mode: Mode, layout: Layout) -> Stage {
    let mut stage = Stage::create(mode, 2).expect("a stage");
    for number in 0..2 {
        let node = stage.node_mut(number).expect("a node");
        for last in 5..7 {
            match layout {
                Layout::Routed => node.add_pod(last).expect("a pod"),
                Layout::Bridged => node.add_bridged_pod(last).expect("a pod"),
            }
        }
    }
    if layout == Layout::Bridged {
        filter_bridged_packets(&stage);
    }
    filter(&stage);
    stage.apply(objects()).expect("applies");
    stage
}

/// How often the node has done that to a packet.
fn count(node: &StageNode, event: &str) -> f64 {
    let metrics = http_get(None, at("127.0.0.1:10249"), "/metrics".to_owned(), Duration::from_secs(5));
    let page = node.machine().worker().run(metrics).expect("asks").expect("an answer");
    let metrics = Metrics::parse(&page.body).expect("metrics");
    metrics.sum("shunt_datapath_events_total", &[("event", event)]).expect("a counter of that name")
}

fn is_answered(host: &Host, dial: Dial) -> bool {
    matches!(host.worker().run(dial.once()).expect("asks").outcome, Outcome::Answer(answer) if answer.problem.is_none())
}

/// The pod that asks, and what it asks: a service whose only endpoint is the other pod of its node.
const NEAR: [[&str; 2]; 2] = [["10.96.0.11:80", "10.96.0.11:53"], ["[fd00:96::11]:80", "[fd00:96::11]:53"]];

/// After the first conversation, which may have to find neighbours.
fn assert_whole_conversations_go_past_the_stack(stage: &Stage) {
    let node = stage.node(0).expect("a node");
    let pod = node.pod(1).expect("a pod");
    for (protocol, to) in NEAR.iter().flat_map(|[web, dns]| [(Protocol::Tcp, web), (Protocol::Udp, dns)]) {
        let dial = Dial::new(protocol, at(to)).patience(Duration::from_secs(3));
        stage.wait_for_answer(pod, &dial).expect("the service works");
        let counts = || ["forward", "reverse", "accelerated"].map(|event| count(node, event));
        let before = counts();
        // Several packets at once, where the protocol has that.
        let size = if protocol == Protocol::Tcp { 60_000 } else { 1000 };
        for _ in 0..5 {
            let large = Dial { payload: size, reply_size: size, ..dial.clone() };
            assert!(is_answered(pod, large), "{protocol:?} {to}\n{}\n{}", drops(stage), stage.logs());
        }
        let after = counts();
        let [forward, reverse, accelerated] = [0, 1, 2].map(|each| after[each] - before[each]);
        assert!(forward >= 5.0 && reverse >= 5.0, "{forward} {reverse}");
        assert!(
            (accelerated - forward - reverse).abs() < 0.5,
            "{to}: {accelerated} of {forward} and {reverse}"
        );
    }
}

fn everybody_reaches_everything(layout: Layout) {
    let stage = stage(Mode::Accelerated, layout);
    assert_everybody_reaches_everything(&stage);
    assert_whole_conversations_go_past_the_stack(&stage);
    let status = status(&stage);
    // Here, what the way out is connected to is in another namespace, too.
    assert!(status.contains("acceleration: tc; 3 interfaces take part, 3 of them hand"), "{status}");
}

fn status(stage: &Stage) -> String {
    let program = shunt_tests::flows::shunt_program().expect("the agent");
    stage.node(0).expect("a node").output(program.to_str().expect("text"), &["status"]).expect("answers")
}

#[test]
fn routed_pods_behind_a_strict_firewall_and_reverse_path_filters() {
    everybody_reaches_everything(Layout::Routed);
}

#[test]
fn bridged_pods_behind_a_strict_firewall_and_reverse_path_filters() {
    everybody_reaches_everything(Layout::Bridged);
}

#[test]
fn without_being_asked_for_nothing_goes_past_the_stack() {
    let stage = stage(Mode::PerPacket, Layout::Routed);
    let node = stage.node(0).expect("a node");
    for [web, _] in NEAR {
        stage
            .wait_for_answer(node.pod(1).expect("a pod"), &Dial::new(Protocol::Tcp, at(web)))
            .expect("works");
    }
    assert!(count(node, "forward") > 0.0);
    assert!(count(node, "accelerated").abs() < 0.5);
    let status = status(&stage);
    assert!(!status.contains("acceleration: tc"), "{status}");
}

/// From the other pod and from outside, over both protocols: one socket that is used all the time, and new ones all the time.
fn start_traffic(stage: &Stage) -> Vec<(String, Traffic)> {
    let pod = stage.node(0).expect("a node").pod(1).expect("a pod");
    let outside = stage.client();
    let ways = [
        (pod, "10.96.0.11:80", "10.96.0.11:53"),
        (pod, "[fd00:96::11]:80", "[fd00:96::11]:53"),
        (outside, "192.168.50.11:30081", "192.168.50.11:30081"),
    ];
    let mut running = Vec::new();
    for (host, web, dns) in ways {
        for (protocol, to) in [(Protocol::Tcp, web), (Protocol::Udp, dns)] {
            let dial = Dial::new(protocol, at(to)).patience(Duration::from_millis(1500));
            stage.wait_for_answer(host, &dial).expect("the service works");
            let name = |kind: &str| format!("{kind} {protocol:?} to {to}");
            running.push((name("one socket"), Traffic::on_one_socket(host, dial.clone())));
            running.push((name("new sockets"), Traffic::start(host, dial)));
        }
    }
    running
}

fn nothing_is_lost_while_it_is_switched(layout: Layout) {
    let mut stage = stage(Mode::PerPacket, layout);
    let before = start_traffic(&stage);
    sleep(PHASE);
    stage.node_mut(0).expect("a node").switch_agent(Mode::Accelerated).expect("switches");
    let between = start_traffic(&stage);
    sleep(PHASE);
    assert!(count(stage.node(0).expect("a node"), "accelerated") > 100.0);
    stage.node_mut(0).expect("a node").switch_agent(Mode::PerPacket).expect("switches");
    sleep(PHASE);
    let status = status(&stage);
    assert!(status.contains("acceleration: off for new flows"), "{status}");
    assert_nothing_was_lost(before, &stage);
    assert_nothing_was_lost(between, &stage);
}

#[test]
fn nothing_is_lost_while_it_is_switched_on_and_off_between_routed_pods() {
    nothing_is_lost_while_it_is_switched(Layout::Routed);
}

#[test]
fn nothing_is_lost_while_it_is_switched_on_and_off_between_bridged_pods() {
    nothing_is_lost_while_it_is_switched(Layout::Bridged);
}

/// For TCP and for UDP: which the firewall lets through, and on which nobody listens.
const CLOSED: [u16; 2] = [9090, 9091];

/// A service whose endpoint is those ports of the first pod.
fn closed() -> Vec<Value> {
    let addresses = ["10.96.0.14", "fd00:96::14"];
    let spec = json!({"clusterIP": addresses[0], "clusterIPs": addresses, "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "RequireDualStack", "ports": [
        {"name": "web", "port": 80, "targetPort": CLOSED[0]},
        {"name": "dns", "port": 53, "targetPort": CLOSED[1], "protocol": "UDP"},
    ]});
    let mut objects = vec![service("closed", &spec)];
    for (port_name, protocol, port) in [("web", "TCP", CLOSED[0]), ("dns", "UDP", CLOSED[1])] {
        for v6 in [false, true] {
            let endpoint = Endpoint::new(SocketAddr::new(pod_address(0, 0, v6), port), "node-a");
            let slice = Slice::new("closed", port, vec![endpoint]);
            objects.push(Slice { port_name, protocol, ..slice }.object());
        }
    }
    objects
}

fn closed_ports_refuse(layout: Layout) {
    let mut stage = stage(Mode::Accelerated, layout);
    stage.apply(closed()).expect("applies");
    let node = stage.node(0).expect("a node");
    let pod = node.pod(1).expect("a pod");
    let [[web, _], _] = NEAR;
    stage.wait_for_answer(pod, &Dial::new(Protocol::Tcp, at(web))).expect("the agent works");
    for address in ["10.96.0.14", "[fd00:96::14]"] {
        for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 53)] {
            let dial = Dial::new(protocol, at(&format!("{address}:{port}"))).patience(Duration::from_secs(3));
            let refused =
                |outcome: &Outcome| matches!(outcome, Outcome::Rejected(why) if why.contains("refused"));
            let forwarded = count(node, "forward");
            // Nobody but the endpoint is to refuse, and it has to be a neighbour.
            let is_there = |outcome: &Outcome| refused(outcome) && count(node, "forward") > forwarded;
            stage.wait_until(pod, &dial, CHANGE_PATIENCE, is_there).expect("is refused");
            let counts =
                || ["forward", "reverse", "icmp_error", "accelerated"].map(|event| count(node, event));
            let before = counts();
            let outcome = pod.worker().run(dial.once()).expect("asks").outcome;
            assert!(refused(&outcome), "{protocol:?} {outcome:?}");
            let after = counts();
            assert!(after[3] >= before[3] + 2.0, "{protocol:?} {address}: {before:?} {after:?}");
        }
    }
}

#[test]
fn closed_ports_of_routed_pods_refuse_datagrams_and_connections_at_once() {
    closed_ports_refuse(Layout::Routed);
}

#[test]
fn closed_ports_of_bridged_pods_refuse_datagrams_and_connections_at_once() {
    closed_ports_refuse(Layout::Bridged);
}
