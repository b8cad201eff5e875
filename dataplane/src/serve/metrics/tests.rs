use std::sync::Arc;

use super::*;
use crate::domain::{Protocol, ServicePortName};
use crate::kernel::{EventCount, Traffic};

fn metrics() -> Metrics {
    Metrics::new(ServiceSeries::UpTo(2)).unwrap()
}

fn text(metrics: &Metrics) -> String {
    metrics.render(Instant::now()).unwrap()
}

/// Reports one of everything.
fn report_everything(metrics: &Metrics) {
    let port = ServicePortName {
        service: ServiceName::new("default", "web"),
        port: "http".into(),
        protocol: Protocol::Tcp,
    };
    let event = |event, drops| EventCount { event, drops, count: 3 };
    metrics.set_observations(&Observations {
        events: vec![event("forward", false), event("drop_no_local", true)],
        occupancy: vec![("FLOWS4", 4, 8)],
        left_out: vec![("FRONTENDS4", 2)],
        flows: vec![(IpFamily::V4, "established", 2)],
        services: vec![(Arc::new(port), Traffic { packets: 1, bytes: 2, connections: 3 })],
    });
    let took = Duration::from_millis(3);
    let at = Timestamp::from_second(1_700_000_000).unwrap();
    for family in IpFamily::ALL {
        metrics.sync_queued(family, at);
        metrics.synced(family, true, took, at);
        metrics.synced(family, false, took, at);
        metrics.sync_failed(family);
        metrics.cleanup_failed(family);
        metrics.endpoints_programmed(family, took);
        metrics.conntrack_reconciled(family, took, 4);
        metrics.set_services(family, 7);
        for policy in LocalPolicy::ALL {
            metrics.set_no_local_endpoints(policy, family, 2);
        }
    }
    metrics.set_mode("auto", "ebpf");
    metrics.set_shortcomings(2);
    metrics.endpoint_change();
    metrics.service_change();
    metrics.set_pending(1, 2);
    metrics.healthz_answered(true);
    metrics.livez_answered(false);
    metrics.api_request("200", "GET", "10.96.0.1:443");
    metrics.watch_heard(ObjectKind::Service, Instant::now().checked_sub(Duration::from_secs(5)).unwrap());
    metrics.watch_restarted(ObjectKind::Service, WatchRestart::Expired);
    metrics.change_programmed(took);
    metrics.set_programmed(&[("elements", 12)]);
    metrics.repaired(Repair::Notified);
    for name in ["a", "b", "c"] {
        metrics.set_service_endpoints(&ServiceName::new("default", name), 2);
    }
    metrics.set_conntrack(10, 100);
    metrics.set_object_problems(ObjectKind::EndpointSlice, 1);
    metrics.health_checked("ping", "healthz", true);
}

