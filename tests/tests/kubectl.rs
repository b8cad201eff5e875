//! `kubectl` against the API server of the tests: what a person types at `cargo xtask demo --keep`.
//!
//! Where there is no `kubectl`, the requests that it would send are covered by `apiserver.rs` alone, and this says so.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a failure of a step is a failure of the test"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Output};

use serde_json::{Value, json};
use shunt_tests::apiserver::{ApiServer, Options};
use tempfile::TempDir;

/// A server and a folder for kubectl's files.
struct Bench {
    folder: TempDir,
    server: ApiServer,
}

impl Bench {
    async fn new() -> Option<Self> {
        if !Command::new("kubectl").args(["version", "--client"]).output().is_ok_and(|o| o.status.success()) {
            eprintln!("kubectl is not here: nothing of it can be tried");
            return None;
        }
        let options = Options { tls: true, token: Some("secret".to_owned()) };
        let server = ApiServer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config"), server.kubeconfig()).unwrap();
        Some(Self { folder, server })
    }

    async fn run(&self, words: &str) -> Output {
        let mut command = tokio::process::Command::new("kubectl");
        // The cache of discovery documents must not come from another server.
        command.env("HOME", self.folder.path()).current_dir(self.folder.path());
        command.arg("--kubeconfig=config").args(words.split(' ')).output().await.unwrap()
    }

    /// Runs kubectl, which has to succeed; its output.
    async fn ok(&self, words: &str) -> String {
        let output = self.run(words).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {words}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.ok(words).await).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }
}

fn manifest(ports: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  type: NodePort\n  selector:\n    app: web\n  \
         ports:\n{ports}"
    )
}

const HTTP: &str = "  - name: http\n    port: 80\n    targetPort: 8080\n";
const HTTPS: &str = "  - name: https\n    port: 443\n    targetPort: 8443\n";
const HTTP_ELSEWHERE: &str = "  - name: http\n    port: 80\n    targetPort: 9090\n";

fn ports(service: &Value) -> Vec<(u64, u64)> {
    let ports = service["spec"]["ports"].as_array().unwrap();
    ports.iter().map(|port| (port["port"].as_u64().unwrap(), port["targetPort"].as_u64().unwrap())).collect()
}

/// Applies a service, adds a port, changes one, removes one; node ports stay what they were.
async fn apply_and_change(apply: &str) {
    let Some(bench) = Bench::new().await else { return };
    bench.write("web.yaml", &manifest(HTTP));
    assert!(bench.ok(&format!("{apply} -f web.yaml")).await.starts_with("service/web "));
    let first = bench.json("get svc web -o json").await;
    let node_port = first["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30_000..32_768).contains(&node_port), "{first}");

    bench.write("web.yaml", &manifest(&(HTTPS.to_owned() + HTTP_ELSEWHERE)));
    bench.ok(&format!("{apply} -f web.yaml")).await;
    let both = bench.json("get svc web -o json").await;
    assert_eq!(ports(&both), [(443, 8443), (80, 9090)]);
    assert_eq!(both["spec"]["ports"][1]["nodePort"], json!(node_port));
    assert_eq!(both["spec"]["clusterIP"], first["spec"]["clusterIP"]);

    bench.write("web.yaml", &manifest(HTTPS));
    bench.ok(&format!("{apply} -f web.yaml")).await;
    assert_eq!(ports(&bench.json("get svc web -o json").await), [(443, 8443)]);
    assert!(
        bench.ok(&format!("{apply} -f web.yaml")).await.contains("unchanged")
            || apply.contains("server-side")
    );

    bench.write("web.yaml", &manifest(HTTPS).replace("NodePort", "ClusterIP"));
    bench.ok(&format!("{apply} -f web.yaml")).await;
    assert_eq!(bench.json("get svc web -o json").await["spec"]["ports"][0].get("nodePort"), None);

    bench.ok("delete svc web").await;
    assert!(!bench.run("get svc web").await.status.success());
}

#[tokio::test]
async fn client_side_apply_creates_changes_and_removes_ports() {
    apply_and_change("apply").await;
}

#[tokio::test]
async fn server_side_apply_creates_changes_and_removes_ports() {
    apply_and_change("apply --server-side").await;
}

#[tokio::test]
async fn objects_are_listed_described_and_printed() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("web.yaml", &manifest(HTTP));
    bench.ok("apply -f web.yaml").await;
    let table = bench.ok("get svc,endpointslices,nodes,pods -A").await;
    let line = table.lines().find(|line| line.contains("service/web")).unwrap();
    assert!(line.contains("NodePort") && line.contains("80:30000/TCP"), "{table}");
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "80-8080", "port": 8080}], "endpoints": [{"addresses": ["10.244.1.11"]}],
    });
    bench.server.store().put(slice).unwrap();
    assert!(bench.ok("get endpointslices -o yaml").await.contains("10.244.1.11"));
    assert!(bench.ok("describe svc web").await.contains("TargetPort:"));
    assert!(bench.ok("api-resources").await.contains("endpointslices"));
}

#[tokio::test]
async fn labels_annotations_and_patches_change_objects() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("web.yaml", &manifest(HTTP));
    bench.ok("apply -f web.yaml").await;
    bench.ok("label svc web tier=front").await;
    bench.ok("annotate svc web note=kept").await;
    bench.ok(r#"patch svc web -p {"spec":{"externalTrafficPolicy":"Local","ports":[{"port":80,"targetPort":9090}]}}"#).await;
    bench.ok("label svc web tier-").await;
    let web = bench.json("get svc web -o json").await;
    assert_eq!(web["spec"]["externalTrafficPolicy"], json!("Local"));
    assert_eq!(ports(&web), [(80, 9090)]);
    assert_eq!(web["metadata"]["annotations"]["note"], json!("kept"));
    assert_eq!(web["metadata"]["labels"], json!({}));
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("web.yaml", &manifest(HTTP));
    for (words, said) in [
        ("apply -f web.yaml --dry-run=server", "dry run"),
        ("create service clusterip web --tcp=80:8080", "kubectl apply"),
    ] {
        let output = bench.run(words).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(said), "{words}: {errors}");
    }
    assert!(!bench.run("get svc web").await.status.success());
}

#[tokio::test]
async fn a_misspelt_field_is_an_error() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("web.yaml", &manifest(HTTP).replace("selector:", "selektor:"));
    for apply in ["apply", "apply --server-side"] {
        let output = bench.run(&format!("{apply} -f web.yaml")).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains("selektor"), "{apply}: {errors}");
    }
}
