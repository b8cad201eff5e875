mod recovery;
mod server;

use serde_json::{Value, json};

use super::client::ClientSettings;
use super::*;
use crate::domain::{Event, ObjectKind};
use server::{PATIENCE, Server};

/// One session against the server that the test plays.
struct Lab {
    server: Server,
    receiver: mpsc::Receiver<Stamped>,
    status: Arc<WatchStatus>,
    #[expect(dead_code, reason = "keeps the session alive")]
    tasks: JoinSet<()>,
}

impl Lab {
    async fn services() -> Self {
        let tracker = Box::new(ServiceTracker::new(Arc::default()));
        Self::start(Target::services(), tracker, |_| {}).await
    }

    async fn start(target: Target, tracker: Box<dyn Tracker>, adjust: impl FnOnce(&mut Session)) -> Self {
        let server = Server::start().await;
        let (sender, receiver) = mpsc::channel(4);
        let status = Arc::new(WatchStatus::new());
        let client = client_of(&server).await;
        let mut session =
            Session::new(client, target, tracker, Sink::new(sender), Arc::clone(&status), Arc::default());
        adjust(&mut session);
        let mut tasks = JoinSet::new();
        tasks.spawn(session.run());
        Self { server, receiver, status, tasks }
    }

    async fn next(&mut self) -> String {
        let stamped = tokio::time::timeout(PATIENCE, self.receiver.recv()).await.expect("an event in time");
        brief(&stamped.unwrap().event)
    }

    async fn expect(&mut self, events: &[&str]) {
        for event in events {
            assert_eq!(self.next().await, *event, "of {events:?}");
        }
    }

    async fn expect_quiet(&mut self) {
        let silence = tokio::time::timeout(Duration::from_millis(200), self.receiver.recv()).await;
        assert!(silence.is_err(), "unexpected {silence:?}");
    }

    fn errors(&self, kind: ObjectKind, reason: ErrorReason) -> u64 {
        self.status.kind(kind).errors().find(|(other, _)| *other == reason).unwrap().1
    }
}

use std::time::Duration;

use crate::watch::ErrorReason;

async fn client_of(server: &Server) -> kube::Client {
    let master = Some(format!("http://{}", server.address));
    client(&ClientSettings { kubeconfig: None, master }, None).await.unwrap()
}

fn service(name: &str, version: &str, ip: &str) -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "x", "resourceVersion": version, "managedFields": [{"a": [1, {}]}]},
        "spec": {"clusterIP": ip, "ports": [{"port": 80}]},
    })
}

/// An event in a few words, for comparing.
fn brief(event: &Event) -> String {
    match event {
        Event::Service(service) => format!("+{} {}", service.name, service.cluster_ips[0]),
        Event::ServiceGone(name) => format!("-{name}"),
        Event::Slice(slice) => format!("+{}", slice.name),
        Event::SliceGone(name) => format!("-{name}"),
        Event::Node(Some(node)) => format!("node {}", node.name),
        Event::Node(None) => "no node".to_owned(),
        Event::OptedOut(pods) => {
            format!("opted out {:?}", pods.iter().map(|pod| &*pod.uid).collect::<Vec<_>>())
        }
        Event::ServiceCidrs(cidrs) => format!("cidrs {cidrs:?}"),
        Event::Synced(kind) => format!("synced {}", kind.resource()),
        Event::Problem(problem) => format!("problem {} {}", problem.object, problem.field),
    }
}