/// Name, type and help of every family of kube-proxy's nftables mode, as 1.36 shows them, but for `kubernetes_feature_enabled`:
/// there are no feature gates.
const KUBE_PROXY: [(&str, &str, &str); 18] = [
    ("kubeproxy_sync_proxy_rules_duration_seconds", "histogram", "[ALPHA] SyncProxyRules latency in seconds"),
    (
        "kubeproxy_sync_full_proxy_rules_duration_seconds",
        "histogram",
        "[ALPHA] SyncProxyRules latency in seconds for full resyncs",
    ),
    (
        "kubeproxy_sync_partial_proxy_rules_duration_seconds",
        "histogram",
        "[ALPHA] SyncProxyRules latency in seconds for partial resyncs",
    ),
    (
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "gauge",
        "[ALPHA] The last time proxy rules were successfully synced",
    ),
    (
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
        "gauge",
        "[ALPHA] The last time a sync of proxy rules was queued",
    ),
    (
        "kubeproxy_network_programming_duration_seconds",
        "histogram",
        "[ALPHA] In Cluster Network Programming Latency in seconds",
    ),
    (
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
        "gauge",
        "[ALPHA] Pending proxy rules Endpoint changes",
    ),
    (
        "kubeproxy_sync_proxy_rules_endpoint_changes_total",
        "counter",
        "[ALPHA] Cumulative proxy rules Endpoint changes",
    ),
    (
        "kubeproxy_sync_proxy_rules_service_changes_pending",
        "gauge",
        "[ALPHA] Pending proxy rules Service changes",
    ),
    (
        "kubeproxy_sync_proxy_rules_service_changes_total",
        "counter",
        "[ALPHA] Cumulative proxy rules Service changes",
    ),
    (
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
        "gauge",
        "[ALPHA] Number of services with a Local traffic policy and no endpoints",
    ),
    (
        "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
        "counter",
        "[ALPHA] Cumulative proxy nftables sync failures",
    ),
    (
        "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
        "counter",
        "[ALPHA] Cumulative proxy nftables cleanup failures",
    ),
    (
        "kubeproxy_conntrack_reconciler_sync_duration_seconds",
        "histogram",
        "[ALPHA] ReconcileConntrackFlowsLatency latency in seconds",
    ),
    (
        "kubeproxy_conntrack_reconciler_deleted_entries_total",
        "counter",
        "[ALPHA] Cumulative conntrack flows deleted by conntrack reconciler",
    ),
    ("kubeproxy_proxy_healthz_total", "counter", "[ALPHA] Cumulative proxy healthz HTTP status"),
    ("kubeproxy_proxy_livez_total", "counter", "[ALPHA] Cumulative proxy livez HTTP status"),
    (
        "rest_client_requests_total",
        "counter",
        "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.",
    ),
];

