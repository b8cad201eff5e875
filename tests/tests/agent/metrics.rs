//! What is counted, with something behind each number.

use serde_json::json;
use shunt_tests::agent::{CHANGE_PATIENCE, Metrics, Scene, eventually};
use shunt_tests::{Mode, in_each_mode};

use super::{WEB, scene_with_web};

in_each_mode!(
    every_metric_is_there_and_moves_with_what_it_counts,
    services_have_series_of_their_own_when_asked_for_and_lose_them_when_they_go,
    services_without_local_endpoints_are_counted_by_policy,
);

/// kube-proxy's metrics that its nftables mode has, all of which exist from the start.
const KUBE_PROXYS: [&str; 19] = [
    "kubeproxy_sync_proxy_rules_duration_seconds_count",
    "kubeproxy_sync_full_proxy_rules_duration_seconds_count",
    "kubeproxy_sync_partial_proxy_rules_duration_seconds_count",
    "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
    "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
    "kubeproxy_network_programming_duration_seconds_count",
    "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
    "kubeproxy_sync_proxy_rules_service_changes_pending",
    "kubeproxy_sync_proxy_rules_endpoint_changes_total",
    "kubeproxy_sync_proxy_rules_service_changes_total",
    "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
    "kubeproxy_proxy_healthz_total",
    "kubeproxy_proxy_livez_total",
    "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
    "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
    "kubeproxy_conntrack_reconciler_sync_duration_seconds_count",
    "kubeproxy_conntrack_reconciler_deleted_entries_total",
    "kubernetes_build_info",
    "rest_client_requests_total",
];

const OWN: [&str; 6] = [
    "shunt_watch_age_seconds",
    "shunt_queue_lag_seconds_count",
    "shunt_programmed_objects",
    "shunt_repairs_total",
    "shunt_services",
    "process_cpu_seconds_total",
];

fn scrape(scene: &Scene) -> Metrics {
    scene.metrics().expect("metrics")
}

fn every_metric_is_there_and_moves_with_what_it_counts(mode: Mode) {
    let scene = scene_with_web(mode, 2);
    let before = scrape(&scene);
    for name in KUBE_PROXYS.into_iter().chain(OWN) {
        assert!(before.sum(name, &[]).is_some(), "{name} is missing");
    }
    assert!(
        before.count("kubeproxy_sync_full_proxy_rules_duration_seconds_count", &[("ip_family", "IPv4")])
            >= 1.0
    );

    let mut slice = scene.slice("web", &[1]).expect("a slice");
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    slice["metadata"]["annotations"] =
        json!({"endpoints.kubernetes.io/last-change-trigger-time": jiff::Timestamp::now().to_string()});
    scene.api.put(slice).expect("applies");
    scene.wait_for_pod(WEB, 1).expect("changes");
    scene.publish("second", "10.96.0.11", &[0]).expect("applies");
    scene.wait_for_answer("10.96.0.11:80").expect("works");
    let after = scrape(&scene);
    for name in [
        "kubeproxy_sync_proxy_rules_duration_seconds_count",
        "kubeproxy_sync_partial_proxy_rules_duration_seconds_count",
        "kubeproxy_network_programming_duration_seconds_count",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total",
        "kubeproxy_sync_proxy_rules_service_changes_total",
        "shunt_queue_lag_seconds_count",
    ] {
        assert!(after.count(name, &[]) > before.count(name, &[]), "{name} stands still");
    }
    let kinds: &[_] = if mode.is_ebpf() {
        &["frontends", "backends", "pool slots", "interfaces"]
    } else {
        &["elements", "chains", "rules"]
    };
    for kind in kinds {
        assert!(after.count("shunt_programmed_objects", &[("kind", kind)]) > 0.0, "{kind}");
    }
    let first = |metrics: &Metrics| metrics.count("shunt_programmed_objects", &[("kind", kinds[0])]);
    assert!(first(&after) > first(&before), "{}", kinds[0]);
    assert!(
        after.count("kubeproxy_sync_proxy_rules_last_timestamp_seconds", &[("ip_family", "IPv4")])
            >= now - 1.0
    );
    assert_eq!(after.sum("shunt_services", &[("ip_family", "IPv4")]), Some(2.0));
    assert_eq!(after.sum("kubeproxy_sync_proxy_rules_endpoint_changes_pending", &[]), Some(0.0));
    assert!(after.count("rest_client_requests_total", &[("code", "200"), ("method", "GET")]) >= 4.0);
    assert!(after.count("shunt_watch_age_seconds", &[("resource", "services")]) < 10.0);
}

fn services_have_series_of_their_own_when_asked_for_and_lose_them_when_they_go(mode: Mode) {
    let mut scene = Scene::create(mode, 2).expect("a scene");
    scene.agent.own_config = Some(json!({
        "apiVersion": "shunt.dev/v1alpha1", "kind": "ShuntConfiguration", "serviceMetrics": 10,
    }));
    scene.start_with_web().expect("the agent serves");
    scene.publish("pair", "10.96.0.11", &[0, 1]).expect("applies");
    scene.wait_for_answer("10.96.0.11:80").expect("works");
    let endpoints = || {
        scrape(&scene).sum("shunt_service_ready_endpoints", &[("namespace", "default"), ("service", "pair")])
    };
    assert_eq!(endpoints(), Some(2.0));
    scene.api.delete("Service", "pair").expect("deletes");
    eventually("the series goes", CHANGE_PATIENCE, || Ok(endpoints().is_none().then_some(())))
        .expect("it goes");
}

fn services_without_local_endpoints_are_counted_by_policy(mode: Mode) {
    let scene = scene_with_web(mode, 2);
    let count = |policy: &str| {
        scrape(&scene).count(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            &[("traffic_policy", policy), ("ip_family", "IPv4")],
        )
    };
    assert_eq!((count("internal"), count("external")), (0.0, 0.0));
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.20", "internalTrafficPolicy": "Local",
                      "externalTrafficPolicy": "Local",
                      "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}]});
    let mut slice = scene.slice("local", &[0]).expect("a slice");
    slice["endpoints"][0]["nodeName"] = json!("node-b");
    scene.api.put(shunt_tests::stage::service("local", &spec)).expect("applies");
    scene.api.put(slice).expect("applies");
    eventually("both policies count", CHANGE_PATIENCE, || {
        Ok(((count("internal"), count("external")) == (1.0, 1.0)).then_some(()))
    })
    .expect("are counted");
    scene.api.put(scene.slice("local", &[0]).expect("a slice")).expect("applies");
    eventually("none counts", CHANGE_PATIENCE, || {
        Ok(((count("internal"), count("external")) == (0.0, 0.0)).then_some(()))
    })
    .expect("are not counted any more");
}
