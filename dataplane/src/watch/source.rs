//! What all sources of objects have in common.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::WatchStatus;
use crate::domain::Event;

/// An event and when it reached this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// What happened.
    pub event: Event,
    /// When the bytes arrived (or the file was noticed).
    pub received: Instant,
}

/// A running source. Dropping it stops the source; the receiver of its events then sees the end of the channel.
#[derive(Debug)]
pub struct WatchHandle {
    status: Arc<WatchStatus>,
    tasks: JoinSet<()>,
}

impl WatchHandle {
    pub(super) fn new(status: Arc<WatchStatus>, tasks: JoinSet<()>) -> Self {
        Self { status, tasks }
    }

    /// The tasks, to add one.
    pub(super) fn tasks(&mut self) -> &mut JoinSet<()> {
        &mut self.tasks
    }

    /// How the source is doing, for metrics and the status page.
    pub fn status(&self) -> Arc<WatchStatus> {
        Arc::clone(&self.status)
    }

    /// Stops the source and waits until it has stopped.
    pub async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

/// The receiver of events is gone: there is nobody left to work for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody receives the events any more")]
pub(super) struct ReceiverGone;

/// Where a source puts its events.
#[derive(Clone, Debug)]
pub(super) struct Sink(mpsc::Sender<Stamped>);

impl Sink {
    pub(super) fn new(sender: mpsc::Sender<Stamped>) -> Self {
        Self(sender)
    }

    /// Sends events that arrived together, waiting while the receiver is behind.
    pub(super) async fn send(&self, events: &mut Vec<Event>, received: Instant) -> Result<(), ReceiverGone> {
        for event in events.drain(..) {
            if self.0.send(Stamped { event, received }).await.is_err() {
                return Err(ReceiverGone);
            }
        }
        Ok(())
    }

    /// Waits until nobody receives any more.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}
