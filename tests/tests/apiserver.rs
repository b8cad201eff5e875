//! The test API server behaves like a real one, as the `kube` client sees it.
#![expect(clippy::unwrap_used, reason = "a failure of a step is a failure of the test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use shunt_tests::apiserver::{ApiServer, Options, Refusal};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

async fn server(options: Options) -> ApiServer {
    ApiServer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options).await.unwrap()
}

async fn services(server: &ApiServer) -> Api<Service> {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Api::namespaced(Client::try_from(config).unwrap(), "default")
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"port": 80}]},
    })
}

#[tokio::test]
async fn created_services_get_defaults_and_an_address_of_their_own() {
    let server = server(Options::default()).await;
    let api = services(&server).await;
    let made =
        api.create(&PostParams::default(), &serde_json::from_value(service("a")).unwrap()).await.unwrap();
    let other =
        api.create(&PostParams::default(), &serde_json::from_value(service("b")).unwrap()).await.unwrap();
    let (made, other) = (made.spec.unwrap(), other.spec.unwrap());
    assert_eq!(made.internal_traffic_policy.as_deref(), Some("Cluster"));
    assert_eq!(made.ports.unwrap()[0].protocol.as_deref(), Some("TCP"));
    assert_ne!(made.cluster_ip, other.cluster_ip);
}

#[tokio::test]
async fn pages_cover_everything_once() {
    let server = server(Options::default()).await;
    for index in 0..25 {
        server.store().put(service(&format!("s{index:02}"))).unwrap();
    }
    let api = services(&server).await;
    let mut names = Vec::new();
    let mut parameters = ListParams::default().limit(10);
    loop {
        let page = api.list(&parameters).await.unwrap();
        assert!(page.items.len() <= 10);
        names.extend(page.items.into_iter().map(|item| item.metadata.name.unwrap()));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => break,
        }
    }
    let expected: Vec<_> = (0..25).map(|index| format!("s{index:02}")).collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_continued_list_from_before_a_compaction_is_gone() {
    let server = server(Options::default()).await;
    for name in ["a", "b", "c"] {
        server.store().put(service(name)).unwrap();
    }
    let api = services(&server).await;
    let page = api.list(&ListParams::default().limit(1)).await.unwrap();
    server.store().put(service("d")).unwrap();
    server.store().compact();
    let token = page.metadata.continue_.unwrap();
    let error = api.list(&ListParams::default().limit(1).continue_token(&token)).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 410));
}

#[tokio::test]
async fn a_watch_sees_changes_as_its_selector_does() {
    let server = server(Options::default()).await;
    let api = services(&server).await;
    let version = server.store().current_version().to_string();
    let parameters = WatchParams::default().labels("app=web");
    let mut events = pin!(api.watch(&parameters, &version).await.unwrap());
    let labelled = |value: &str| {
        let mut object = service("a");
        object["metadata"]["labels"] = json!({"app": value});
        object
    };
    server.store().put(labelled("db")).unwrap();
    server.store().put(labelled("web")).unwrap();
    server.store().put(labelled("db")).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match timeout(PATIENCE, events.try_next()).await.unwrap().unwrap().unwrap() {
            WatchEvent::Added(_) => seen.push("added"),
            WatchEvent::Deleted(_) => seen.push("deleted"),
            WatchEvent::Bookmark(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(seen, ["added", "deleted"]);
}

#[tokio::test]
async fn a_watch_from_a_compacted_version_is_told_so() {
    let server = server(Options::default()).await;
    let old = server.store().current_version();
    server.store().put(service("a")).unwrap();
    server.store().compact();
    let api = services(&server).await;
    let mut events = pin!(api.watch(&WatchParams::default(), &old.to_string()).await.unwrap());
    let event = timeout(PATIENCE, events.try_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Error(status) if status.code == 410));
}

/// The names that a fresh `kube` watcher lists, and whether it came to the end of its list.
async fn listed(api: Api<Service>, config: watcher::Config) -> Vec<String> {
    let mut names = Vec::new();
    let mut events = pin!(watcher(api, config));
    loop {
        match timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap() {
            watcher::Event::InitApply(object) => names.push(object.metadata.name.unwrap()),
            watcher::Event::InitDone => return names,
            _ => {}
        }
    }
}

#[tokio::test]
async fn streaming_and_paged_watchers_list_the_same() {
    let server = server(Options::default()).await;
    for name in ["a", "b", "c"] {
        server.store().put(service(name)).unwrap();
    }
    let streaming = listed(services(&server).await, watcher::Config::default().streaming_lists()).await;
    let paged = listed(services(&server).await, watcher::Config::default().page_size(2)).await;
    assert_eq!(streaming, ["a", "b", "c"]);
    assert_eq!(paged, ["a", "b", "c"]);
}

#[tokio::test]
async fn servers_without_streaming_lists_refuse_them() {
    let server = server(Options::default()).await;
    server.faults().streaming_lists(false);
    let mut events = pin!(watcher(services(&server).await, watcher::Config::default().streaming_lists()));
    let outcome = timeout(PATIENCE, async {
        loop {
            if let Err(error) = events.next().await.unwrap() {
                return error.to_string();
            }
        }
    });
    assert!(outcome.await.unwrap().contains("sendInitialEvents"));
}

#[tokio::test]
async fn dropped_watches_can_be_taken_up_from_the_last_version() {
    let server = server(Options::default()).await;
    let api = services(&server).await;
    let version = server.store().current_version().to_string();
    {
        let mut events = pin!(api.watch(&WatchParams::default(), &version).await.unwrap());
        server.faults().drop_watches();
        let ended = timeout(PATIENCE, events.next()).await.unwrap();
        assert!(ended.is_none_or(|event| event.is_err()));
    }
    server.store().put(service("a")).unwrap();
    let mut events = pin!(api.watch(&WatchParams::default(), &version).await.unwrap());
    let event = timeout(PATIENCE, events.try_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Added(object) if object.metadata.name.as_deref() == Some("a")));
}

