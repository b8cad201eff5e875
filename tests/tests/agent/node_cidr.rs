//! `detectLocalMode: NodeCIDR`, where the node's pod ranges decide what is local.

use std::time::Duration;

use serde_json::{Value, json};
use shunt_tests::agent::{Scene, tcp};
use shunt_tests::lab::{Outcome, Protocol};
use shunt_tests::mode::{Connection, Source};
use shunt_tests::{Mode, in_each_mode};

use super::{WEB, is_answer};

in_each_mode!(the_agent_waits_for_pod_cidrs_and_ends_when_they_change);

/// Of the client outside, with an endpoint here.
const FROM_OUTSIDE: Connection = Connection {
    protocol: Protocol::Tcp,
    masqueraded_by_kube_proxy: true,
    masquerade_all: false,
    client_is_here: false,
    endpoint_is_here: true,
    to_itself: false,
};

fn scene(mode: Mode) -> Scene {
    let mut scene = Scene::create(mode, 2).expect("a scene");
    scene.agent.config["detectLocalMode"] = json!("NodeCIDR");
    scene.publish("web", "10.96.0.10", &[0]).expect("applies");
    scene
}

fn node_with(scene: &Scene, pod_cidrs: &[&str]) -> Value {
    let mut node = scene.api.list("Node").expect("lists").remove(0);
    node["spec"] = json!({});
    if let Some(first) = pod_cidrs.first() {
        node["spec"] = json!({"podCIDR": first, "podCIDRs": pod_cidrs});
    }
    node["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
    node
}

fn the_agent_waits_for_pod_cidrs_and_ends_when_they_change(mode: Mode) {
    let mut scene = scene(mode);
    let without = node_with(&scene, &[]);
    let with = node_with(&scene, &["10.244.1.0/24"]);
    scene.api.put(without).expect("applies");
    scene.start().expect("starts");
    std::thread::sleep(Duration::from_millis(700));
    scene.agent.check().expect("it waits");
    assert!(!is_answer(
        &scene.asker().expect("a pod").ask(Protocol::Tcp, shunt_tests::agent::at(WEB)).expect("asks").outcome
    ));
    scene.api.put(with).expect("applies");
    scene.wait_for_answer(WEB).expect("works with pod CIDRs");

    // The client outside is masqueraded where the mode does that, the pod is not.
    let seen_as = |outcome: &Outcome| match outcome {
        Outcome::Answer(answer) => Some(answer.peer.ip()),
        _ => None,
    };
    let asker = scene.asker().expect("a pod");
    let inside = asker.worker().run(tcp(WEB).once()).expect("asks");
    assert_eq!(seen_as(&inside.outcome), Some(asker.address().expect("an address")));
    let outside = scene.client().worker().run(tcp(WEB).once()).expect("asks");
    let kept = seen_as(&outside.outcome) == Some(scene.client().address().expect("an address"));
    assert_eq!(kept, mode.source(&FROM_OUTSIDE) == Source::Client, "{outside:?}");
    assert!(is_answer(&outside.outcome), "{outside:?}");

    let mut labelled = node_with(&scene, &["10.244.1.0/24"]);
    labelled["metadata"]["labels"]["example.org/any"] = json!("change");
    scene.api.put(labelled).expect("applies");
    scene.publish("new", "10.96.0.11", &[0]).expect("applies");
    scene.wait_for_answer("10.96.0.11:80").expect("other changes of the node are harmless");
    scene.api.put(node_with(&scene, &["10.244.9.0/24"])).expect("applies");
    let ended = scene.agent.wait_for_end().expect("ends");
    assert_eq!(ended.code().expect("a code"), 1);
    assert!(
        ended.output.contains("10.244.1.0/24") && ended.output.contains("10.244.9.0/24"),
        "{}",
        ended.output
    );
    scene.assert_works(WEB, 3).expect("what is programmed stays");
    scene.start().expect("starts again");
    scene.wait_for_answer(WEB).expect("works");
}
