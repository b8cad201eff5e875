//! Where objects and Events go to and come from: the API server, or a directory of manifests.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::config::Settings;
use crate::serve::{ClusterEvent, EventSink, HealthMonitor, KubeEvents, LogEvents, Metrics};
use crate::watch::kubernetes::{self, ClientSettings, KubernetesSettings};
use crate::watch::manifests::{self, ManifestSettings};
use crate::watch::{Stamped, WatchHandle};

/// Events that may wait for the agent; the sources are held up beyond that.
const QUEUE: usize = 4096;

/// The running source.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) handle: WatchHandle,
    pub(super) events: mpsc::Receiver<Stamped>,
    pub(super) sink: Arc<dyn EventSink>,
    /// Where pods can be watched as well; manifests have them anyway.
    pods: Option<(KubernetesSettings, mpsc::Sender<Stamped>)>,
}

impl Source {
    /// Watches the pods of this node too, if somebody wants to know. To be asked once; what ends the source is not seen
    /// before.
    pub(super) fn watch_pods(&mut self, wanted: bool) {
        if let Some((settings, sender)) = self.pods.take().filter(|_| wanted) {
            kubernetes::watch_pods(&settings, sender, &mut self.handle);
        }
    }
}

/// Starts the source that the settings name.
pub(super) async fn start(
    settings: &Settings,
    metrics: &Arc<Metrics>,
    health: &HealthMonitor,
) -> anyhow::Result<Source> {
    let (sender, events) = mpsc::channel(QUEUE);
    if let Some(directory) = &settings.manifests {
        // Nobody deletes or drains a node that no API server knows.
        health.assume_node_eligible();
        let manifests =
            ManifestSettings { directory: directory.clone(), node_name: settings.node_name.clone() };
        let handle = manifests::spawn(&manifests, sender)?;
        return Ok(Source { handle, events, sink: Arc::new(LogEvents), pods: None });
    }
    let client = ClientSettings {
        kubeconfig: settings.client.kubeconfig.clone(),
        master: settings.client.master.clone(),
    };
    let client = kubernetes::client(&client, Some(Arc::clone(metrics))).await?;
    let sink = Arc::new(KubeEvents::start(client.clone(), &settings.node_name));
    let settings = KubernetesSettings { client, node_name: settings.node_name.clone() };
    let handle = kubernetes::spawn(&settings, sender.clone());
    sink.emit(ClusterEvent::starting());
    Ok(Source { handle, events, sink, pods: Some((settings, sender)) })
}