#[tokio::test]
async fn a_frozen_server_answers_nothing_until_it_thaws() {
    let server = server(Options::default()).await;
    let api = services(&server).await;
    server.faults().freeze(true);
    let parameters = ListParams::default();
    let mut list = pin!(api.list(&parameters));
    assert!(timeout(Duration::from_millis(200), list.as_mut()).await.is_err());
    server.faults().freeze(false);
    timeout(PATIENCE, list).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_slow_reader_gets_every_event_in_order() {
    let server = server(Options::default()).await;
    let api = services(&server).await;
    let version = server.store().current_version().to_string();
    let mut events = pin!(api.watch(&WatchParams::default(), &version).await.unwrap());
    for index in 0..500 {
        server.store().put(service(&format!("s{index:03}"))).unwrap();
    }
    let mut names = Vec::new();
    while names.len() < 500 {
        if let WatchEvent::Added(object) =
            timeout(PATIENCE, events.try_next()).await.unwrap().unwrap().unwrap()
        {
            names.push(object.metadata.name.unwrap());
            if names.len() % 100 == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    assert!(names.is_sorted());
}

#[tokio::test]
async fn tls_and_token_are_demanded() {
    let server = server(Options { tls: true, token: Some("secret".to_owned()) }).await;
    assert!(services(&server).await.list(&ListParams::default()).await.is_ok());
    server.faults().require_token(Some("another".to_owned()));
    let error = services(&server).await.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 401));
}

#[tokio::test]
async fn requests_are_refused_and_recorded_on_demand() {
    let server = server(Options::default()).await;
    server.faults().refuse(Some(Refusal { status: 403, retry_after: None }));
    assert!(services(&server).await.get("a").await.is_err());
    let paths: Vec<_> = server.faults().requests().into_iter().map(|request| request.path).collect();
    assert!(paths.contains(&"/api/v1/namespaces/default/services/a".to_owned()), "{paths:?}");
}

#[tokio::test]
async fn a_restarted_server_keeps_its_port_and_its_objects() {
    let mut server = server(Options::default()).await;
    server.store().put(service("a")).unwrap();
    let address = server.address();
    server.stop().await;
    assert!(services(&server).await.get("a").await.is_err());
    server.resume().await.unwrap();
    assert_eq!(server.address(), address);
    services(&server).await.get("a").await.unwrap();
}

#[tokio::test]
async fn server_side_apply_creates_and_then_merges() {
    let server = server(Options::default()).await;
    let api = services(&server).await;
    let parameters = PatchParams::apply("test").force();
    api.patch("a", &parameters, &Patch::Apply(service("a"))).await.unwrap();
    let mut changed = service("a");
    changed["spec"]["ports"][0]["port"] = json!(81);
    let after = api.patch("a", &parameters, &Patch::Apply(changed)).await.unwrap();
    assert_eq!(after.spec.unwrap().ports.unwrap()[0].port, 81);
}