#[tokio::test]
async fn a_streaming_list_is_in_sync_when_its_last_bookmark_arrives() {
    let mut lab = Lab::services().await;
    let call = lab.server.call().await;
    assert_eq!(call.path, "/api/v1/services");
    assert!(call.is("labelSelector", "!service.kubernetes.io/service-proxy-name"), "{:?}", call.query);
    assert!(call.is("fieldSelector", "spec.clusterIP!=None"), "{:?}", call.query);
    assert!(call.is("sendInitialEvents", "true") && call.is("resourceVersion", ""), "{:?}", call.query);
    let stream = call.stream();
    stream.added(&service("a", "5", "172.30.0.1"));
    stream.added(&service("b", "6", "172.30.0.2"));
    lab.expect(&["+x/a 172.30.0.1", "+x/b 172.30.0.2"]).await;
    stream.bookmark("7");
    lab.expect_quiet().await;
    stream.complete("8");
    lab.expect(&["synced services"]).await;
    stream.event("MODIFIED", &service("a", "9", "172.30.0.3"));
    lab.expect(&["+x/a 172.30.0.3"]).await;
    stream.event("DELETED", &service("b", "10", "172.30.0.2"));
    lab.expect(&["-x/b"]).await;
    let status = lab.status.kind(ObjectKind::Service);
    assert!(status.connected() && status.synced() && status.lists() == 1);
    assert!(status.age().unwrap() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_server_that_refuses_streaming_is_read_in_pages_from_then_on() {
    let mut lab = Lab::services().await;
    lab.server.call().await.refuse(422, None);
    let call = lab.server.call().await;
    assert!(call.is("limit", "500") && !call.query.contains_key("watch"), "{:?}", call.query);
    assert!(call.is("labelSelector", "!service.kubernetes.io/service-proxy-name"), "{:?}", call.query);
    call.page("20", Some("next"), &[service("a", "5", "172.30.0.1")]);
    let call = lab.server.call().await;
    assert!(call.is("continue", "next"), "{:?}", call.query);
    lab.expect(&["+x/a 172.30.0.1"]).await;
    lab.expect_quiet().await;
    call.page("20", None, &[service("b", "6", "172.30.0.2")]);
    lab.expect(&["+x/b 172.30.0.2", "synced services"]).await;
    let stream = lab.server.watch_from("20").await;
    stream.expired();
    let call = lab.server.call().await;
    assert!(call.is("limit", "500") && !call.query.contains_key("sendInitialEvents"), "{:?}", call.query);
}

#[tokio::test]
async fn a_server_that_does_not_know_streaming_lists_is_read_in_pages() {
    let tracker = Box::new(ServiceTracker::new(Arc::default()));
    let hasten = |session: &mut Session| session.stream_patience = Duration::from_millis(100);
    let mut lab = Lab::start(Target::services(), tracker, hasten).await;
    // It takes the request for a plain watch: no bookmark will ever end the list.
    let stream = lab.server.streaming_list().await;
    stream.added(&service("a", "5", "172.30.0.1"));
    lab.expect(&["+x/a 172.30.0.1"]).await;
    let call = lab.server.call().await;
    assert!(call.is("limit", "500"), "{:?}", call.query);
    call.page("20", None, &[service("a", "5", "172.30.0.1")]);
    lab.expect(&["synced services"]).await;
    lab.server.watch_from("20").await;
}

#[tokio::test]
async fn a_watch_that_falls_silent_is_begun_again_where_it_was() {
    let tracker = Box::new(ServiceTracker::new(Arc::default()));
    let hasten = |session: &mut Session| session.watch_patience = Duration::from_millis(1500);
    let mut lab = Lab::start(Target::services(), tracker, hasten).await;
    let stream = lab.server.streaming_list().await;
    stream.added(&service("a", "5", "172.30.0.1"));
    stream.complete("6");
    lab.expect(&["+x/a 172.30.0.1", "synced services"]).await;
    // Nothing more is said, and nothing is closed.
    let again = lab.server.watch_from("6").await;
    again.added(&service("b", "7", "172.30.0.2"));
    lab.expect(&["+x/b 172.30.0.2"]).await;
}

#[tokio::test]
async fn an_object_that_cannot_be_read_does_not_take_others_along() {
    let mut lab = Lab::services().await;
    let stream = lab.server.streaming_list().await;
    stream.added(&service("a", "5", "172.30.0.1"));
    stream.complete("6");
    lab.expect(&["+x/a 172.30.0.1", "synced services"]).await;
    let mut mistyped = service("a", "7", "172.30.0.9");
    mistyped["spec"]["ports"][0]["port"] = json!("eighty");
    stream.event("MODIFIED", &mistyped);
    stream.added(&service("b", "8", "172.30.0.2"));
    lab.expect(&["problem x/a spec.ports[0].port", "+x/b 172.30.0.2"]).await;
    // What it was before stays in use over a new list, and the problem is not told again.
    stream.expired();
    let stream = lab.server.streaming_list().await;
    stream.added(&mistyped);
    stream.added(&service("b", "8", "172.30.0.2"));
    stream.complete("9");
    lab.expect_quiet().await;
    stream.event("DELETED", &mistyped);
    lab.expect(&["-x/a"]).await;
}

#[tokio::test]
async fn a_problem_is_told_once_for_each_version_of_an_object() {
    let mut lab = Lab::services().await;
    let mut bad = service("a", "5", "172.30.0.1");
    bad["spec"]["externalIPs"] = json!(["nonsense"]);
    let stream = lab.server.streaming_list().await;
    stream.added(&bad);
    stream.complete("6");
    lab.expect(&["+x/a 172.30.0.1", "problem x/a spec.externalIPs[0]", "synced services"]).await;
    stream.expired();
    let stream = lab.server.streaming_list().await;
    stream.added(&bad);
    stream.complete("7");
    lab.expect_quiet().await;
    bad["metadata"]["resourceVersion"] = json!("8");
    stream.event("MODIFIED", &bad);
    lab.expect(&["+x/a 172.30.0.1", "problem x/a spec.externalIPs[0]"]).await;
}

#[tokio::test]
async fn a_service_that_becomes_headless_is_gone() {
    let mut lab = Lab::services().await;
    let stream = lab.server.streaming_list().await;
    stream.added(&service("a", "5", "172.30.0.1"));
    stream.complete("6");
    lab.expect(&["+x/a 172.30.0.1", "synced services"]).await;
    stream.event("MODIFIED", &service("a", "7", "None"));
    lab.expect(&["-x/a"]).await;
    stream.event("DELETED", &service("a", "8", "None"));
    lab.expect_quiet().await;
}

#[tokio::test]
async fn a_node_that_does_not_exist_is_said_not_to() {
    let tracker = Box::new(NodeTracker::new(Arc::default()));
    let mut lab = Lab::start(Target::node("n1"), tracker, |_| {}).await;
    let call = lab.server.call().await;
    assert!(call.is("fieldSelector", "metadata.name=n1"), "{:?}", call.query);
    let stream = call.stream();
    stream.complete("6");
    lab.expect(&["no node", "synced nodes"]).await;
    let node = json!({"metadata": {"name": "n1", "resourceVersion": "7"}});
    stream.added(&node);
    lab.expect(&["node n1"]).await;
    stream.expired();
    let again = lab.server.streaming_list().await;
    again.added(&node);
    again.complete("8");
    lab.expect_quiet().await;
    again.event("DELETED", &node);
    lab.expect(&["no node"]).await;
}

#[tokio::test]
async fn service_cidrs_are_given_together() {
    let cidr = |name: &str, version: &str, range: &str| json!({"metadata": {"name": name, "resourceVersion": version}, "spec": {"cidrs": [range]}});
    let mut lab = Lab::start(Target::service_cidrs(), Box::<CidrTracker>::default(), |_| {}).await;
    let stream = lab.server.streaming_list().await;
    stream.added(&cidr("b", "1", "172.31.0.0/16"));
    stream.added(&cidr("a", "2", "172.30.0.0/16"));
    stream.complete("3");
    lab.expect(&["cidrs [172.30.0.0/16, 172.31.0.0/16]", "synced servicecidrs"]).await;
    stream.event("DELETED", &cidr("b", "4", "172.31.0.0/16"));
    lab.expect(&["cidrs [172.30.0.0/16]"]).await;
    stream.expired();
    let again = lab.server.streaming_list().await;
    again.added(&cidr("c", "5", "fd00::/108"));
    again.complete("6");
    lab.expect(&["cidrs [fd00::/108]"]).await;
}

#[tokio::test]
async fn without_service_cidrs_everything_goes_on() {
    for code in [404, 403] {
        let mut lab = Lab::start(Target::service_cidrs(), Box::<CidrTracker>::default(), |_| {}).await;
        lab.server.call().await.refuse(code, None);
        lab.expect(&["cidrs []", "synced servicecidrs"]).await;
        assert!(lab.status.kind(ObjectKind::ServiceCidr).absent());
        // It is asked for again, and works once it is there.
        let stream = lab.server.streaming_list().await;
        let object =
            json!({"metadata": {"name": "a", "resourceVersion": "2"}, "spec": {"cidrs": ["172.30.0.0/16"]}});
        stream.added(&object);
        stream.complete("3");
        lab.expect(&["cidrs [172.30.0.0/16]"]).await;
        assert!(!lab.status.kind(ObjectKind::ServiceCidr).absent());
    }
}

fn pod(name: &str, version: &str, socket_lb: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "x", "uid": name, "resourceVersion": version,
                        "annotations": {"shunt.dev/socket-lb": socket_lb}}})
}

