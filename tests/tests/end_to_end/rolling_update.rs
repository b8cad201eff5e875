//! Pods are replaced while requests go on.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;
use shunt_tests::Mode;
use shunt_tests::in_each_mode;
use shunt_tests::stage::{Endpoint, Slice, Stage, Traffic, TrafficReport, service};

use super::tcp;

in_each_mode!(a_rolling_update_loses_no_request,);

const CLUSTER_IP: &str = "10.96.0.10:80";
const NODE_PORT: &str = "192.168.50.11:30080";
/// Longer than any agent may take for one change of this small cluster.
const PHASE: Duration = Duration::from_millis(600);

fn report_of(traffic: Traffic, stage: &Stage) -> TrafficReport {
    let report = traffic.finish().expect("the requests end");
    assert!(
        report.failures.is_empty(),
        "{} of {} requests were lost: {:?}\n{}",
        report.failures.len(),
        report.requests,
        report.failures,
        stage.logs()
    );
    report
}

fn a_rolling_update_loses_no_request(mode: Mode) {
    let mut stage = Stage::create(mode, 2).expect("a stage");
    for number in 0..2 {
        let node = stage.node_mut(number).expect("a node");
        (5..8).for_each(|last| node.add_pod(last).expect("a pod"));
    }
    let endpoint = |stage: &Stage, node: usize, pod: usize| {
        let node = stage.node(node).expect("a node");
        Endpoint::new(node.endpoint(pod).expect("a pod"), node.name())
    };
    let old = [endpoint(&stage, 0, 0), endpoint(&stage, 1, 0)];
    let new = [endpoint(&stage, 0, 1), endpoint(&stage, 1, 1)];
    let web = service(
        "web",
        &json!({"type": "NodePort", "clusterIP": "10.96.0.10",
                "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}]}),
    );
    stage.apply([web, Slice::new("web", 8080, old.clone()).object()]).expect("applies");
    let inside = stage.node(0).expect("a node").pod(2).expect("a pod");
    stage.wait_for_answer(inside, &tcp(CLUSTER_IP)).expect("the service works inside");
    stage.wait_for_answer(stage.client(), &tcp(NODE_PORT)).expect("the service works outside");

    let from_pod = Traffic::start(inside, tcp(CLUSTER_IP));
    let from_outside = Traffic::start(stage.client(), tcp(NODE_PORT));
    let both = old.iter().chain(&new).cloned();
    stage.apply([Slice::new("web", 8080, both).object()]).expect("applies");
    sleep(PHASE);
    let leaving = old.iter().cloned().map(Endpoint::terminating).chain(new.clone());
    stage.apply([Slice::new("web", 8080, leaving).object()]).expect("applies");
    sleep(PHASE);
    stage.apply([Slice::new("web", 8080, new.clone()).object()]).expect("applies");
    sleep(PHASE);
    // Now the old pods really go away.
    for node in 0..2 {
        let pod = stage.node(node).expect("a node").pod(0).expect("a pod");
        pod.ip(&["link set eth0 down"]).expect("goes away");
    }
    sleep(PHASE);
    for report in [report_of(from_pod, &stage), report_of(from_outside, &stage)] {
        let seen: Vec<_> = report.answers.keys().copied().collect();
        let mut all: Vec<_> = old.iter().chain(&new).map(|endpoint| endpoint.at).collect();
        all.sort();
        assert_eq!(seen, all, "every old and new pod had its share");
        assert!(report.requests > 100, "only {} requests", report.requests);
    }
}
