//! Health and introspection servers, and health-check node ports.

use serde_json::{Value, json};
use shunt_tests::Mode;
use shunt_tests::agent::{CHANGE_PATIENCE, Scene, eventually};
use shunt_tests::in_each_mode;
use shunt_tests::lab::HttpAnswer;

use super::{WEB, scene_with_web};

in_each_mode!(
    healthz_and_livez_are_as_kube_proxys,
    health_check_node_ports_open_count_and_close,
    a_health_check_port_that_is_taken_is_an_event_on_the_service,
    the_metrics_server_tells_mode_configuration_and_flags,
);

fn body(answer: &HttpAnswer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn has_header(answer: &HttpAnswer, header: &str) -> bool {
    answer.head.to_lowercase().lines().any(|line| line == header.to_lowercase())
}

/// Waits until a health-check node port answers with that status, or does not answer.
fn wait_for_status(scene: &Scene, to: &str, wanted: Option<u16>) -> Option<HttpAnswer> {
    eventually(&format!("{to} answers {wanted:?}"), CHANGE_PATIENCE, || {
        let answer = scene.http_at(to, "/").ok();
        Ok((answer.as_ref().map(|answer| answer.status) == wanted).then_some(answer))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", scene.agent.log_tail()))
}

fn healthz_and_livez_are_as_kube_proxys(mode: Mode) {
    let mut scene = scene_with_web(mode, 2);
    let (healthz, livez) = (scene.http("/healthz").expect("answers"), scene.http("/livez").expect("answers"));
    for answer in [&healthz, &livez] {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(has_header(answer, "content-type: application/json"), "{answer:?}");
        assert!(has_header(answer, "x-content-type-options: nosniff"), "{answer:?}");
        let body = body(answer);
        assert_eq!((&body["healthy"], &body["status"]["IPv4"]["healthy"]), (&json!(true), &json!(true)));
        assert!(body["lastUpdated"].is_string() && body["currentTime"].is_string(), "{body}");
    }
    assert_eq!(body(&healthz)["nodeEligible"], true);
    assert_eq!(body(&livez).get("nodeEligible"), None);

    let node = scene.api.list("Node").expect("lists").remove(0);
    let mut leaving = node.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    leaving["metadata"]["finalizers"] = json!(["example.org/wait"]);
    let mut drained = node.clone();
    drained["spec"]["taints"] = json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
    for changed in [leaving, drained] {
        apply_node(&scene, changed);
        let status = |wanted: u16| {
            let what = format!("/healthz answers {wanted}");
            eventually(&what, CHANGE_PATIENCE, || {
                Ok(Some(scene.http("/healthz")?).filter(|answer| answer.status == wanted))
            })
            .unwrap_or_else(|error| panic!("{error}\n{}", scene.agent.log_tail()))
        };
        let answer = body(&status(503));
        assert_eq!((&answer["nodeEligible"], &answer["healthy"]), (&json!(false), &json!(true)), "{answer}");
        assert_eq!(scene.http("/livez").expect("answers").status, 200, "livez does not look at the node");
        scene.assert_works(WEB, 2).expect("services work on");
        apply_node(&scene, node.clone());
        status(200);
    }
    let metrics = scene.metrics().expect("metrics");
    assert!(metrics.count("kubeproxy_proxy_healthz_total", &[("code", "503")]) >= 2.0);
    assert!(metrics.count("kubeproxy_proxy_livez_total", &[("code", "200")]) >= 3.0);
    assert_eq!(scene.http("/elsewhere").expect("answers").status, 404);
    scene.agent.check().expect("runs");
}

/// Replaces the Node, whatever version was written last.
fn apply_node(scene: &Scene, mut node: Value) {
    if let Some(metadata) = node["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    scene.api.put(node).expect("applies");
}

fn balanced(port: u16) -> Value {
    json!({"type": "LoadBalancer", "clusterIP": "10.96.0.20", "externalTrafficPolicy": "Local",
           "healthCheckNodePort": port, "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}]})
}

fn health_check_node_ports_open_count_and_close(mode: Mode) {
    let scene = scene_with_web(mode, 3);
    scene.publish_spec("balanced", &balanced(32001), &[0, 1]).expect("applies");
    let answer = wait_for_status(&scene, "192.168.50.11:32001", Some(200)).expect("answers");
    assert!(has_header(&answer, "content-type: application/json"), "{answer:?}");
    assert!(has_header(&answer, "x-content-type-options: nosniff"), "{answer:?}");
    assert!(has_header(&answer, "x-load-balancing-endpoint-weight: 2"), "{answer:?}");
    let wanted = json!({"service": {"namespace": "default", "name": "balanced"},
                        "localEndpoints": 2, "serviceProxyHealthy": true});
    assert_eq!(body(&answer), wanted);

    // One endpoint goes, one is elsewhere, one ends: only ready local ones count.
    let mut slice = scene.slice("balanced", &[0, 1, 2]).expect("a slice");
    slice["endpoints"][1]["nodeName"] = json!("node-b");
    slice["endpoints"][2]["conditions"] = json!({"ready": false, "serving": true, "terminating": true});
    scene.api.put(slice).expect("applies");
    eventually("one endpoint counts", CHANGE_PATIENCE, || {
        let answer = scene.http_at("192.168.50.11:32001", "/any/path")?;
        Ok((body(&answer)["localEndpoints"] == 1 && answer.status == 200).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", scene.agent.log_tail()));

    scene.api.put(scene.slice("balanced", &[]).expect("a slice")).expect("applies");
    let none = wait_for_status(&scene, "192.168.50.11:32001", Some(503)).expect("answers");
    assert!(has_header(&none, "x-load-balancing-endpoint-weight: 0"), "{none:?}");

    scene.publish_spec("balanced", &balanced(32002), &[0]).expect("applies");
    wait_for_status(&scene, "192.168.50.11:32002", Some(200));
    wait_for_status(&scene, "192.168.50.11:32001", None);
    scene.unpublish("balanced").expect("deletes");
    wait_for_status(&scene, "192.168.50.11:32002", None);
}

fn a_health_check_port_that_is_taken_is_an_event_on_the_service(mode: Mode) {
    let scene = scene_with_web(mode, 2);
    let taken = scene.node().host();
    taken.listen(shunt_tests::lab::Protocol::Tcp, 32001).expect("listens");
    scene.publish_spec("balanced", &balanced(32001), &[0]).expect("applies");
    let event = eventually("the event", CHANGE_PATIENCE, || {
        let events = scene.api.list("Event")?;
        Ok(events.into_iter().find(|event| event["reason"] == "FailedToStartServiceHealthcheck"))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", scene.agent.log_tail()));
    assert_eq!((&event["regarding"]["name"], &event["type"]), (&json!("balanced"), &json!("Warning")));
    assert!(event["note"].as_str().is_some_and(|note| note.contains("32001")), "{event}");
    scene.wait_for_answer("10.96.0.20:80").expect("the service itself works");
}

fn the_metrics_server_tells_mode_configuration_and_flags(mode: Mode) {
    let scene = scene_with_web(mode, 2);
    let page = |path: &str| scene.metrics_page(path).expect("answers");
    let shown = page("/proxyMode");
    assert_eq!((shown.status, shown.body.as_str()), (200, mode.setting()));
    assert!(has_header(&shown, "content-type: text/plain; charset=utf-8"), "{shown:?}");
    let config = &body(&page("/configz"))["kubeproxy.config.k8s.io"];
    assert_eq!(config["kind"], "KubeProxyConfiguration");
    assert_eq!(config["apiVersion"], "kubeproxy.config.k8s.io/v1alpha1");
    assert_eq!(config["clusterCIDR"], "10.244.0.0/16");
    assert_eq!(config["nftables"]["syncPeriod"], "30s");
    assert_eq!(config["hostnameOverride"], "node-a");
    assert_eq!((page("/healthz").status, page("/healthz").body), (200, "ok".to_owned()));
    assert_eq!(page("/healthz/ping").status, 200);
    assert!(page("/statusz").body.contains("kube-proxy statusz"));
    let flags = page("/flagz").body;
    assert!(flags.contains("hostname-override=node-a"), "{flags}");
    assert!(page("/metrics/slis").body.contains("kubernetes_healthcheck"), "{}", page("/metrics/slis").body);
    assert_eq!(page("/debug/pprof/").status, 404, "profiling is off");
    let outside = scene.http_at("192.168.50.11:10249", "/metrics");
    assert!(outside.is_err(), "metrics are for the node alone: {outside:?}");
}
