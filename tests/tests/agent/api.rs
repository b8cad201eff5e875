//! Lists, watches and restarts, with our own API server and, where there is one, a real one.

use std::time::Duration;

use serde_json::json;
use shunt_tests::Mode;
use shunt_tests::agent::{ApiKind, CHANGE_PATIENCE, Scene, eventually, tcp};
use shunt_tests::apiserver::Faults;
use shunt_tests::in_each_mode;
use shunt_tests::lab::Outcome;

use super::{WEB, open_connection, scene_with_web, still_works};

in_each_mode!(
    services_come_change_and_go_with_their_objects,
    an_api_server_that_was_restarted_is_found_again,
    a_killed_agent_keeps_connections_and_drops_what_was_deleted_meanwhile,
    services_work_although_the_node_is_not_registered_yet,
    addresses_that_no_service_has_are_dropped_while_they_are_in_a_service_cidr,
);

/// A scene with each API server in turn.
fn each_api(mode: Mode, pods: u8, mut test: impl FnMut(Scene)) {
    for kind in ApiKind::all() {
        test(Scene::with_api(mode, pods, &kind).expect("a scene"));
    }
}

fn services_come_change_and_go_with_their_objects(mode: Mode) {
    each_api(mode, 3, |mut scene| {
        scene.start_with_web().expect("the agent serves");
        scene.publish("web", "10.96.0.10", &[1]).expect("applies");
        scene.wait_for_pod(WEB, 1).expect("the endpoint changes");
        scene.publish("new", "10.96.0.11", &[0]).expect("applies");
        scene.wait_for_pod("10.96.0.11:80", 0).expect("a new service works");
        scene.unpublish("web").expect("deletes");
        scene.wait_for_silence(WEB).expect("a deleted service is gone");
        scene.assert_works("10.96.0.11:80", 3).expect("the other one is untouched");
        scene.agent.stop().expect("ends when asked to");
    });
}

fn an_api_server_that_was_restarted_is_found_again(mode: Mode) {
    each_api(mode, 3, |mut scene| {
        scene.start_with_web().expect("the agent serves");
        scene.api.stop().expect("stops");
        scene.assert_works(WEB, 3).expect("services go on without the API server");
        assert_eq!(
            scene.http("/healthz").expect("answers").status,
            200,
            "an API server away is no fault of ours"
        );
        scene.api.resume().expect("starts");
        scene.publish("web", "10.96.0.10", &[1]).expect("applies");
        scene.wait_for_pod(WEB, 1).expect("changes arrive again");
        scene.unpublish("web").expect("deletes");
        scene.wait_for_silence(WEB).expect("deletions too");
    });
}

fn a_killed_agent_keeps_connections_and_drops_what_was_deleted_meanwhile(mode: Mode) {
    each_api(mode, 3, |mut scene| {
        scene.start_with_web().expect("the agent serves");
        scene.publish("gone", "10.96.0.11", &[0]).expect("applies");
        scene.wait_for_answer("10.96.0.11:80").expect("works");
        let connection = open_connection(&scene, WEB);
        scene.agent.kill().expect("is killed");
        scene.unpublish("gone").expect("deletes");
        scene.publish("new", "10.96.0.12", &[1]).expect("applies");
        scene.assert_works(WEB, 3).expect("services go on without the agent");
        scene.assert_works("10.96.0.11:80", 1).expect("nobody is there to remove this one");
        let connection = still_works(&scene, connection);
        scene.start().expect("starts again");
        scene.wait_for_answer("10.96.0.12:80").expect("what was made meanwhile works");
        scene.wait_for_silence("10.96.0.11:80").expect("what was deleted meanwhile is gone");
        still_works(&scene, connection);
        scene.assert_works(WEB, 3).expect("what stayed works");
    });
}

/// Many objects, read in pages of at most seven.
#[test]
fn a_server_without_streaming_lists_is_read_in_pages() {
    let mut scene = Scene::create(Mode::Nftables, 2).expect("a scene");
    scene
        .api
        .faults(|faults| {
            faults.streaming_lists(false);
            faults.max_page(7);
        })
        .expect("our own server");
    for number in 1..=40 {
        scene.publish(&format!("s{number:02}"), &format!("10.96.1.{number}"), &[0]).expect("applies");
    }
    scene.start().expect("starts");
    for number in [1, 20, 40] {
        scene.wait_for_answer(&format!("10.96.1.{number}:80")).expect("every page counts");
    }
    scene.unpublish("s20").expect("deletes");
    scene.wait_for_silence("10.96.1.20:80").expect("the watch goes on from the list");
    let requests = scene.api.faults(Faults::requests).expect("our own server");
    let continued = |path: &str| {
        requests.iter().filter(|request| request.path == path && request.query.contains("continue=")).count()
    };
    assert_eq!(continued("/api/v1/services"), 5, "40 objects are six pages of seven");
    assert_eq!(continued("/apis/discovery.k8s.io/v1/endpointslices"), 5);
}

