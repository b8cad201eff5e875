use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::domain::{Node, ObjectKind, Problem};

const PATIENCE: Duration = Duration::from_secs(10);

/// A source over a temporary directory.
struct Lab {
    dir: TempDir,
    receiver: Receiver<Stamped>,
    handle: WatchHandle,
}

impl Lab {
    /// Starts the source over these files and gives the events up to the sync as well.
    async fn start(files: &[(&str, &str)]) -> (Self, Vec<Event>) {
        let dir = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let (sender, receiver) = mpsc::channel(16);
        let settings = ManifestSettings { directory: dir.path().to_owned(), node_name: "n1".to_owned() };
        let handle = spawn(&settings, sender).unwrap();
        let mut lab = Self { dir, receiver, handle };
        let mut events = Vec::new();
        while !events.ends_with(&[Event::Synced(ObjectKind::ServiceCidr)]) {
            events.push(lab.next().await);
        }
        (lab, events)
    }

    async fn next(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.receiver.recv()).await.expect("an event in time").unwrap().event
    }

    /// The next event must come for this reason; nothing else may follow.
    async fn expect_quiet(&mut self) {
        let silence = tokio::time::timeout(Duration::from_millis(400), self.receiver.recv()).await;
        assert!(silence.is_err(), "unexpected {silence:?}");
    }

    async fn problem(&mut self) -> Problem {
        match self.next().await {
            Event::Problem(problem) => *problem,
            other => panic!("not a problem: {other:?}"),
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn replace(&self, name: &str, text: &str) {
        let aside = self.dir.path().join(".aside");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, self.dir.path().join(name)).unwrap();
    }
}

fn service(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  clusterIP: {ip}\n  ports:\n  - port: 80\n"
    )
}

fn slice(name: &str, address: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-1\n  \
         labels: {{kubernetes.io/service-name: {name}}}\naddressType: IPv4\nports:\n- port: 8080\nendpoints:\n\
         - addresses: [{address}]\n"
    )
}

/// Events in one word each, for comparing.
fn brief(events: &[Event]) -> Vec<String> {
    events.iter().map(brief_event).collect()
}

fn brief_event(event: &Event) -> String {
    match event {
        Event::Service(service) => format!("+{} {}", service.name, service.cluster_ips[0]),
        Event::ServiceGone(name) => format!("-{name}"),
        Event::Slice(slice) => format!("+{} {}", slice.name, slice.endpoints[0].address),
        Event::SliceGone(name) => format!("-{name}"),
        Event::Node(Some(node)) => format!("node {} {:?}", node.name, node.addresses),
        Event::Node(None) => "no node".to_owned(),
        Event::OptedOut(pods) => {
            format!("opted out {:?}", pods.iter().map(|pod| &*pod.name).collect::<Vec<_>>())
        }
        Event::ServiceCidrs(cidrs) => format!("cidrs {cidrs:?}"),
        Event::Synced(kind) => format!("synced {}", kind.resource()),
        Event::Problem(problem) => format!("problem {} {}", problem.object, problem.field),
    }
}

const SYNCED: [&str; 4] = ["synced services", "synced endpointslices", "synced nodes", "synced servicecidrs"];

#[tokio::test]
async fn objects_of_all_files_are_given_and_then_the_sync() {
    let text = format!("{}---\n{}", service("web", "172.30.0.1"), slice("web", "10.0.0.1"));
    let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
         "status": {"addresses": [{"type": "InternalIP", "address": "10.9.0.1"}]}},
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "k"},
         "spec": {"cidrs": ["172.30.0.0/16"]}}]}"#;
    let others = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n---\n\
                  apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: web}\n";
    let files = [("a.yaml", text.as_str()), ("b.json", json), ("c.yml", others), ("notes.txt", "hello: [")];
    let (lab, events) = Lab::start(&files).await;
    let mut wanted = vec![
        "+default/web 172.30.0.1",
        "+default/web-1 10.0.0.1",
        "node n1 [10.9.0.1]",
        "cidrs [172.30.0.0/16]",
    ];
    wanted.extend(SYNCED);
    assert_eq!(brief(&events), wanted);
    assert!(lab.handle.status().synced());
    assert!(lab.handle.status().kind(ObjectKind::Service).connected());
    lab.handle.shutdown().await;
}