#[tokio::test]
async fn of_pods_only_the_metadata_of_those_on_this_node_are_asked_for() {
    let mut lab = Lab::start(Target::pods("n1"), Box::<PodTracker>::default(), |_| {}).await;
    let call = lab.server.call().await;
    assert_eq!(call.path, "/api/v1/pods");
    assert!(call.is("fieldSelector", "spec.nodeName=n1"), "{:?}", call.query);
    assert!(call.accept.contains("as=PartialObjectMetadata"), "{}", call.accept);
    call.refuse(422, None);
    let call = lab.server.call().await;
    assert!(call.accept.contains("as=PartialObjectMetadataList"), "{}", call.accept);
    call.page("20", None, &[pod("a", "5", "disabled"), pod("b", "6", "enabled")]);
    lab.expect(&["opted out [\"a\"]", "synced pods"]).await;
    let stream = lab.server.watch_from("20").await;
    stream.event("MODIFIED", &pod("b", "21", "disabled"));
    lab.expect(&["opted out [\"a\", \"b\"]"]).await;
    stream.event("DELETED", &pod("a", "22", "disabled"));
    lab.expect(&["opted out [\"b\"]"]).await;
}

#[tokio::test]
async fn without_permission_for_pods_nobody_is_opted_out_and_everything_goes_on() {
    let mut lab = Lab::start(Target::pods("n1"), Box::<PodTracker>::default(), |_| {}).await;
    lab.server.call().await.refuse(403, None);
    lab.expect(&["synced pods"]).await;
    assert!(lab.status.kind(ObjectKind::Pod).absent());
    assert!(lab.status.in_use().any(|kind| kind == ObjectKind::Pod));
    let stream = lab.server.streaming_list().await;
    stream.added(&pod("a", "2", "disabled"));
    stream.complete("3");
    lab.expect(&["opted out [\"a\"]"]).await;
}

