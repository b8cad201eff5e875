//! An API server that misbehaves.

use std::time::{Duration, Instant};

use shunt_tests::Mode;
use shunt_tests::agent::{ApiKind, CHANGE_PATIENCE, Scene, eventually};
use shunt_tests::apiserver::{Faults, Options, Refusal};
use shunt_tests::in_each_mode;

use super::{WEB, assert_unchanged, scene_with_web};

in_each_mode!(
    after_a_compaction_everything_is_listed_again_and_deletions_are_noticed,
    dropped_watches_go_on_where_they_ended,
    a_frozen_api_server_stops_nothing_and_an_agent_that_starts_then_changes_nothing,
    one_missing_list_holds_up_everything_until_it_comes,
    a_half_open_connection_is_given_up_and_made_anew,
);

const BRIEF: Duration = Duration::from_millis(700);
/// A half-open connection is given up after 25 seconds; the rest is for a busy machine.
const HALF_OPEN_PATIENCE: Duration = Duration::from_secs(45);

fn turn(scene: &Scene, change: impl FnOnce(&Faults)) {
    scene.api.faults(change).expect("our own server");
}

fn requests(scene: &Scene) -> usize {
    scene.api.faults(|faults| faults.requests().len()).expect("our own server")
}

/// How often lists were read from the start, according to the status page.
fn lists(scene: &Scene, kind: &str) -> u64 {
    let status = scene.status().expect("a status");
    status["watches"][kind]["lists"].as_u64().unwrap_or_else(|| panic!("no lists of {kind} in {status}"))
}

fn after_a_compaction_everything_is_listed_again_and_deletions_are_noticed(mode: Mode) {
    let mut scene = scene_with_web(mode, 3);
    for (name, address) in [("a", "10.96.0.11"), ("b", "10.96.0.12")] {
        scene.publish(name, address, &[0]).expect("applies");
        scene.wait_for_answer(&format!("{address}:80")).expect("works");
    }
    for streaming in [true, false] {
        turn(&scene, |faults| faults.streaming_lists(streaming));
        let before = lists(&scene, "services");
        scene.api.stop().expect("stops");
        let (gone, new) = if streaming { ("a", "c") } else { ("b", "d") };
        scene.unpublish(gone).expect("deletes");
        scene.publish("web", "10.96.0.10", &[usize::from(streaming)]).expect("applies");
        scene.publish(new, if streaming { "10.96.0.13" } else { "10.96.0.14" }, &[0]).expect("applies");
        scene.api.store().expect("our own server").compact();
        scene.api.resume().expect("starts");
        scene.wait_for_silence(if streaming { "10.96.0.11:80" } else { "10.96.0.12:80" }).expect("is gone");
        scene.wait_for_answer(if streaming { "10.96.0.13:80" } else { "10.96.0.14:80" }).expect("is there");
        scene.wait_for_pod(WEB, usize::from(streaming)).expect("is changed");
        assert!(lists(&scene, "services") > before, "410 Gone asks for a new list");
    }
    let expired = scene.metrics().expect("metrics");
    assert!(expired.count("shunt_watch_restarts_total", &[("reason", "expired")]) >= 2.0, "{expired:?}");
    scene.agent.check().expect("the agent runs");
}

fn dropped_watches_go_on_where_they_ended(mode: Mode) {
    let scene = scene_with_web(mode, 3);
    let before = lists(&scene, "services");
    for (pod, round) in [(1, 1), (0, 2), (1, 3)] {
        turn(&scene, Faults::drop_watches);
        scene.publish("web", "10.96.0.10", &[pod]).expect("applies");
        scene.wait_for_pod(WEB, pod).unwrap_or_else(|error| panic!("round {round}: {error:#}"));
    }
    assert_eq!(lists(&scene, "services"), before, "no new list is needed");
}

fn a_frozen_api_server_stops_nothing_and_an_agent_that_starts_then_changes_nothing(mode: Mode) {
    let mut scene = scene_with_web(mode, 3);
    let rules = scene.ruleset().expect("rules");
    turn(&scene, |faults| faults.freeze(true));
    scene.publish("web", "10.96.0.10", &[1]).expect("applies");
    scene.agent.stop().expect("ends");
    scene.start().expect("starts");
    let waiting = eventually("the agent waits for lists", CHANGE_PATIENCE, || {
        Ok(scene.status().ok().filter(|status| status["waitingFor"].is_array()))
    });
    let waiting = waiting.expect("it says so");
    let kinds = waiting["waitingFor"].to_string();
    assert!(kinds.contains("services") && kinds.contains("endpointslices"), "{kinds}");
    let said = scene.shunt(&["status"]).expect("runs").success().expect("succeeds");
    assert!(said.contains("waiting for the first list of"), "{said}");
    std::thread::sleep(BRIEF);
    assert_unchanged(&scene, &rules);
    scene.assert_works(WEB, 5).expect("services go on");
    assert_eq!(scene.http("/livez").expect("answers").status, 200);
    turn(&scene, |faults| faults.freeze(false));
    scene.wait_for_pod(WEB, 1).expect("the change is caught up with");
}

/// The list of endpoint slices does not come: all services must stay as they are, not lose their endpoints.
fn one_missing_list_holds_up_everything_until_it_comes(mode: Mode) {
    let mut scene = scene_with_web(mode, 2);
    scene.agent.kill().expect("is killed");
    let rules = scene.ruleset().expect("rules");
    let refusal = Refusal { status: 500, retry_after: None };
    turn(&scene, |faults| faults.refuse_resource("endpointslices", Some(refusal)));
    scene.publish("new", "10.96.0.11", &[0]).expect("applies");
    scene.start().expect("starts");
    std::thread::sleep(BRIEF);
    assert_unchanged(&scene, &rules);
    scene.assert_works(WEB, 5).expect("services go on");
    turn(&scene, |faults| faults.refuse_resource("endpointslices", None));
    scene.wait_for_answer("10.96.0.11:80").expect("the list has come");
    scene.assert_works(WEB, 3).expect("works");
}

