//! A real API server: kube-apiserver and etcd, found as controller-runtime's envtest finds them.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::eventually;
use crate::lab::{Host, Process, Surroundings};

/// Names the folder with the programs.
const VARIABLE: &str = "KUBEBUILDER_ASSETS";
const ETCD: &str = "http://127.0.0.1:2379";
/// A server of this kind needs some seconds for its own set-up.
const START_PATIENCE: Duration = Duration::from_mins(1);
const ADMIN_TOKEN: &str = "admin-token";
/// The agent is `system:kube-proxy`, which every cluster binds to the role `system:node-proxier`.
const AGENT_TOKEN: &str = "agent-token";

/// The two running programs. Fields are dropped in order: they end before their files go.
#[derive(Debug)]
pub(super) struct Envtest {
    server: Option<Process>,
    _etcd: Process,
    command: Vec<OsString>,
    log: PathBuf,
    url: String,
    certificate: String,
    surroundings: Surroundings,
}

impl Envtest {
    /// Whether there are programs to start.
    pub(super) fn is_available() -> bool {
        std::env::var_os(VARIABLE).is_some()
    }

    /// Starts both on the host and waits until the server serves.
    pub(super) fn start(unique: &str, host: &Host, address: SocketAddr) -> Result<Self> {
        let folder = PathBuf::from(std::env::var_os(VARIABLE).context("KUBEBUILDER_ASSETS is not set")?);
        let surroundings = Surroundings::create(unique, host.namespace())?;
        let directory = surroundings.directory().to_owned();
        let certificate = write_credentials(&directory, address)?;
        let data = format!("--data-dir={}", directory.join("etcd").display());
        let etcd = [
            folder.join("etcd").into_os_string(),
            data.into(),
            format!("--listen-client-urls={ETCD}").into(),
            format!("--advertise-client-urls={ETCD}").into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
            "--unsafe-no-fsync".into(),
        ];
        let etcd = surroundings.start(&etcd, &directory.join("etcd.log")).context("starting etcd")?;
        let mut envtest = Self {
            server: None,
            _etcd: etcd,
            command: server_command(&folder.join("kube-apiserver"), &directory, address),
            log: directory.join("kube-apiserver.log"),
            url: format!("https://{address}"),
            certificate,
            surroundings,
        };
        envtest.resume()?;
        eventually("kube-apiserver serves and has its first roles and namespaces", START_PATIENCE, || {
            let namespaces = envtest.list(host, "Namespace").unwrap_or_default();
            let agent_may_list = envtest.list_as(AGENT_TOKEN, host, "Service").is_ok();
            Ok((agent_may_list && !namespaces.is_empty()).then_some(()))
        })
        .with_context(|| fs::read_to_string(&envtest.log).unwrap_or_default())?;
        Ok(envtest)
    }

    pub(super) fn stop(&mut self) -> Result<()> {
        self.server.take().map(|mut server| server.stop()).transpose()?;
        Ok(())
    }

