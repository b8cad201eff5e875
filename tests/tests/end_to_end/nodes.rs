//! Node ports, node addresses, and a second node.

use std::time::Duration;

use serde_json::json;
use shunt_tests::Mode;
use shunt_tests::flows::Config;
use shunt_tests::in_each_mode;
use shunt_tests::lab::{Dial, Outcome, Protocol};
use shunt_tests::stage::{CHANGE_PATIENCE, Endpoint, Slice, Stage, endpoints_of, service};

use super::{at, is_answer, tcp};

in_each_mode!(
    node_ports_follow_addresses_that_come_and_go,
    pods_of_another_node_are_reached_through_either_node,
    both_ip_versions_of_a_service_work_and_fail_alone,
);

const BRIEF: Duration = Duration::from_millis(200);

fn node_port_service(policy: &str) -> serde_json::Value {
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.10", "externalTrafficPolicy": policy,
                      "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}]});
    service("web", &spec)
}

fn node_ports_follow_addresses_that_come_and_go(mode: Mode) {
    let config = Config { node_port_addresses: vec!["192.168.60.0/24".to_owned()], ..Config::default() };
    let mut stage = Stage::with_config(mode, 1, &config).expect("a stage");
    stage.node_mut(0).expect("a node").add_pod(5).expect("a pod");
    let node = stage.node(0).expect("a node");
    let endpoint = Endpoint::new(node.endpoint(0).expect("a pod"), node.name());
    stage
        .apply([node_port_service("Cluster"), Slice::new("web", 8080, [endpoint]).object()])
        .expect("applies");
    let (node, client) = (stage.node(0).expect("a node"), stage.client());
    stage.wait_for_answer(client, &tcp("10.96.0.10:80")).expect("the service works");
    let other = client.ask(Protocol::Tcp, at("192.168.50.11:30080")).expect("asks");
    assert!(!is_answer(&other.outcome), "a node port on an address that was not selected: {other:?}");

    client.ip(&["route add 192.168.60.0/24 via 192.168.50.11"]).expect("a route");
    let dial = tcp("192.168.60.1:30080").patience(BRIEF);
    for _ in 0..2 {
        node.machine().ip(&["addr add 192.168.60.1/24 dev up0"]).expect("an address");
        stage.wait_for_answer(client, &dial).expect("the node port is there with the address");
        node.machine().ip(&["addr del 192.168.60.1/24 dev up0"]).expect("no address");
        stage
            .wait_until(client, &dial, CHANGE_PATIENCE, |outcome| !is_answer(outcome))
            .expect("the node port goes with the address");
    }
}

fn pods_of_another_node_are_reached_through_either_node(mode: Mode) {
    let mut stage = Stage::create(mode, 2).expect("a stage");
    for number in 0..2 {
        let node = stage.node_mut(number).expect("a node");
        (5..7).for_each(|last| node.add_pod(last).expect("a pod"));
    }
    let endpoints: Vec<_> = [0, 1]
        .map(|number| {
            let node = stage.node(number).expect("a node");
            Endpoint::new(node.endpoint(0).expect("a pod"), node.name())
        })
        .into();
    let both: Vec<_> = endpoints.iter().map(|endpoint| endpoint.at).collect();
    stage
        .apply([node_port_service("Cluster"), Slice::new("web", 8080, endpoints.clone()).object()])
        .expect("applies");
    let pods = [0, 1].map(|number| stage.node(number).expect("a node").pod(1).expect("a pod"));
    let ways = [
        (pods[0], "10.96.0.10:80"),
        (pods[1], "10.96.0.10:80"),
        (pods[1], "192.168.50.11:30080"),
        (stage.client(), "192.168.50.11:30080"),
        (stage.client(), "192.168.50.12:30080"),
        (stage.node(0).expect("a node").machine(), "10.96.0.10:80"),
        (stage.node(0).expect("a node").machine(), "192.168.50.12:30080"),
    ];
    for (host, to) in ways {
        stage.wait_for_answer(host, &tcp(to)).expect("the service works");
        let attempts = host.ask_often(tcp(to), 48).expect("asks");
        let seen = endpoints_of(&attempts).unwrap_or_else(|error| panic!("{to}: {error:#}: {attempts:?}"));
        assert_eq!(seen, both, "{to}");
    }

    // With policy Local only the node that has an endpoint answers, and the
    // endpoint sees the client itself.
    let remote = Slice::new("web", 8080, [endpoints[1].clone()]).object();
    stage.apply([node_port_service("Local"), remote]).expect("applies");
    let client = stage.client();
    let own = client.address().expect("an address");
    let sees_client = |outcome: &Outcome| matches!(outcome, Outcome::Answer(answer) if answer.peer.ip() == own && answer.local == both[1]);
    stage
        .wait_until(client, &tcp("192.168.50.12:30080"), CHANGE_PATIENCE, sees_client)
        .expect("the client's address is kept");
    let dropped = tcp("192.168.50.11:30080").patience(BRIEF);
    stage
        .wait_until(client, &dropped, CHANGE_PATIENCE, |outcome| *outcome == Outcome::Timeout)
        .expect("without a local endpoint packets are dropped");
}

fn both_ip_versions_of_a_service_work_and_fail_alone(mode: Mode) {
    let mut stage = Stage::create(mode, 1).expect("a stage");
    (5..7).for_each(|last| stage.node_mut(0).expect("a node").add_pod(last).expect("a pod"));
    let spec = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.10",
        "clusterIPs": ["10.96.0.10", "fd00:96::10"], "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}]});
    let v4 = Endpoint::new(at("10.244.1.5:8080"), "node-a");
    let v6 = Endpoint::new(at("[fd00:244:1::5]:8080"), "node-a");
    let objects = [
        service("web", &spec),
        Slice::new("web", 8080, [v4]).object(),
        Slice::new("web", 8080, [v6]).object(),
    ];
    stage.apply(objects).expect("applies");
    let (pod, client) = (stage.node(0).expect("a node").pod(1).expect("a pod"), stage.client());
    let ways = ["10.96.0.10:80", "[fd00:96::10]:80", "192.168.50.11:30080", "[fd00:50::11]:30080"];
    for (host, to) in [pod, client].into_iter().flat_map(|host| ways.map(|to| (host, to))) {
        stage.wait_for_answer(host, &tcp(to)).expect("the service works");
    }
    stage.delete_all([("EndpointSlice", "web-8080-v6".to_owned())]).expect("deletes");
    let pod = stage.node(0).expect("a node").pod(1).expect("a pod");
    let refused = Dial::new(Protocol::Tcp, at("[fd00:96::10]:80")).patience(Duration::from_secs(3));
    stage
        .wait_until(pod, &refused, CHANGE_PATIENCE, |outcome| matches!(outcome, Outcome::Rejected(_)))
        .expect("IPv6 is refused");
    assert!(is_answer(&pod.ask(Protocol::Tcp, at("10.96.0.10:80")).expect("asks").outcome), "IPv4 works on");
}