/// The machine of the API server vanishes without a word.
fn a_half_open_connection_is_given_up_and_made_anew(mode: Mode) {
    let scene = scene_with_web(mode, 3);
    let connected = |scene: &Scene| {
        let status = scene.status().expect("a status");
        ["services", "endpointslices"].map(|kind| status["watches"][kind]["connected"] == true)
    };
    assert_eq!(connected(&scene), [true, true]);
    scene.api.host().ip(&["link set up0 down"]).expect("the machine is gone");
    scene.publish("web", "10.96.0.10", &[1]).expect("applies");
    eventually("the broken connection is noticed", HALF_OPEN_PATIENCE, || {
        Ok((connected(&scene) == [false, false]).then_some(()))
    })
    .expect("is noticed");
    scene.assert_works(WEB, 3).expect("services go on");
    assert_eq!(scene.http("/healthz").expect("answers").status, 200);
    let metrics = scene.metrics().expect("metrics");
    let age = metrics.sum("shunt_watch_age_seconds", &[("resource", "services")]).expect("an age");
    assert!(age > 5.0, "the watch is {age} s old");
    scene.api.host().ip(&["link set up0 up"]).expect("the machine is back");
    scene.wait_for_pod(WEB, 1).expect("the change is caught up with");
}

#[test]
fn throttling_is_obeyed() {
    let mut scene = Scene::create(Mode::Nftables, 2).expect("a scene");
    scene.publish("web", "10.96.0.10", &[0]).expect("applies");
    turn(&scene, |faults| faults.refuse(Some(Refusal { status: 429, retry_after: Some(3) })));
    scene.start().expect("starts");
    scene.wait_for_log(&["429"]).or_else(|_| scene.wait_for_log(&["watch failed"])).expect("is told");
    let (before, started) = (requests(&scene), Instant::now());
    std::thread::sleep(Duration::from_millis(1200));
    let made = requests(&scene) - before;
    // Where the machine was busy for seconds, each watch may have been due again.
    let due = (started.elapsed() + Duration::from_millis(1500)).as_secs() / 3;
    assert!(made as u64 <= 1 + 5 * due, "{made} requests within {:?}", started.elapsed());
    turn(&scene, |faults| faults.refuse(None));
    scene.wait_for_answer(WEB).expect("then everything works");
    let metrics = scene.metrics().expect("metrics");
    assert!(metrics.count("shunt_watch_restarts_total", &[("reason", "throttled")]) > 0.0, "{metrics:?}");
    assert!(metrics.count("rest_client_requests_total", &[("code", "429")]) > 0.0, "{metrics:?}");
}

#[test]
fn tls_and_a_token_work_and_a_refused_token_is_tried_again() {
    let options = Options { tls: true, token: Some("right".to_owned()) };
    let mut scene = Scene::with_api(Mode::Nftables, 2, &ApiKind::Own(options)).expect("a scene");
    turn(&scene, |faults| faults.require_token(Some("another".to_owned())));
    scene.publish("web", "10.96.0.10", &[0]).expect("applies");
    scene.start().expect("starts");
    scene.wait_for_log(&["Unauthorized"]).expect("the refusal is in the log");
    scene.assert_works(WEB, 1).expect_err("nothing is known yet");
    turn(&scene, |faults| faults.require_token(Some("right".to_owned())));
    scene.wait_for_answer(WEB).expect("works with the token");
}

#[test]
fn without_service_cidrs_everything_else_works() {
    for status in [404, 403] {
        let mut scene = Scene::create(Mode::Nftables, 2).expect("a scene");
        let refusal = Refusal { status, retry_after: None };
        turn(&scene, |faults| faults.refuse_resource("servicecidrs", Some(refusal)));
        scene.start_with_web().unwrap_or_else(|error| panic!("status {status}: {error:#}"));
        let shown = scene.status().expect("a status");
        assert_eq!(shown["watches"]["servicecidrs"]["absent"], true, "{shown}");
    }
}

#[test]
fn slow_lists_are_waited_for() {
    let mut scene = Scene::create(Mode::Nftables, 2).expect("a scene");
    scene.publish("web", "10.96.0.10", &[0]).expect("applies");
    turn(&scene, |faults| faults.delay(Duration::from_secs(1)));
    scene.start().expect("starts");
    scene.wait_for_answer(WEB).expect("works in the end");
    let watches = scene.api.faults(|faults| {
        faults.requests().into_iter().filter(|request| request.path == "/api/v1/services").count()
    });
    assert_eq!(watches.expect("our own server"), 1, "a slow answer is no failure");
}

#[test]
fn a_kubeconfig_that_is_missing_or_broken_is_named() {
    let mut scene = Scene::create(Mode::Nftables, 1).expect("a scene");
    for (name, content) in [("missing.conf", None), ("broken.conf", Some("clusters: 7\n"))] {
        let path = scene.agent.directory().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).expect("writes");
        }
        scene.agent.config["clientConnection"]["kubeconfig"] = path.display().to_string().into();
        scene.launch().expect("starts");
        let ended = scene.agent.wait_for_end().expect("ends");
        assert_eq!(ended.code().expect("a code"), 1);
        assert!(ended.output.contains(name), "{}", ended.output);
    }
}
