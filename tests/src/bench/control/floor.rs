//! A plain watch: when could anybody have known of a write?

use std::net::Ipv4Addr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::AsyncBufReadExt as _;
use futures::TryStreamExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::Scene;
use super::scene::MOVING;
use crate::lab::{Reply, Worker};

const PATIENCE: Duration = Duration::from_secs(10);

/// The watch, on a thread of its own.
#[derive(Debug)]
pub(super) struct Floor {
    // Dropped first: the watch then ends.
    lines: Receiver<(Instant, String)>,
    _watch: Reply<Result<()>>,
    _worker: Worker,
}

impl Floor {
    /// Watches the slices of the moving service from now on.
    pub(super) fn start(scene: &Scene) -> Result<Self> {
        let worker = Worker::start(scene.namespace())?;
        let kubeconfig = Kubeconfig::from_yaml(scene.api().kubeconfig()).context("reading a kubeconfig")?;
        let version = scene.api().store().current_version();
        let (sender, lines) = mpsc::channel();
        let (ready, wait) = mpsc::channel();
        let watch = worker.spawn(watch(kubeconfig, version, sender, ready));
        wait.recv_timeout(PATIENCE).context("the plain watch does not start")?;
        Ok(Self { lines, _watch: watch, _worker: worker })
    }

    /// When the write of this endpoint was seen; earlier ones are skipped.
    pub(super) fn seen(&self, endpoint: Ipv4Addr) -> Result<Instant> {
        let wanted = format!("\"addresses\":[\"{endpoint}\"]");
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok((at, line)) if line.contains(&wanted) => return Ok(at),
                Ok(_) => {}
                Err(error) => bail!("the plain watch did not see a write: {error}"),
            }
        }
    }
}

async fn watch(
    kubeconfig: Kubeconfig,
    version: u64,
    sender: Sender<(Instant, String)>,
    ready: Sender<()>,
) -> Result<()> {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let path = format!(
        "/apis/discovery.k8s.io/v1/endpointslices?watch=true&resourceVersion={version}\
         &labelSelector=kubernetes.io%2Fservice-name%3D{MOVING}"
    );
    let stream = client.request_stream(http::Request::get(path).body(Vec::new())?).await?;
    ready.send(()).ok().context("nobody waits for the watch")?;
    let mut lines = Box::pin(stream).lines();
    while let Some(line) = lines.try_next().await? {
        if sender.send((Instant::now(), line)).is_err() {
            break;
        }
    }
    Ok(())
}