#[tokio::test]
async fn without_a_node_manifest_the_node_has_only_its_name() {
    let (_lab, events) = Lab::start(&[]).await;
    let node = Node { name: "n1".into(), ..Node::default() };
    assert_eq!(events[0], Event::Node(Some(Box::new(node))));
    let mut wanted = vec!["node n1 []", "cidrs []"];
    wanted.extend(SYNCED);
    assert_eq!(brief(&events), wanted);
}

#[tokio::test]
async fn typed_lists_need_not_repeat_the_kind() {
    let list = "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a, namespace: x}\n  spec: {clusterIP: 172.30.0.1}\n";
    let (_lab, events) = Lab::start(&[("a.yaml", list)]).await;
    assert_eq!(brief(&events[..1]), ["+x/a 172.30.0.1"]);
}

#[tokio::test]
async fn changes_are_given_as_they_are_made() {
    let (mut lab, _) = Lab::start(&[("a.yaml", &service("web", "172.30.0.1"))]).await;
    lab.write("b.yaml", &slice("web", "10.0.0.1"));
    assert_eq!(brief_event(&lab.next().await), "+default/web-1 10.0.0.1");
    lab.write("b.yaml", &slice("web", "10.0.0.2"));
    assert_eq!(brief_event(&lab.next().await), "+default/web-1 10.0.0.2");
    lab.replace("a.yaml", &service("web", "172.30.0.9"));
    assert_eq!(brief_event(&lab.next().await), "+default/web 172.30.0.9");
    lab.write("a.yaml", &format!("# same\n{}", service("web", "172.30.0.9")));
    lab.expect_quiet().await;
    lab.write("a.yaml", &service("other", "172.30.0.9"));
    assert_eq!(brief_event(&lab.next().await), "-default/web");
    assert_eq!(brief_event(&lab.next().await), "+default/other 172.30.0.9");
    fs::remove_file(lab.dir.path().join("a.yaml")).unwrap();
    assert_eq!(brief_event(&lab.next().await), "-default/other");
    lab.write(
        "a.yaml",
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1, uid: u}\nspec: {podCIDR: 10.0.0.0/24}\n",
    );
    match lab.next().await {
        Event::Node(Some(node)) => assert_eq!((&*node.uid, node.pod_cidrs.len()), ("u", 1)),
        other => panic!("{other:?}"),
    }
    lab.expect_quiet().await;
}

#[tokio::test]
async fn pods_of_this_node_opt_out() {
    let pod = |name: &str, node: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  uid: {name}\n  annotations:\n    \
             shunt.dev/socket-lb: disabled\nspec: {{nodeName: {node}}}\n"
        )
    };
    let (mut lab, events) = Lab::start(&[("a.yaml", &pod("one", "n1")), ("b.yaml", &pod("two", "n2"))]).await;
    assert!(brief(&events).contains(&"opted out [\"default/one\"]".to_owned()), "{events:?}");
    lab.write("b.yaml", &pod("two", "n1"));
    assert_eq!(brief_event(&lab.next().await), "opted out [\"default/one\", \"default/two\"]");
    fs::remove_file(lab.dir.path().join("a.yaml")).unwrap();
    assert_eq!(brief_event(&lab.next().await), "opted out [\"default/two\"]");
    lab.expect_quiet().await;
}

#[tokio::test]
async fn a_service_that_is_no_longer_ours_is_given_as_gone() {
    let (mut lab, _) = Lab::start(&[("a.yaml", &service("web", "172.30.0.1"))]).await;
    lab.write("a.yaml", &service("web", "None"));
    assert_eq!(brief_event(&lab.next().await), "-default/web");
    lab.expect_quiet().await;
}

