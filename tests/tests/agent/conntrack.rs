//! UDP flows follow the services, and nobody else's flows are touched.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use shunt_tests::Mode;
use shunt_tests::agent::{CHANGE_PATIENCE, Scene, at, eventually, udp};
use shunt_tests::in_each_mode;
use shunt_tests::lab::{Client, Outcome, Protocol};
use shunt_tests::stage::service;

in_each_mode!(
    a_flow_moves_when_its_endpoint_goes_and_comes_back_after_there_was_none,
    a_flow_ends_with_its_service,
    flows_whose_endpoint_went_while_the_agent_was_down_move_at_its_start,
    flows_of_a_service_that_was_deleted_while_the_agent_was_down_end_at_its_start,
    flows_that_have_nothing_to_do_with_it_survive,
    an_endpoint_that_is_added_leaves_flows_where_they_are,
);

const DNS: &str = "10.96.0.53:53";

fn dns_service() -> Value {
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.53",
                      "ports": [{"protocol": "UDP", "port": 53, "targetPort": 5353, "nodePort": 30053}]});
    service("dns", &spec)
}

/// Three pods, and a UDP service whose only endpoint is the first.
fn scene_with_dns(mode: Mode) -> Scene {
    let mut scene = Scene::create(mode, 3).expect("a scene");
    scene.api.put(dns_service()).expect("applies");
    scene.api.put(scene.udp_slice("dns", &[0]).expect("a slice")).expect("applies");
    scene.start().expect("starts");
    let answered = |outcome: &Outcome| matches!(outcome, Outcome::Answer(_));
    scene.wait_until(scene.asker().expect("a pod"), &udp(DNS), answered).expect("works");
    scene
}

/// A socket that keeps sending from one port, as resolvers do; the first pod has answered it. When it is told that its
/// endpoint is gone (as those are that were connected to the endpoint itself), another one is opened.
struct Flow(Option<Client>);

impl Flow {
    fn open(scene: &Scene) -> Self {
        let mut flow = Self(None);
        assert_eq!(flow.ask(scene), Some(scene.pod_address(0).expect("a pod")));
        flow
    }

    /// Who answers.
    fn ask(&mut self, scene: &Scene) -> Option<std::net::IpAddr> {
        let asker = scene.asker().expect("a pod");
        let client = match self.0.take() {
            Some(client) => client,
            // Refused at once where there is no endpoint to connect to.
            None => asker.open(udp(DNS)).ok()?,
        };
        let (client, outcome) = asker.ask_again(client).expect("asks");
        self.0 = Some(client).filter(|client| !client.was_aborted());
        match outcome {
            Outcome::Answer(answer) => Some(answer.local.ip()),
            _ => None,
        }
    }

