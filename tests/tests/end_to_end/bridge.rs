//! Pods that share a bridge.

use std::fs;

use serde_json::json;
use shunt_tests::Mode;
use shunt_tests::in_each_mode;
use shunt_tests::lab::Protocol;
use shunt_tests::stage::{Endpoint, Slice, Stage, endpoints_of, service};

use super::{answered_by, at, tcp};

in_each_mode!(pods_on_one_bridge_reach_each_other_and_themselves_through_a_service,);

/// Makes replies between pods of one bridge pass the node's rules, as every
/// kube-proxy needs on such a network. (BPF programs see packets on the bridge's ports.)
pub(crate) fn filter_bridged_packets(stage: &Stage) {
    for number in 0..stage.nodes() {
        filter_on(stage.node(number).expect("a node").machine().namespace());
    }
}

fn filter_on(namespace: &shunt_tests::lab::Namespace) {
    for version in ["iptables", "ip6tables"] {
        let setting = format!("/proc/sys/net/bridge/bridge-nf-call-{version}");
        namespace
            .run(|| fs::write(&setting, "1"))
            .expect("a namespace")
            .unwrap_or_else(|error| panic!("{setting}: {error} (the kernel needs br_netfilter)"));
    }
}

fn pods_on_one_bridge_reach_each_other_and_themselves_through_a_service(mode: Mode) {
    let mut stage = Stage::create(mode, 1).expect("a stage");
    (5..8).for_each(|last| stage.node_mut(0).expect("a node").add_bridged_pod(last).expect("a pod"));
    if !mode.is_ebpf() {
        filter_bridged_packets(&stage);
    }
    let node = stage.node(0).expect("a node");
    let endpoint = |pod| Endpoint::new(node.endpoint(pod).expect("a pod"), node.name());
    let (both, own) = ([endpoint(0), endpoint(1)], [endpoint(0)]);
    let spec = |address: &str| json!({"clusterIP": address, "ports": [{"port": 80, "targetPort": 8080}]});
    let objects = [
        service("both", &spec("10.96.0.10")),
        Slice::new("both", 8080, both.clone()).object(),
        service("own", &spec("10.96.0.11")),
        Slice::new("own", 8080, own).object(),
    ];
    stage.apply(objects).expect("applies");
    let node = stage.node(0).expect("a node");
    let (first, third) = (node.pod(0).expect("a pod"), node.pod(2).expect("a pod"));
    for (host, to) in [(third, "10.96.0.10:80"), (third, "10.96.0.11:80"), (first, "10.96.0.11:80")] {
        stage.wait_for_answer(host, &tcp(to)).expect("the service works");
    }
    let attempts = third.ask_often(tcp("10.96.0.10:80"), 48).expect("asks");
    assert_eq!(endpoints_of(&attempts).expect("all are answered"), [both[0].at, both[1].at]);
    let hairpin = first.ask(Protocol::Tcp, at("10.96.0.11:80")).expect("asks");
    assert_eq!(answered_by(&hairpin.outcome), Some(both[0].at));
}
