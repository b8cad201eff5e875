use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::test_client::{Answer, TestServer, patient_get, request};
use super::*;
use crate::domain::{IpFamily, Node};
use crate::serve::{
    Clock, EventObject, EventSink, HealthMonitor, Metrics, RecordedEvents, ServiceSeries, Severity,
};

#[derive(Debug, Default)]
struct FakeAgent {
    scrapes: AtomicUsize,
}

impl Introspection for FakeAgent {
    fn status(&self) -> BoxFuture<'_, Value> {
        async { json!({"mode": "nftables"}) }.boxed()
    }

    fn services(&self) -> BoxFuture<'_, Value> {
        async { json!([{"service": "shop/web"}]) }.boxed()
    }

    fn explain(&self, from: String, to: String, probe: bool) -> BoxFuture<'_, Result<Value, ExplainError>> {
        async move {
            match to.as_str() {
                "later" => Err(ExplainError::Unavailable("not synced".to_owned())),
                _ => Ok(json!({"from": from, "to": to, "probe": probe})),
            }
        }
        .boxed()
    }

    fn before_metrics(&self) -> BoxFuture<'_, ()> {
        self.scrapes.fetch_add(1, Ordering::Relaxed);
        async {}.boxed()
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(ServiceSeries::Off).unwrap())
}

fn pages() -> MetricsPages {
    MetricsPages {
        metrics: metrics(),
        proxy_mode: Arc::new(std::sync::OnceLock::from("nftables")),
        config: json!({"kind": "KubeProxyConfiguration", "mode": "nftables"}),
        flags: BTreeMap::from([("v".to_owned(), "2".to_owned()), ("config".to_owned(), "/c".to_owned())]),
        started: "2026-05-04T03:02:01.5Z".parse().unwrap(),
        clock: Clock::manual("2026-05-04T04:03:05.5Z".parse().unwrap()),
        debug: None,
        introspection: Arc::new(FakeAgent::default()),
    }
}

fn is_plain_text(answer: &Answer) -> bool {
    answer.header("content-type") == Some("text/plain; charset=utf-8")
        && answer.header("x-content-type-options") == Some("nosniff")
}

async fn accepting(server: &TestServer, path: &str, accept: &str) -> Answer {
    request(server.address, "GET", path, &format!("accept: {accept}\r\n"), "").await.unwrap()
}

#[tokio::test]
async fn the_health_server_answers_with_kube_proxys_headers_and_counts() {
    let clock = Clock::manual("2026-05-04T03:02:01Z".parse().unwrap());
    let health = Arc::new(HealthMonitor::new(Duration::from_mins(1), clock.clone()));
    let metrics = metrics();
    health.applied(IpFamily::V4);
    health.set_node(Some(&Node::default()));
    let server = TestServer::start(health_router(Arc::clone(&health), Arc::clone(&metrics)));
    for path in ["/healthz", "/livez"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["status"]["IPv4"]["healthy"], true);
        assert_eq!(body.get("nodeEligible").is_some(), path == "/healthz");
    }
    health.set_node(None);
    assert_eq!((server.get("/healthz").await.status, server.get("/livez").await.status), (503, 200));
    health.queued(IpFamily::V4);
    clock.advance(Duration::from_mins(1));
    assert_eq!((server.get("/healthz").await.status, server.get("/livez").await.status), (503, 503));

    let text = metrics.render(clock.now().monotonic).unwrap();
    let counted = [("healthz", 200, 1), ("healthz", 503, 2), ("livez", 200, 2), ("livez", 503, 1)];
    for (page, code, count) in counted {
        let line = format!("kubeproxy_proxy_{page}_total{{code=\"{code}\"}} {count}\n");
        assert!(text.contains(&line), "{line}");
    }
}

#[tokio::test]
async fn unknown_pages_are_answered_as_go_does() {
    let health = Arc::new(HealthMonitor::new(Duration::from_mins(1), Clock::System));
    for router in [health_router(health, metrics()), metrics_router(pages())] {
        let answer = TestServer::start(router).get("/nothing").await;
        assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"));
        assert!(is_plain_text(&answer));
    }
}