    pub(super) fn resume(&mut self) -> Result<()> {
        let server = self.surroundings.start(&self.command, &self.log).context("starting kube-apiserver")?;
        self.server = Some(server);
        Ok(())
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    /// The agent's.
    pub(super) fn kubeconfig(&self) -> String {
        self.kubeconfig_of(AGENT_TOKEN)
    }

    fn kubeconfig_of(&self, token: &str) -> String {
        use base64::Engine as _;
        let authority = base64::engine::general_purpose::STANDARD.encode(&self.certificate);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "envtest",
            "clusters": [{"name": "envtest",
                          "cluster": {"server": self.url, "certificate-authority-data": authority}}],
            "users": [{"name": "envtest", "user": {"token": token}}],
            "contexts": [{"name": "envtest", "context": {"cluster": "envtest", "user": "envtest"}}],
        })
        .to_string()
    }

    pub(super) fn put(&self, host: &Host, object: Value) -> Result<()> {
        let kubeconfig = self.kubeconfig_of(ADMIN_TOKEN);
        host.worker().run(async move {
            let text =
                |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
            let api = objects(&kubeconfig, &text("/kind")).await?;
            let (name, apply) = (text("/metadata/name"), PatchParams::apply("shunt-tests").force());
            api.patch(&name, &apply, &Patch::Apply(&object)).await?;
            if object.get("status").is_some() {
                api.patch_status(&name, &apply, &Patch::Apply(&object)).await?;
            }
            Ok(())
        })?
    }

    pub(super) fn delete(&self, host: &Host, kind: &str, name: &str) -> Result<()> {
        let (kubeconfig, kind, name) = (self.kubeconfig_of(ADMIN_TOKEN), kind.to_owned(), name.to_owned());
        host.worker().run(async move {
            let api = objects(&kubeconfig, &kind).await?;
            api.delete(&name, &DeleteParams::default()).await.map(drop).context("deleting")
        })?
    }

    pub(super) fn list(&self, host: &Host, kind: &str) -> Result<Vec<Value>> {
        self.list_as(ADMIN_TOKEN, host, kind)
    }

    fn list_as(&self, token: &str, host: &Host, kind: &str) -> Result<Vec<Value>> {
        let (kubeconfig, kind) = (self.kubeconfig_of(token), kind.to_owned());
        host.worker().run(async move {
            let found = objects(&kubeconfig, &kind).await?.list(&ListParams::default()).await?;
            found.items.into_iter().map(|item| Ok(serde_json::to_value(item)?)).collect()
        })?
    }
}

/// The objects of a kind, those of namespace `default` where there are namespaces.
async fn objects(kubeconfig: &str, kind: &str) -> Result<Api<DynamicObject>> {
    let (group, namespaced) = match kind {
        "Service" | "Pod" => ("", true),
        "Node" | "Namespace" => ("", false),
        "Event" => ("events.k8s.io", true),
        "EndpointSlice" => ("discovery.k8s.io", true),
        "ServiceCIDR" => ("networking.k8s.io", false),
        other => anyhow::bail!("tests have no {other}"),
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    Ok(if namespaced {
        Api::namespaced_with(client, "default", &resource)
    } else {
        Api::all_with(client, &resource)
    })
}

/// Writes what the server proves itself and others with; returns its certificate.
fn write_credentials(directory: &Path, address: SocketAddr) -> Result<String> {
    let write = |name: &str, text: &str| {
        fs::write(directory.join(name), text).with_context(|| format!("cannot write {name}"))
    };
    let server = rcgen::generate_simple_self_signed(vec![address.ip().to_string()])?;
    write("server.crt", &server.cert.pem())?;
    write("server.key", &server.signing_key.serialize_pem())?;
    let accounts = rcgen::KeyPair::generate()?;
    write("accounts.key", &accounts.serialize_pem())?;
    write("accounts.pub", &accounts.public_key_pem())?;
    let tokens =
        format!("{ADMIN_TOKEN},admin,admin,system:masters\n{AGENT_TOKEN},system:kube-proxy,kube-proxy\n");
    write("tokens.csv", &tokens)?;
    Ok(server.cert.pem())
}

fn server_command(program: &Path, directory: &Path, address: SocketAddr) -> Vec<OsString> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", directory.join(name).display());
    let words = [
        format!("--etcd-servers={ETCD}"),
        format!("--advertise-address={}", address.ip()),
        format!("--secure-port={}", address.port()),
        file("cert-dir", "certificates"),
        file("tls-cert-file", "server.crt"),
        file("tls-private-key-file", "server.key"),
        file("token-auth-file", "tokens.csv"),
        file("service-account-key-file", "accounts.pub"),
        file("service-account-signing-key-file", "accounts.key"),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ];
    [program.as_os_str().to_owned()].into_iter().chain(words.map(OsString::from)).collect()
}
