//! Things break, and come right again.

use std::time::Duration;

use serde_json::json;
use shunt_tests::Mode;
use shunt_tests::in_each_mode;
use shunt_tests::stage::{CHANGE_PATIENCE, Endpoint, Slice, Stage, service};

use super::{answered_by, at, is_answer, tcp};

in_each_mode!(
    a_flushed_ruleset_is_repaired_within_five_seconds,
    services_of_a_killed_agent_go_on_and_a_new_one_catches_up,
    an_agent_that_ends_in_order_leaves_services_working,
);

const REPAIR_PATIENCE: Duration = Duration::from_secs(5);

/// A node with three pods and a service whose only endpoint is the first.
fn stage_with_service(mode: Mode) -> Stage {
    let mut stage = Stage::create(mode, 1).expect("a stage");
    (5..8).for_each(|last| stage.node_mut(0).expect("a node").add_pod(last).expect("a pod"));
    stage.apply(web(&stage, "web", "10.96.0.10", 0)).expect("applies");
    let (node, dial) = (stage.node(0).expect("a node"), tcp("10.96.0.10:80"));
    stage.wait_for_answer(node.pod(2).expect("a pod"), &dial).expect("the service works");
    stage
}

/// A Service and its slice with one pod as the endpoint.
fn web(stage: &Stage, name: &str, cluster_ip: &str, pod: usize) -> [serde_json::Value; 2] {
    let node = stage.node(0).expect("a node");
    let endpoint = Endpoint::new(node.endpoint(pod).expect("a pod"), node.name());
    let spec = json!({"clusterIP": cluster_ip, "ports": [{"port": 80, "targetPort": 8080}]});
    [service(name, &spec), Slice::new(name, 8080, [endpoint]).object()]
}

fn assert_repaired(stage: &Stage) {
    let pod = stage.node(0).expect("a node").pod(2).expect("a pod");
    let dial = tcp("10.96.0.10:80").patience(Duration::from_millis(200));
    let after = stage.wait_until(pod, &dial, REPAIR_PATIENCE, is_answer).expect("it is repaired");
    assert!(after < REPAIR_PATIENCE, "repaired only after {after:?}");
}

fn a_flushed_ruleset_is_repaired_within_five_seconds(mode: Mode) {
    let stage = stage_with_service(mode);
    stage.node(0).expect("a node").output("nft", &["flush", "ruleset"]).expect("nft runs");
    assert_repaired(&stage);
}

#[test]
fn emptied_and_deleted_tables_are_repaired_within_five_seconds() {
    let stage = stage_with_service(Mode::Nftables);
    let node = stage.node(0).expect("a node");
    for verb in ["flush", "delete"] {
        let tables = node.output("nft", &["list", "tables"]).expect("nft runs");
        assert!(!tables.trim().is_empty(), "the agent has no tables");
        for table in tables.lines() {
            let words: Vec<_> = [verb].into_iter().chain(table.split(' ')).collect();
            node.output("nft", &words).expect("nft runs");
        }
        assert_repaired(&stage);
    }
}

fn services_of_a_killed_agent_go_on_and_a_new_one_catches_up(mode: Mode) {
    let mut stage = stage_with_service(mode);
    let dial = tcp("10.96.0.10:80");
    let connection = {
        let pod = stage.node(0).expect("a node").pod(2).expect("a pod");
        let (connection, outcome) = pod.ask_again(pod.open(dial.clone()).expect("connects")).expect("asks");
        assert!(is_answer(&outcome), "{outcome:?}");
        connection
    };
    stage.node_mut(0).expect("a node").kill_agent().expect("is killed");
    stage.apply(web(&stage, "web", "10.96.0.10", 1)).expect("applies");
    stage.apply(web(&stage, "new", "10.96.0.11", 1)).expect("applies");
    let connection = {
        let pod = stage.node(0).expect("a node").pod(2).expect("a pod");
        let (connection, outcome) = pod.ask_again(connection).expect("asks");
        assert!(is_answer(&outcome), "the connection broke with the agent: {outcome:?}");
        let first = stage.node(0).expect("a node").endpoint(0).expect("a pod");
        let fresh = pod.ask_often(dial.clone(), 20).expect("asks");
        assert!(
            fresh.iter().all(|attempt| answered_by(&attempt.outcome) == Some(first)),
            "new connections without an agent: {fresh:?}"
        );
        connection
    };
    stage.node_mut(0).expect("a node").start_agent().expect("starts");
    let node = stage.node(0).expect("a node");
    let (pod, second) = (node.pod(2).expect("a pod"), node.endpoint(1).expect("a pod"));
    stage
        .wait_until(pod, &dial, CHANGE_PATIENCE, |outcome| answered_by(outcome) == Some(second))
        .expect("the change is caught up with");
    stage.wait_for_answer(pod, &tcp("10.96.0.11:80")).expect("the new service works");
    let (_, outcome) = pod.ask_again(connection).expect("asks");
    assert_eq!(answered_by(&outcome), Some(at("10.244.1.5:8080")), "the old connection lives on");
}

#[test]
fn a_broken_manifest_is_reported_and_the_others_work_on() {
    let mut stage = stage_with_service(Mode::Nftables);
    let broken = "apiVersion: v1\nkind: Service\nmetadata:\n  name: [\n";
    stage.node(0).expect("a node").feed().write_file("broken.yaml", broken).expect("writes");
    stage.apply(web(&stage, "new", "10.96.0.11", 1)).expect("applies");
    let node = stage.node(0).expect("a node");
    let pod = node.pod(2).expect("a pod");
    stage.wait_for_answer(pod, &tcp("10.96.0.11:80")).expect("the new service works");
    stage.wait_for_answer(pod, &tcp("10.96.0.10:80")).expect("the old service works");
    assert!(node.agent().log().contains("broken.yaml"), "no word about the file:\n{}", stage.logs());

    let [service, slice] = web(&stage, "mended", "10.96.0.12", 1);
    let mended = format!("{service}\n---\n{slice}\n");
    node.feed().write_file("broken.yaml", &mended).expect("writes");
    stage.wait_for_answer(pod, &tcp("10.96.0.12:80")).expect("the mended file counts");
    node.feed().remove_file("broken.yaml").expect("is removed");
    let gone = tcp("10.96.0.12:80").patience(Duration::from_millis(200));
    stage
        .wait_until(pod, &gone, CHANGE_PATIENCE, |outcome| !is_answer(outcome))
        .expect("a removed file counts");
    stage.node_mut(0).expect("a node").check_agent().expect("the agent runs");
}

fn an_agent_that_ends_in_order_leaves_services_working(mode: Mode) {
    let mut stage = stage_with_service(mode);
    stage.node_mut(0).expect("a node").stop_agent().expect("ends in order");
    let pod = stage.node(0).expect("a node").pod(2).expect("a pod");
    let attempts = pod.ask_often(tcp("10.96.0.10:80"), 10).expect("asks");
    assert!(attempts.iter().all(|attempt| is_answer(&attempt.outcome)), "{attempts:?}");
}
