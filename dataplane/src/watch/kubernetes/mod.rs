//! Objects from the Kubernetes API.
//!
//! One task for each kind of object lists, watches and recovers on its own (`session`); a `tracker` turns what it
//! reads into domain events and remembers what was given. Lists are streamed where the server can do that, otherwise
//! read in pages. The loop is our own rather than `kube::runtime::watcher` because each object is to be parsed straight
//! into its compact form, `Retry-After` has to be seen, unchanged objects of a new list must not be sent again, and
//! the server's refusal of streaming lists is to be survived.

mod api;
mod backoff;
mod client;
mod error;
mod lines;
mod messages;
mod pods;
mod session;
mod target;
mod token_file;
mod tracker;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::convert::Names;
use super::source::Sink;
use super::{Stamped, WatchHandle, WatchStatus};
use pods::PodTracker;
use session::{Session, Streaming};
use target::Target;
use tracker::{CidrTracker, NodeTracker, ServiceTracker, SliceTracker, Tracker};

pub use client::{ClientError, ClientSettings, client};

/// What to watch, and through which client.
#[derive(Clone)]
pub struct KubernetesSettings {
    /// The client, as [`client()`] makes it.
    pub client: kube::Client,
    /// Name of this node.
    pub node_name: String,
}

impl std::fmt::Debug for KubernetesSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesSettings").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

/// Watches Services, EndpointSlices, this node and the ServiceCIDRs, and sends their changes to `sender`.
///
/// Must be called within a tokio runtime. The tasks run until the handle is dropped or the receiver is gone.
pub fn spawn(settings: &KubernetesSettings, sender: mpsc::Sender<Stamped>) -> WatchHandle {
    let status = Arc::new(WatchStatus::new());
    let names = Arc::new(Names::default());
    let streaming = Arc::new(Streaming::default());
    let sink = Sink::new(sender);
    let mut tasks = JoinSet::new();
    let mut start = |target: Target, tracker: Box<dyn Tracker>| {
        let session = Session::new(
            settings.client.clone(),
            target,
            tracker,
            sink.clone(),
            Arc::clone(&status),
            Arc::clone(&streaming),
        );
        tasks.spawn(session.run());
    };
    start(Target::services(), Box::new(ServiceTracker::new(Arc::clone(&names))));
    start(Target::endpoint_slices(), Box::new(SliceTracker::new(Arc::clone(&names))));
    start(Target::node(&settings.node_name), Box::new(NodeTracker::new(Arc::clone(&names))));
    start(Target::service_cidrs(), Box::<CidrTracker>::default());
    WatchHandle::new(status, tasks)
}

/// Watches the pods of this node as well, for those that want their sockets to be left alone, as long as `handle` lasts.
///
/// Must be called within a tokio runtime.
pub fn watch_pods(settings: &KubernetesSettings, sender: mpsc::Sender<Stamped>, handle: &mut WatchHandle) {
    let session = Session::new(
        settings.client.clone(),
        Target::pods(&settings.node_name),
        Box::<PodTracker>::default(),
        Sink::new(sender),
        handle.status(),
        Arc::new(Streaming::default()),
    );
    handle.tasks().spawn(session.run());
}

#[cfg(test)]
mod tests;
