//! The kernel refuses what the agent wants to program.

use std::ffi::OsString;
use std::time::Duration;

use shunt_tests::agent::{CHANGE_PATIENCE, Scene, eventually};
use shunt_tests::apiserver::Refusal;
use shunt_tests::lab::{HttpAnswer, Process};
use shunt_tests::{Mode, in_each_mode};

use super::{WEB, scene_with_web};

in_each_mode!(
    programming_that_is_stuck_shows_in_health_metrics_and_log_and_ends_with_its_cause,
    an_agent_without_the_needed_capability_says_so_and_ends,
);

/// Takes the agent's table away and holds one of the same name that only its owner may change, for as long as the
/// process runs: the kernel answers everybody else with EPERM.
fn occupy_table(scene: &Scene, mode: Mode) -> Process {
    let table = if mode.is_ebpf() { "shunt-ebpf" } else { "shunt" };
    let script =
        format!("add table ip {table}; delete table ip {table}; add table ip {table} {{ flags owner; }}");
    let holder = format!("(echo '{script}'; sleep 60) | nft -i");
    let words: Vec<OsString> = ["sh", "-c", &holder].map(OsString::from).into();
    let log = scene.agent.directory().join("holder.log");
    let process = scene.node().surroundings().start(&words, &log).expect("starts");
    eventually("the table is held", CHANGE_PATIENCE, || {
        let rules = scene.output("nft", &["list", "table", "ip", table]).unwrap_or_default();
        Ok(rules.contains("owner").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {}", std::fs::read_to_string(&log).unwrap_or_default()));
    process
}

/// Late are changes that wait for twice the sync period, which is two seconds here.
fn wait_for_livez(scene: &Scene, wanted: u16) -> HttpAnswer {
    eventually(&format!("/livez answers {wanted}"), CHANGE_PATIENCE, || {
        Ok(Some(scene.http("/livez")?).filter(|answer| answer.status == wanted))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", scene.agent.log_tail()))
}

fn programming_that_is_stuck_shows_in_health_metrics_and_log_and_ends_with_its_cause(mode: Mode) {
    let mut scene = Scene::create(mode, 2).expect("a scene");
    scene.agent.config["nftables"] = serde_json::json!({"syncPeriod": "1s", "minSyncPeriod": "100ms"});
    scene.publish_spec("balanced", &balanced(), &[0]).expect("applies");
    scene.start_with_web().expect("the agent serves");
    let status = |path: &str| scene.http(path).expect("answers").status;
    assert_eq!((status("/healthz"), status("/livez")), (200, 200));
    let mut holder = occupy_table(&scene, mode);
    scene.publish("web", "10.96.0.10", &[1]).expect("applies");
    if mode.is_ebpf() {
        // All that BPF programs need rules for.
        publish_elsewhere(&scene);
    }
    let answer = wait_for_livez(&scene, 503);
    assert!(answer.body.contains("\"healthy\":false"), "{answer:?}");
    assert_eq!(status("/healthz"), 503);
    let probe = scene.http_at("192.168.50.11:32001", "/").expect("answers");
    assert_eq!(probe.status, 503, "load balancers must not send here: {probe:?}");
    assert!(probe.body.contains("\"serviceProxyHealthy\": false"), "{probe:?}");
    scene.wait_for_log(&["programming the dataplane failed", "Operation not permitted"]).expect("says why");
    let metrics = scene.metrics().expect("metrics");
    assert!(
        metrics.count("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", &[]) >= 1.0,
        "{metrics:?}"
    );
    let shown = scene.status().expect("a status");
    assert_eq!(shown["healthy"], false, "{shown}");
    assert!(shown["pendingForSeconds"].as_f64().is_some_and(|seconds| seconds >= 2.0), "{shown}");

    holder.kill().expect("ends");
    scene.wait_for_pod(WEB, 1).expect("what was pending is programmed");
    eventually(
        "healthy again",
        CHANGE_PATIENCE,
        || Ok((scene.http("/healthz")?.status == 200).then_some(())),
    )
    .expect("is healthy");
    let repaired = scene.metrics().expect("metrics").count("shunt_repairs_total", &[("reason", "failure")]);
    assert!(repaired >= 1.0, "the repair is counted");
    scene.agent.check().expect("runs");
}

#[test]
fn a_missing_list_is_no_fault_of_the_agent_but_a_first_sync_that_fails_is() {
    let mut scene = Scene::create(Mode::Nftables, 2).expect("a scene");
    scene.agent.config["nftables"] = serde_json::json!({"syncPeriod": "1s", "minSyncPeriod": "100ms"});
    scene.publish("web", "10.96.0.10", &[0]).expect("applies");
    let refusal = Refusal { status: 500, retry_after: None };
    let refuse = |scene: &Scene, refusal| {
        scene.api.faults(|faults| faults.refuse_resource("endpointslices", refusal)).expect("our own server");
    };
    refuse(&scene, Some(refusal));
    scene.start().expect("starts");
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(scene.http("/livez").expect("answers").status, 200, "it waits for the API server");
    let mut holder = occupy_table(&scene, Mode::Nftables);
    refuse(&scene, None);
    wait_for_livez(&scene, 503);
    holder.kill().expect("ends");
    scene.wait_for_answer(WEB).expect("works");
    wait_for_livez(&scene, 200);
}

fn balanced() -> serde_json::Value {
    serde_json::json!({"type": "LoadBalancer", "clusterIP": "10.96.0.20", "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 32001, "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}]})
}

/// Who comes to its node port is masqueraded: its endpoint is on another node.
fn publish_elsewhere(scene: &Scene) {
    let spec = serde_json::json!({"type": "NodePort", "clusterIP": "10.96.0.21",
                                  "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30081}]});
    let mut slice = scene.slice("elsewhere", &[0]).expect("a slice");
    slice["endpoints"][0]["nodeName"] = serde_json::json!("node-b");
    scene.api.put(shunt_tests::stage::service("elsewhere", &spec)).expect("applies");
    scene.api.put(slice).expect("applies");
}

fn an_agent_without_the_needed_capability_says_so_and_ends(mode: Mode) {
    let mut scene = scene_with_web(mode, 1);
    scene.agent.stop().expect("ends");
    let program = shunt_tests::flows::shunt_program().expect("the agent");
    let words = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", "--"];
    let mut words: Vec<OsString> = words.map(OsString::from).into();
    words.extend([program.into(), "--config".into(), scene.agent.config_file().into()]);
    words.extend(["--hostname-override".into(), "node-a".into()]);
    words.extend(mode.arguments(scene.node().surroundings()).expect("a cgroup"));
    let log = scene.agent.directory().join("unprivileged.log");
    let mut process = scene.node().surroundings().start(&words, &log).expect("starts");
    let ended = eventually("the agent ends", CHANGE_PATIENCE, || process.status());
    let said = std::fs::read_to_string(&log).expect("a log");
    assert_eq!(ended.unwrap_or_else(|error| panic!("{error}: {said}")).code(), Some(1), "{said}");
    assert!(said.contains("CAP_NET_ADMIN") || said.contains("not permitted"), "{said}");
    scene.assert_works(WEB, 2).expect("what is programmed stays");
}