#[tokio::test]
async fn the_metrics_server_shows_mode_configuration_and_its_own_health() {
    let server = TestServer::start(metrics_router(pages()));
    let mode = server.get("/proxyMode").await;
    assert_eq!((mode.status, mode.body.as_str(), is_plain_text(&mode)), (200, "nftables", true));

    let config = server.get("/configz").await;
    assert_eq!(config.header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_str(&config.body).unwrap();
    assert_eq!(body["kubeproxy.config.k8s.io"]["kind"], "KubeProxyConfiguration");

    assert_eq!(server.get("/healthz").await.body, "ok");
    assert_eq!(server.get("/healthz/ping").await.body, "ok");
    assert_eq!(server.get("/healthz?verbose").await.body, "[+]ping ok\nhealthz check passed\n");
}

#[tokio::test]
async fn metrics_are_brought_up_to_date_and_shown_as_text() {
    let agent = Arc::new(FakeAgent::default());
    let introspection: Arc<dyn Introspection> = Arc::<FakeAgent>::clone(&agent);
    let server = TestServer::start(metrics_router(MetricsPages { introspection, ..pages() }));
    let answer = server.get("/metrics").await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(answer.body.contains("# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram\n"));
    assert_eq!(agent.scrapes.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn health_checks_show_as_slis_until_they_are_deleted() {
    let server = TestServer::start(metrics_router(pages()));
    server.get("/healthz").await;
    let line = "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} 1\n";
    assert!(server.get("/metrics/slis").await.body.contains(line));
    let reset = request(server.address, "DELETE", "/metrics/slis", "", "").await.unwrap();
    assert_eq!((reset.status, reset.body.as_str()), (200, "metrics reset\n"));
    assert_eq!(server.get("/metrics/slis").await.body, "");
}

#[tokio::test]
async fn statusz_tells_start_and_uptime_as_text_and_as_an_object() {
    let server = TestServer::start(metrics_router(pages()));
    let text = server.get("/statusz").await;
    assert!(is_plain_text(&text));
    assert!(
        text.body
            .starts_with("\nkube-proxy statusz\nWarning: This endpoint is not meant to be machine parseable")
    );
    assert!(
        text.body.contains("\nStarted: Mon May  4 03:02:01 UTC 2026\nUp: 1 hr 01 min 04 sec\n"),
        "{text:?}"
    );
    assert!(text.body.ends_with(" /shunt/status /statusz\n"), "{text:?}");

    let object =
        accepting(&server, "/statusz", "application/json;v=v1beta1;g=config.k8s.io;as=Statusz").await;
    assert_eq!(object.header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_str(&object.body).unwrap();
    assert_eq!((&body["kind"], &body["apiVersion"]), (&json!("Statusz"), &json!("config.k8s.io/v1beta1")));
    assert_eq!((&body["uptimeSeconds"], &body["metadata"]["name"]), (&json!(3664), &json!("kube-proxy")));
    assert_eq!(accepting(&server, "/statusz", "application/json").await.status, 406);
}

#[tokio::test]
async fn flagz_lists_flags_in_order() {
    let server = TestServer::start(metrics_router(pages()));
    let text = server.get("/flagz").await;
    assert!(text.body.starts_with("\nkube-proxy flagz\nWarning: "), "{text:?}");
    assert!(text.body.ends_with("\n\nconfig=/c\nv=2\n"), "{text:?}");
    let object = accepting(&server, "/flagz", "application/json;v=v1alpha1;g=config.k8s.io;as=Flagz").await;
    let body: Value = serde_json::from_str(&object.body).unwrap();
    assert_eq!(body["flags"], json!({"config": "/c", "v": "2"}));
}

#[tokio::test]
async fn the_agent_answers_questions_about_itself() {
    let server = TestServer::start(metrics_router(pages()));
    assert_eq!(server.get("/shunt/status").await.body, r#"{"mode":"nftables"}"#);
    assert_eq!(server.get("/shunt/services").await.body, r#"[{"service":"shop/web"}]"#);
    let explained = server.get("/shunt/explain?from=10.0.0.1&to=10.96.0.1%3A443%2Ftcp").await;
    assert_eq!(
        (explained.status, explained.body.as_str()),
        (200, r#"{"from":"10.0.0.1","probe":false,"to":"10.96.0.1:443/tcp"}"#)
    );
    let probed = server.get("/shunt/explain?to=10.96.0.1%3A443%2Ftcp&probe=true").await;
    assert!(probed.body.contains(r#""probe":true"#), "{}", probed.body);
    let unclear = server.get("/shunt/explain?to=10.96.0.1%3A443%2Ftcp&probe=perhaps").await;
    assert_eq!(unclear.status, 400);
    let missing = server.get("/shunt/explain?from=10.0.0.1").await;
    assert_eq!((missing.status, missing.body.contains("to: is needed")), (400, true));
    assert_eq!(server.get("/shunt/explain?to=later").await.status, 503);
}

#[tokio::test]
async fn debug_pages_exist_only_with_profiling() {
    let server = TestServer::start(metrics_router(pages()));
    for path in ["/debug/flags/v", "/debug/pprof/", "/debug/pprof/heap"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_log_level_can_be_put_and_profiles_are_refused_with_a_reason() {
    let handle = crate::serve::logging::detached_handle();
    let server = TestServer::start(metrics_router(MetricsPages { debug: Some(handle.clone()), ..pages() }));
    let put = |body: &'static str| request(server.address, "PUT", "/debug/flags/v", "", body);
    let answer = put("5").await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "successfully set logging level to 5\n"));
    assert_eq!(handle.verbosity(), 5);
    let wrong = put("five").await.unwrap();
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.starts_with("failed set logging level five: "), "{wrong:?}");
    assert_eq!(handle.verbosity(), 5);
    assert_eq!(server.get("/debug/flags/v").await.status, 406);
    for path in ["/debug/pprof/", "/debug/pprof/profile"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.body.contains("no pprof profiles")), (501, true), "{path}");
    }
}

fn health_server(address: SocketAddr, hard_fail: bool) -> HttpServer {
    let health = Arc::new(HealthMonitor::new(Duration::from_mins(1), Clock::System));
    HttpServer { role: ServerRole::Health, address, router: health_router(health, metrics()), hard_fail }
}

#[tokio::test]
async fn a_server_whose_address_is_taken_tells_once_and_tries_until_it_is_free() {
    let blocker = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = blocker.local_addr().unwrap();
    let events = Arc::new(RecordedEvents::default());
    let sink: Arc<dyn EventSink> = Arc::<RecordedEvents>::clone(&events);
    let pause = Duration::from_millis(20);
    let server = tokio::spawn(health_server(address, false).run_retrying(sink, pause));
    tokio::time::sleep(pause * 5).await;
    let told = events.all();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].reason, told[0].severity), ("FailedToStartProxierHealthcheck", Severity::Warning));
    assert_eq!(told[0].object, EventObject::Node);
    assert!(told[0].message.contains(&address.to_string()), "{}", told[0].message);

    drop(blocker);
    assert_eq!(patient_get(address, "/livez").await.status, 200);
    assert_eq!(events.all().len(), 1);
    server.abort();
}

#[tokio::test]
async fn a_server_that_must_not_fail_gives_up_at_once() {
    let blocker = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = blocker.local_addr().unwrap();
    let events = Arc::new(RecordedEvents::default());
    let sink: Arc<dyn EventSink> = Arc::<RecordedEvents>::clone(&events);
    let server = HttpServer { role: ServerRole::Metrics, ..health_server(address, true) };
    let error = tokio::time::timeout(Duration::from_secs(4), server.run(sink)).await.unwrap();
    assert_eq!(error.to_string(), format!("metrics server cannot listen on {address}"));
    assert_eq!(events.all()[0].reason, "FailedToStartMetricServer");
}
