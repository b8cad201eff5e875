//! The control plane: the API server, a client of it, and a controller that makes EndpointSlices.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::controller;
use crate::apiserver::{ApiServer, Options};
use crate::lab::Host;

const PORT: u16 = 6443;
const MANAGER: &str = "shunt-demo";
const PATIENCE: Duration = Duration::from_secs(5);

/// A running control plane.
///
/// The same objects are served twice: to the nodes on the control plane's machine, and to `kubectl` on this machine's
/// loopback.
#[derive(Debug)]
pub(super) struct Control {
    // Dropped first: it serves connections on the runtime below.
    _for_nodes: ApiServer,
    for_nodes_kubeconfig: String,
    for_kubectl: ApiServer,
    client: Api2,
    controlled: watch::Receiver<u64>,
    runtime: Runtime,
}

/// A client; named so that its `Debug` says something.
struct Api2(Client);

impl std::fmt::Debug for Api2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Control {
    /// Starts everything.
    pub(super) fn start(host: &Host) -> Result<Self> {
        let options = Options { tls: true, token: Some(format!("{:032x}", rand::random::<u128>())) };
        let address = SocketAddr::new(host.address()?, PORT);
        let for_nodes = host.worker().run(ApiServer::start(address, options))??;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let for_kubectl = runtime.block_on(for_nodes.beside(loopback))?;
        let client = runtime.block_on(connect(&for_kubectl.kubeconfig()))?;
        let (done, controlled) = watch::channel(0);
        runtime.spawn(controller::run(for_nodes.store().clone(), done));
        Ok(Self {
            for_nodes_kubeconfig: for_nodes.kubeconfig(),
            _for_nodes: for_nodes,
            for_kubectl,
            client: Api2(client),
            controlled,
            runtime,
        })
    }

    /// Where the nodes find the API.
    pub(super) fn kubeconfig_for_nodes(&self) -> &str {
        &self.for_nodes_kubeconfig
    }

    /// Where `kubectl` on this machine finds the API.
    pub(super) fn kubeconfig_for_kubectl(&self) -> String {
        self.for_kubectl.kubeconfig()
    }

    /// Waits until the controller has acted on everything.
    pub(super) fn wait_for_controller(&self) -> Result<()> {
        let store = self.for_kubectl.store();
        let mut controlled = self.controlled.clone();
        let caught_up = controlled.wait_for(|version| *version >= store.current_version());
        let waited = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, caught_up).await });
        waited
            .context("the endpoint controller does not catch up")?
            .context("the endpoint controller ended")?;
        Ok(())
    }

    /// Creates or changes an object through the API; returns it as the server has it.
    pub(super) fn apply(&self, object: &Value) -> Result<Value> {
        let (api, name) = self.api_of(object)?;
        let patch = Patch::Apply(object);
        let parameters = PatchParams::apply(MANAGER).force();
        let made = self.runtime.block_on(api.patch(&name, &parameters, &patch));
        let made = made.with_context(|| format!("cannot apply {name}"))?;
        serde_json::to_value(made).with_context(|| format!("cannot read {name} back"))
    }

    /// Replaces the status of an object.
    pub(super) fn apply_status(&self, object: &Value) -> Result<()> {
        let (api, name) = self.api_of(object)?;
        let patch = Patch::Merge(object);
        self.runtime
            .block_on(api.patch_status(&name, &PatchParams::default(), &patch))
            .with_context(|| format!("cannot change the status of {name}"))?;
        Ok(())
    }

    /// Deletes an object through the API.
    pub(super) fn delete(&self, object: &Value) -> Result<()> {
        let (api, name) = self.api_of(object)?;
        self.runtime
            .block_on(api.delete(&name, &DeleteParams::default()))
            .with_context(|| format!("cannot delete {name}"))?;
        Ok(())
    }

    fn api_of(&self, object: &Value) -> Result<(Api<DynamicObject>, String)> {
        let text = |path| object.pointer(path).and_then(Value::as_str);
        let name = text("/metadata/name").context("an object without a name")?.to_owned();
        let kind = text("/kind").context("an object without a kind")?;
        let api_version = text("/apiVersion").context("an object without a version")?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let client = self.client.0.clone();
        let api = match text("/metadata/namespace") {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        Ok((api, name))
    }
}

async fn connect(kubeconfig: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).context("cannot read the kubeconfig")?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.context("cannot use the kubeconfig")?).context("cannot make a client")
}