#[tokio::test]
async fn all_kinds_are_watched_and_synced() {
    let mut server = Server::start().await;
    let (sender, mut receiver) = mpsc::channel(4);
    let settings = KubernetesSettings { client: client_of(&server).await, node_name: "n1".to_owned() };
    let handle = spawn(&settings, sender);
    let mut streams = Vec::new();
    let mut paths = Vec::new();
    for _ in WatchStatus::KINDS {
        let call = server.call().await;
        paths.push(call.path.clone());
        let stream = call.stream();
        stream.complete("5");
        streams.push(stream);
    }
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "/api/v1/nodes",
            "/api/v1/services",
            "/apis/discovery.k8s.io/v1/endpointslices",
            "/apis/networking.k8s.io/v1/servicecidrs",
        ]
    );
    let mut synced = Vec::new();
    while synced.len() < WatchStatus::KINDS.len() {
        let stamped = tokio::time::timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap();
        if let Event::Synced(kind) = stamped.event {
            synced.push(kind);
        }
    }
    synced.sort_unstable();
    assert_eq!(synced, WatchStatus::KINDS);
    assert!(handle.status().synced());
    handle.shutdown().await;
    assert!(tokio::time::timeout(PATIENCE, receiver.recv()).await.unwrap().is_none());
}