#[tokio::test]
async fn a_change_is_noticed_quickly() {
    let (mut lab, _) = Lab::start(&[]).await;
    let mut delays = Vec::new();
    for round in 0..5 {
        let begin = Instant::now();
        lab.write("a.yaml", &service("web", &format!("172.30.0.{}", round + 1)));
        lab.next().await;
        delays.push(begin.elapsed());
    }
    delays.sort_unstable();
    assert!(delays[2] < Duration::from_millis(500), "{delays:?}");
}

#[tokio::test]
async fn a_broken_file_is_named_and_its_last_good_content_stays() {
    let text = format!("{}---\n{}", service("web", "172.30.0.1"), slice("web", "10.0.0.1"));
    let (mut lab, _) = Lab::start(&[("a.yaml", &text)]).await;
    lab.write("a.yaml", &format!("{}---\nkind: [\nx: 1\n", service("web", "172.30.0.7")));
    let problem = lab.problem().await;
    let line: u64 = problem.object.strip_prefix("a.yaml:").unwrap().parse().unwrap();
    assert!((10..=12).contains(&line), "{problem}");
    assert_eq!(problem.field, "(file)");
    assert!(problem.reason.ends_with("the 2 objects read from the file before stay"), "{problem}");
    lab.expect_quiet().await;
    lab.write("b.yaml", &service("other", "172.30.0.2"));
    assert_eq!(brief_event(&lab.next().await), "+default/other 172.30.0.2");
    lab.write("a.yaml", &service("web", "172.30.0.8"));
    assert_eq!(brief_event(&lab.next().await), "-default/web-1");
    assert_eq!(brief_event(&lab.next().await), "+default/web 172.30.0.8");
    let errors: u64 = lab.handle.status().kind(ObjectKind::Service).errors().map(|(_, count)| count).sum();
    assert_eq!(errors, 1);
}

#[tokio::test]
async fn a_mistyped_field_is_named_with_its_line() {
    let yaml = "# a comment\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  clusterIP: 172.30.0.1\n  ports:\n  - port: eighty\n";
    let list =
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: 7}\n";
    let json = "\n{\"apiVersion\": \"v1\", \"kind\": \"Service\",\n \"metadata\": {}}";
    let files =
        [("a.yaml", yaml), ("b.yaml", list), ("c.json", json), ("d.yaml", "a: 1\n"), ("e.yaml", "text\n")];
    let (_lab, events) = Lab::start(&files).await;
    let problems: Vec<_> = brief(&events).into_iter().filter(|event| event.starts_with("problem")).collect();
    assert_eq!(
        problems,
        [
            "problem a.yaml:8 spec.ports[0].port",
            "problem b.yaml:1 items[0].metadata.name",
            "problem c.json:2 metadata.name",
            "problem d.yaml:1 kind",
            "problem e.yaml:1 kind",
        ]
    );
    assert_eq!(events.len(), problems.len() + 2 + SYNCED.len());
}

#[tokio::test]
async fn a_bad_field_is_reported_once_and_the_rest_of_the_object_is_used() {
    let bad = |ip: &str| format!("{}  externalIPs: [nonsense]\n", service("web", ip));
    let (mut lab, events) = Lab::start(&[("a.yaml", &bad("172.30.0.1"))]).await;
    assert_eq!(
        brief(&events[..2]),
        ["+default/web 172.30.0.1", "problem a.yaml:1 (web) spec.externalIPs[0]"]
    );
    lab.write("b.yaml", &service("other", "172.30.0.2"));
    assert_eq!(brief_event(&lab.next().await), "+default/other 172.30.0.2");
    lab.expect_quiet().await;
}

