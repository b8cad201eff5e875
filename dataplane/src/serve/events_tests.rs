use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use kube::client::Body;
use serde_json::Value;

use super::*;

type Requests = Arc<Mutex<Vec<(String, String, Value)>>>;

/// An API that remembers requests; the first `failures` of them get no answer.
fn api(failures: usize) -> (kube::Client, Requests) {
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    let service = tower::service_fn(move |request: Request<Body>| {
        let seen = Arc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            let body = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap();
            let number = {
                let mut seen = seen.lock().unwrap();
                seen.push((parts.method.to_string(), parts.uri.path().to_owned(), body));
                seen.len()
            };
            if number <= failures {
                return Err(tower::BoxError::from("connection refused"));
            }
            Ok::<_, tower::BoxError>(Response::new(Body::from(
                br#"{"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{},"eventTime":null}"#
                    .to_vec(),
            )))
        }
    });
    (kube::Client::new(service, "default"), requests)
}

async fn wait_for(requests: &Requests, number: usize) -> Vec<(String, String, Value)> {
    for _ in 0..500 {
        if requests.lock().unwrap().len() >= number {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    requests.lock().unwrap().clone()
}

fn healthcheck_failure(message: &str) -> ClusterEvent {
    ClusterEvent {
        object: EventObject::Service(ServiceName::new("shop", "web"), "u-1".into()),
        severity: Severity::Warning,
        reason: "FailedToStartServiceHealthcheck",
        action: "Listen",
        message: message.to_owned(),
    }
}

#[tokio::test]
async fn the_start_is_a_normal_event_on_the_node() {
    let (client, requests) = api(0);
    let events = KubeEvents::start(client, "n1");
    events.emit(ClusterEvent::starting());
    let sent = wait_for(&requests, 1).await;
    let (method, path, event) = &sent[0];
    assert_eq!(
        (method.as_str(), path.as_str()),
        ("POST", "/apis/events.k8s.io/v1/namespaces/default/events")
    );
    let expected = serde_json::json!({"kind": "Node", "name": "n1", "uid": "n1"});
    assert_eq!(event["regarding"], expected);
    assert_eq!((&event["reason"], &event["type"]), (&"Starting".into(), &"Normal".into()));
    assert_eq!((&event["action"], &event["reportingInstance"]), (&"StartKubeProxy".into(), &"n1".into()));
}

#[tokio::test]
async fn an_event_on_a_service_is_in_its_namespace_and_repetitions_become_a_series() {
    let (client, requests) = api(0);
    let events = KubeEvents::start(client, "n1");
    events.emit(healthcheck_failure("port 30001 is taken"));
    events.emit(healthcheck_failure("port 30001 is taken"));
    events.emit(healthcheck_failure("port 30002 is taken"));
    let sent = wait_for(&requests, 2).await;
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert_eq!(sent[0].0, "POST");
    assert_eq!(sent[0].1, "/apis/events.k8s.io/v1/namespaces/shop/events");
    assert_eq!(sent[0].2["regarding"]["uid"], "u-1");
    assert_eq!(sent[0].2["note"], "port 30001 is taken");
    assert_eq!((sent[1].0.as_str(), &sent[1].2["series"]["count"]), ("PATCH", &2.into()));
}

#[tokio::test]
async fn an_event_is_sent_again_while_the_api_is_away() {
    let (client, requests) = api(2);
    let reporter = Reporter { controller: "shunt".to_owned(), instance: None };
    let recorder = Recorder::new(client, reporter);
    let event = healthcheck_failure("m");
    send(&recorder, &event.to_kube(), &reference(&event.object, "n1"), Duration::from_millis(1)).await;
    assert_eq!(requests.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn an_event_that_the_api_refuses_is_not_sent_again() {
    let requests = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&requests);
    let service = tower::service_fn(move |_: Request<Body>| {
        *seen.lock().unwrap() += 1;
        let body = br#"{"kind":"Status","status":"Failure","reason":"Forbidden","message":"no","code":403}"#;
        let response = Response::builder().status(403).body(Body::from(body.to_vec())).unwrap();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let reporter = Reporter { controller: "shunt".to_owned(), instance: None };
    let recorder = Recorder::new(kube::Client::new(service, "default"), reporter);
    let event = healthcheck_failure("m");
    send(&recorder, &event.to_kube(), &reference(&event.object, "n1"), Duration::from_millis(1)).await;
    assert_eq!(*requests.lock().unwrap(), 1);
}

#[test]
fn a_long_note_is_cut_between_characters() {
    let event = healthcheck_failure(&"ü".repeat(600));
    let note = event.to_kube().note.unwrap();
    assert_eq!(note.len(), 1024);
    let odd = healthcheck_failure(&format!("x{}", "ü".repeat(600))).to_kube().note.unwrap();
    assert_eq!(odd.len(), 1023);
}

#[test]
fn a_recording_sink_keeps_events_in_order() {
    let events = RecordedEvents::default();
    events.emit(ClusterEvent::starting());
    events.emit(healthcheck_failure("m"));
    assert_eq!(events.all(), [ClusterEvent::starting(), healthcheck_failure("m")]);
}

#[test]
fn warnings_about_services_are_told_with_a_reason_of_their_own() {
    let warn = |warning| {
        ClusterEvent::service_warning(ServiceName::new("shop", "web"), "u-1".into(), warning, "m".to_owned())
    };
    let reasons = [
        ServiceWarning::FrontendConflict,
        ServiceWarning::FrontendRefused,
        ServiceWarning::SourceRangesOfOneFamily,
        ServiceWarning::UnusableField,
    ]
    .map(|warning| warn(warning).to_kube().reason);
    assert_eq!(reasons, ["FrontendConflict", "FrontendRefused", "SourceRangesOfOneFamily", "UnusableField"]);
}