#[test]
fn lists_are_streamed_and_selected_as_kube_proxy_does() {
    let mut scene = Scene::create(Mode::Nftables, 2).expect("a scene");
    let labelled = json!({"service.kubernetes.io/service-proxy-name": "another"});
    let mut other =
        shunt_tests::stage::service("other", &json!({"clusterIP": "10.96.0.20", "ports": [{"port": 80}]}));
    other["metadata"]["labels"] = labelled;
    scene.api.put(other).expect("applies");
    scene.api.put(scene.slice("other", &[0]).expect("a slice")).expect("applies");
    scene.start_with_web().expect("the agent serves");
    scene.assert_works("10.96.0.20:80", 1).expect_err("another proxy's service is not ours");
    let requests = scene.api.faults(Faults::requests).expect("our own server");
    let query_of = |path: &str| {
        let found = requests.iter().find(|request| request.path == path).expect("is asked for");
        found.query.replace("%2F", "/").replace("%21", "!").replace("%3D", "=")
    };
    for path in ["/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices", "/api/v1/nodes"] {
        assert!(query_of(path).contains("sendInitialEvents=true"), "{path}: {}", query_of(path));
        assert!(query_of(path).contains("allowWatchBookmarks=true"), "{path}: {}", query_of(path));
    }
    let services = query_of("/api/v1/services");
    assert!(services.contains("!service.kubernetes.io/service-proxy-name"), "{services}");
    assert!(services.contains("spec.clusterIP!=None"), "{services}");
    let slices = query_of("/apis/discovery.k8s.io/v1/endpointslices");
    assert!(slices.contains("!service.kubernetes.io/headless"), "{slices}");
    assert!(query_of("/api/v1/nodes").contains("metadata.name=node-a"), "{}", query_of("/api/v1/nodes"));
    let lists = requests.iter().filter(|request| request.query.contains("limit=")).count();
    assert_eq!(lists, 0, "nothing is listed in pages where lists can be streamed");
}

#[test]
fn an_agent_says_on_its_node_that_it_starts() {
    each_api(Mode::Nftables, 1, |mut scene| {
        scene.start().expect("starts");
        let found = eventually("the event Starting", CHANGE_PATIENCE, || {
            let events = scene.api.list("Event")?;
            Ok(events.into_iter().find(|event| event["reason"] == "Starting"))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.agent.log_tail()));
        assert_eq!(found["regarding"]["kind"], "Node");
        assert_eq!(found["regarding"]["name"], "node-a");
        assert_eq!(found["type"], "Normal");
    });
}

/// kube-proxy takes up to thirty seconds for it; the agent serves what it has.
fn services_work_although_the_node_is_not_registered_yet(mode: Mode) {
    let mut scene = Scene::create(mode, 2).expect("a scene");
    scene.api.delete("Node", "node-a").expect("deletes");
    scene.publish("web", "10.96.0.10", &[0]).expect("applies");
    scene.start().expect("starts");
    assert_eq!(scene.http("/healthz").expect("answers").status, 503, "the node is not known");
    assert_eq!(scene.http("/livez").expect("answers").status, 200);
    scene.wait_for_answer(WEB).expect("services do not wait for the Node object");
    std::thread::sleep(Duration::from_millis(100));
    scene.agent.check().expect("the agent runs");
}

fn addresses_that_no_service_has_are_dropped_while_they_are_in_a_service_cidr(mode: Mode) {
    let scene = scene_with_web(mode, 2);
    let asker = scene.asker().expect("a pod");
    let unallocated = tcp("10.96.5.5:80");
    let refused = |outcome: &Outcome| matches!(outcome, Outcome::Rejected(_));
    scene.wait_until(asker, &unallocated, refused).expect("the node has no route there");
    let cidr = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
                      "spec": {"cidrs": ["10.96.0.0/16"]}});
    scene.api.put(cidr).expect("applies");
    scene.wait_until(asker, &unallocated, |outcome| *outcome == Outcome::Timeout).expect("is dropped");
    scene.assert_works(WEB, 3).expect("services in it work");
    let wrong_port = tcp("10.96.0.10:81");
    scene.wait_until(asker, &wrong_port, refused).expect("a port that the service lacks is refused");
    scene.api.delete("ServiceCIDR", "kubernetes").expect("deletes");
    scene.wait_until(asker, &unallocated, refused).expect("is routed again");
}