    fn wait_for(&mut self, scene: &Scene, pod: Option<usize>) {
        let wanted = pod.map(|pod| scene.pod_address(pod).expect("a pod"));
        let mut last = None;
        eventually("the flow moves", CHANGE_PATIENCE, || {
            last = self.ask(scene);
            Ok((last == wanted).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}: {last:?}, not {wanted:?}\n{}", scene.agent.log_tail()));
    }
}

/// Identities of the node's UDP flows towards that address and port.
fn entries(scene: &Scene, address: &str, port: u16) -> BTreeSet<String> {
    let port = port.to_string();
    let arguments = ["-L", "-p", "udp", "--orig-dst", address, "--orig-port-dst", &port, "-o", "id"];
    let listed = scene.output("conntrack", &arguments).expect("conntrack runs");
    let id = |line: &str| line.split(' ').find_map(|word| word.strip_prefix("id=")).map(str::to_owned);
    listed.lines().filter_map(id).collect()
}

fn a_flow_moves_when_its_endpoint_goes_and_comes_back_after_there_was_none(mode: Mode) {
    let scene = scene_with_dns(mode);
    let mut flow = Flow::open(&scene);
    scene.api.put(scene.udp_slice("dns", &[1]).expect("a slice")).expect("applies");
    flow.wait_for(&scene, Some(1));
    scene.api.put(scene.udp_slice("dns", &[]).expect("a slice")).expect("applies");
    flow.wait_for(&scene, None);
    scene.api.put(scene.udp_slice("dns", &[0]).expect("a slice")).expect("applies");
    flow.wait_for(&scene, Some(0));
    scene.api.delete("EndpointSlice", "dns-5353").expect("deletes");
    flow.wait_for(&scene, None);
    if mode.is_ebpf() {
        // Its flows are not in connection tracking.
        return;
    }
    let metrics = scene.metrics().expect("metrics");
    let deleted = metrics.count("kubeproxy_conntrack_reconciler_deleted_entries_total", &[]);
    assert!(deleted >= 3.0, "{deleted} flows counted");
    assert!(metrics.count("kubeproxy_conntrack_reconciler_sync_duration_seconds_count", &[]) >= 3.0);
}

fn a_flow_ends_with_its_service(mode: Mode) {
    let scene = scene_with_dns(mode);
    let mut flow = Flow::open(&scene);
    scene.api.delete("Service", "dns").expect("deletes");
    flow.wait_for(&scene, None);
    scene.api.put(dns_service()).expect("applies");
    flow.wait_for(&scene, Some(0));
}

fn flows_whose_endpoint_went_while_the_agent_was_down_move_at_its_start(mode: Mode) {
    let mut scene = scene_with_dns(mode);
    let mut flow = Flow::open(&scene);
    scene.agent.kill().expect("is killed");
    scene.api.put(scene.udp_slice("dns", &[1]).expect("a slice")).expect("applies");
    assert_eq!(flow.ask(&scene), Some(scene.pod_address(0).expect("a pod")), "nobody is there to move it");
    scene.start().expect("starts");
    flow.wait_for(&scene, Some(1));

    scene.agent.kill().expect("is killed");
    scene.api.delete("EndpointSlice", "dns-5353").expect("deletes");
    scene.start().expect("starts");
    flow.wait_for(&scene, None);
}

/// The service goes while nobody looks, with its cluster IP and its node port.
fn flows_of_a_service_that_was_deleted_while_the_agent_was_down_end_at_its_start(mode: Mode) {
    let mut scene = scene_with_dns(mode);
    let mut flow = Flow::open(&scene);
    let node_port = scene.client().ask(Protocol::Udp, at("192.168.50.11:30053")).expect("asks");
    assert!(matches!(node_port.outcome, Outcome::Answer(_)), "{node_port:?}");
    assert_eq!(entries(&scene, "192.168.50.11", 30053).len(), usize::from(!mode.is_ebpf()));
    scene.agent.kill().expect("is killed");
    scene.api.delete("Service", "dns").expect("deletes");
    scene.api.delete("EndpointSlice", "dns-5353").expect("deletes");
    scene.start().expect("starts");
    flow.wait_for(&scene, None);
    eventually("the node port's flow goes as well", CHANGE_PATIENCE, || {
        Ok(entries(&scene, "192.168.50.11", 30053).is_empty().then_some(()))
    })
    .expect("goes");
}

fn flows_that_have_nothing_to_do_with_it_survive(mode: Mode) {
    let mut scene = scene_with_dns(mode);
    scene.client().listen(Protocol::Udp, 30053).expect("listens");
    scene.client().listen(Protocol::Udp, 53).expect("listens");
    // Translated by somebody else: a host port, as a CNI plug-in makes it.
    scene
        .nft(
            "table ip hostport {\n chain p {\n type nat hook prerouting priority -90\n \
             ip daddr 192.168.50.11 udp dport 5300 dnat to 10.244.1.12:5353\n }\n }",
        )
        .expect("nft runs");
    let asker = scene.asker().expect("a pod");
    let others = ["192.168.50.200:30053", "192.168.50.200:53", "10.244.1.11:5353"];
    for to in others {
        let (_, outcome) = asker.ask_again(asker.open(udp(to)).expect("opens")).expect("asks");
        assert!(matches!(outcome, Outcome::Answer(_)), "{to}: {outcome:?}");
    }
    let hostport = scene.client().ask(Protocol::Udp, at("192.168.50.11:5300")).expect("asks");
    assert!(matches!(hostport.outcome, Outcome::Answer(_)), "{hostport:?}");
    let node_port = scene.client().ask(Protocol::Udp, at("192.168.50.11:30053")).expect("asks");
    assert!(matches!(node_port.outcome, Outcome::Answer(_)), "{node_port:?}");
    let unrelated = |scene: &Scene| {
        let places = [
            ("192.168.50.200", 30053),
            ("192.168.50.200", 53),
            ("10.244.1.11", 5353),
            ("192.168.50.11", 5300),
        ];
        places.map(|(address, port)| entries(scene, address, port))
    };
    let before = unrelated(&scene);
    // BPF programs translate before connection tracking, which sees the node port's flow as one to the pod.
    let to_pod = 1 + usize::from(mode.is_ebpf());
    assert_eq!(before.each_ref().map(BTreeSet::len), [1, 1, to_pod, 1], "{before:?}");
    assert_eq!(entries(&scene, "192.168.50.11", 30053).len(), usize::from(!mode.is_ebpf()));
    let mut flow = Flow::open(&scene);

    scene.api.put(scene.udp_slice("dns", &[1]).expect("a slice")).expect("applies");
    flow.wait_for(&scene, Some(1));
    eventually("the node port's flow is stale as well", CHANGE_PATIENCE, || {
        Ok(entries(&scene, "192.168.50.11", 30053).is_empty().then_some(()))
    })
    .expect("goes");
    assert_survive(&before, &unrelated(&scene));
    scene.api.put(scene.udp_slice("dns", &[]).expect("a slice")).expect("applies");
    flow.wait_for(&scene, None);
    scene.agent.kill().expect("is killed");
    scene.start().expect("starts");
    scene.api.put(scene.udp_slice("dns", &[0]).expect("a slice")).expect("applies");
    flow.wait_for(&scene, Some(0));
    scene.api.delete("Service", "dns").expect("deletes");
    flow.wait_for(&scene, None);
    assert_survive(&before, &unrelated(&scene));
}

/// Flows of the service itself may have come on top.
fn assert_survive(before: &[BTreeSet<String>; 4], now: &[BTreeSet<String>; 4]) {
    assert!(before.iter().zip(now).all(|(before, now)| before.is_subset(now)), "{before:?} -> {now:?}");
}

fn an_endpoint_that_is_added_leaves_flows_where_they_are(mode: Mode) {
    let scene = scene_with_dns(mode);
    let mut flow = Flow::open(&scene);
    let before = entries(&scene, "10.96.0.53", 53);
    scene.api.put(scene.udp_slice("dns", &[0, 1]).expect("a slice")).expect("applies");
    let second = scene.pod_address(1).expect("a pod");
    let right = |outcome: &Outcome| matches!(outcome, Outcome::Answer(answer) if answer.local.ip() == second);
    scene
        .wait_until(scene.asker().expect("a pod"), &udp(DNS), right)
        .expect("new flows reach the new endpoint");
    assert_eq!(flow.ask(&scene), Some(scene.pod_address(0).expect("a pod")));
    assert!(before.is_subset(&entries(&scene, "10.96.0.53", 53)), "no flow was deleted");
}