#[tokio::test]
async fn the_first_file_by_name_wins_a_disputed_object() {
    let files = [("a.yaml", service("web", "172.30.0.1")), ("b.yaml", service("web", "172.30.0.2"))];
    let (mut lab, events) = Lab::start(&files.each_ref().map(|(name, text)| (*name, text.as_str()))).await;
    assert_eq!(brief(&events[..1]), ["+default/web 172.30.0.1"]);
    let problems: Vec<_> = brief(&events).into_iter().filter(|event| event.starts_with("problem")).collect();
    assert_eq!(problems, ["problem b.yaml:1 (default/web) metadata.name"]);
    fs::remove_file(lab.dir.path().join("a.yaml")).unwrap();
    assert_eq!(brief_event(&lab.next().await), "+default/web 172.30.0.2");
    lab.expect_quiet().await;
}

#[tokio::test]
async fn a_config_map_volume_is_followed_through_its_links() {
    let (mut lab, _) = Lab::start(&[]).await;
    let root = lab.dir.path().to_owned();
    let fill = |version: &str, ip: &str| {
        fs::create_dir(root.join(version)).unwrap();
        fs::write(root.join(version).join("a.yaml"), service("web", ip)).unwrap();
        symlink(version, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    fill("..v1", "172.30.0.1");
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    assert_eq!(brief_event(&lab.next().await), "+default/web 172.30.0.1");
    fill("..v2", "172.30.0.2");
    assert_eq!(brief_event(&lab.next().await), "+default/web 172.30.0.2");
    lab.expect_quiet().await;
}

#[tokio::test]
async fn a_file_that_is_being_written_is_not_read_halfway() {
    use std::io::Write;
    let text = format!("{}---\n{}", service("web", "172.30.0.1"), slice("web", "10.0.0.1"));
    let (mut lab, _) = Lab::start(&[("a.yaml", &text)]).await;
    let mut file = fs::File::create(lab.dir.path().join("a.yaml")).unwrap();
    file.write_all(service("web", "172.30.0.2").as_bytes()).unwrap();
    lab.expect_quiet().await;
    file.write_all(format!("---\n{}", slice("web", "10.0.0.1")).as_bytes()).unwrap();
    drop(file);
    assert_eq!(brief_event(&lab.next().await), "+default/web 172.30.0.2");
    lab.expect_quiet().await;
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_followed_and_one_that_is_gone_takes_nothing_away() {
    let (mut lab, _) = Lab::start(&[("a.yaml", &service("web", "172.30.0.1"))]).await;
    let root = lab.dir.path().to_owned();
    let aside = TempDir::new_in(root.parent().unwrap()).unwrap();
    fs::rename(&root, aside.path().join("old")).unwrap();
    lab.expect_quiet().await;
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), service("web", "172.30.0.2")).unwrap();
    assert_eq!(brief_event(&lab.next().await), "+default/web 172.30.0.2");
    tokio::time::sleep(RESCAN + SETTLE).await;
    let begin = Instant::now();
    lab.write("a.yaml", &service("web", "172.30.0.3"));
    assert_eq!(brief_event(&lab.next().await), "+default/web 172.30.0.3");
    assert!(begin.elapsed() < RESCAN / 2, "noticed only by the rescan: {:?}", begin.elapsed());
}

#[tokio::test]
async fn a_missing_directory_is_refused_by_name() {
    let (sender, _receiver) = mpsc::channel(1);
    let settings =
        ManifestSettings { directory: "/nonexistent/manifests".into(), node_name: "n1".to_owned() };
    let error = spawn(&settings, sender).unwrap_err();
    assert_eq!(error.to_string(), "manifest directory /nonexistent/manifests");
}

#[tokio::test]
async fn dropping_the_handle_ends_the_events() {
    let (mut lab, _) = Lab::start(&[]).await;
    drop(lab.handle);
    assert!(tokio::time::timeout(PATIENCE, lab.receiver.recv()).await.unwrap().is_none());
}