#[test]
fn every_kube_proxy_family_is_shown_with_its_type_and_help() {
    let metrics = metrics();
    report_everything(&metrics);
    let text = text(&metrics);
    for (name, kind, help) in KUBE_PROXY {
        assert!(text.contains(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")), "{name}");
    }
}

#[test]
fn every_metric_has_something_that_changes_it() {
    let metrics = metrics();
    report_everything(&metrics);
    text(&metrics);
    let moved: Vec<String> = metrics
        .registry
        .gather()
        .into_iter()
        .filter(|family| family.get_metric().iter().any(has_moved))
        .map(|family| family.name().to_owned())
        .collect();
    let still: Vec<_> = metrics.names().iter().filter(|name| !moved.contains(name)).collect();
    assert!(still.is_empty(), "nothing touches {still:?}");
    assert_eq!(metrics.names().len(), KUBE_PROXY.len() + 1 + 22, "kube-proxy's, the build, and ours");
}

fn has_moved(metric: &prometheus::proto::Metric) -> bool {
    metric.get_counter().value() > 0.0
        || metric.get_gauge().value() > 0.0
        || metric.get_histogram().get_sample_count() > 0
}

#[test]
fn labels_and_buckets_are_those_of_kube_proxy() {
    let metrics = metrics();
    report_everything(&metrics);
    let text = text(&metrics);
    let lines = [
        r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.001"} 0"#,
        r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.004"} 2"#,
        r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv6",le="16.384"} 2"#,
        r#"kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1"#,
        r#"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1700000000"#,
        r#"kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="0.25"} 1"#,
        r#"kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="59"} 1"#,
        r#"kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="300"} 1"#,
        r#"kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv6",traffic_policy="external"} 2"#,
        r#"kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 4"#,
        r#"kubeproxy_proxy_healthz_total{code="200"} 1"#,
        r#"kubeproxy_proxy_healthz_total{code="503"} 0"#,
        r#"kubeproxy_proxy_livez_total{code="503"} 1"#,
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 2",
        r#"rest_client_requests_total{code="200",host="10.96.0.1:443",method="GET"} 1"#,
        r#"shunt_watch_restarts_total{reason="expired",resource="services"} 1"#,
        r#"shunt_repairs_total{reason="notified"} 1"#,
        r#"shunt_repairs_total{reason="audit"} 0"#,
        r#"shunt_programmed_objects{kind="elements"} 12"#,
        r#"shunt_datapath_events_total{event="forward"} 3"#,
        r#"shunt_datapath_drops_total{reason="drop_no_local"} 3"#,
        r#"shunt_map_entries{map="FLOWS4"} 4"#,
        r#"shunt_map_capacity{map="FLOWS4"} 8"#,
    ];
    for line in lines {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
    let buckets = text
        .lines()
        .filter(|line| line.starts_with("kubeproxy_network_programming"))
        .filter(|line| line.contains("_bucket{ip_family=\"IPv4\"") && !line.contains("+Inf"));
    assert_eq!(buckets.count(), 80);
}

#[test]
fn the_build_and_the_process_are_shown() {
    let text = text(&metrics());
    let start = "kubernetes_build_info{build_date=\"\",compiler=\"rustc\"";
    assert!(text.contains(start), "{text}");
    assert!(text.contains("# TYPE process_resident_memory_bytes gauge\n"), "{text}");
}

#[test]
fn failures_that_never_happened_are_shown_as_zero() {
    let text = text(&metrics());
    for family in ["IPv4", "IPv6"] {
        let line =
            format!("kubeproxy_sync_proxy_rules_nftables_sync_failures_total{{ip_family=\"{family}\"}} 0\n");
        assert!(text.contains(&line), "{line}");
    }
}

#[test]
fn the_age_of_a_watch_grows_until_it_is_heard_again() {
    let metrics = metrics();
    let start = Instant::now();
    metrics.watch_heard(ObjectKind::Service, start);
    let later = start + Duration::from_secs(42);
    let line = "shunt_watch_age_seconds{resource=\"services\"} ";
    assert!(metrics.render(later).unwrap().contains(&format!("{line}42\n")));
    metrics.watch_heard(ObjectKind::Service, later);
    assert!(metrics.render(later).unwrap().contains(&format!("{line}0\n")));
}

#[test]
fn services_beyond_the_limit_get_no_series_until_there_is_room() {
    let metrics = metrics();
    let names = ["a", "b", "c"].map(|name| ServiceName::new("default", name));
    for name in &names {
        metrics.set_service_endpoints(name, 3);
    }
    let shown = |metrics: &Metrics| text(metrics).matches("shunt_service_ready_endpoints{").count();
    assert_eq!(shown(&metrics), 2);
    assert!(text(&metrics).contains("shunt_service_series_left_out 1\n"));
    metrics.forget_service(&names[0]);
    assert_eq!(shown(&metrics), 1);
    metrics.set_service_endpoints(&names[2], 3);
    assert!(
        text(&metrics).contains("shunt_service_ready_endpoints{namespace=\"default\",service=\"c\"} 3\n")
    );
    assert!(text(&metrics).contains("shunt_service_series_left_out 0\n"));
}

#[test]
fn services_have_no_series_of_their_own_by_default() {
    let metrics = Metrics::new(ServiceSeries::default()).unwrap();
    metrics.set_service_endpoints(&ServiceName::new("default", "a"), 3);
    assert!(!text(&metrics).contains("shunt_service_ready_endpoints"));
}

#[test]
fn health_checks_are_counted_on_their_own_page_until_it_is_reset() {
    let metrics = metrics();
    metrics.health_checked("ping", "healthz", true);
    metrics.health_checked("ping", "healthz", false);
    let text = metrics.render_slis().unwrap();
    assert!(text.contains("kubernetes_healthcheck{name=\"ping\",type=\"healthz\"} 0\n"), "{text}");
    for status in ["success", "error"] {
        let line = format!(
            "kubernetes_healthchecks_total{{name=\"ping\",status=\"{status}\",type=\"healthz\"}} 1\n"
        );
        assert!(text.contains(&line), "{text}");
    }
    metrics.reset_slis();
    assert_eq!(metrics.render_slis().unwrap(), "");
}
