//! The body of a watch: one JSON object a line.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::faults::Faults;
use super::resource::Resource;
use super::selector::Selector;
use super::store::{LogEntry, Store, StoreError, Stored, status_object};

/// What a client asked to watch.
#[derive(Debug)]
pub(super) struct WatchRequest {
    pub(super) resource: &'static Resource,
    pub(super) namespace: Option<String>,
    pub(super) selector: Selector,
    /// Changes after this version are sent.
    pub(super) version: u64,
    /// Objects sent first as ADDED, closed by the bookmark that ends the initial events.
    pub(super) initial: Option<Vec<Arc<Stored>>>,
    pub(super) bookmarks: bool,
    pub(super) deadline: Instant,
}

struct Watcher {
    request: WatchRequest,
    store: Store,
    faults: Arc<Faults>,
    ready: VecDeque<Bytes>,
    newest: watch::Receiver<u64>,
    epoch: watch::Receiver<u64>,
    ended: bool,
}

/// Streams the watch until its deadline, a compaction past it, or [`Faults::drop_watches`].
pub(super) fn stream(
    mut request: WatchRequest,
    store: Store,
    faults: Arc<Faults>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let mut ready = VecDeque::new();
    if let Some(initial) = request.initial.take() {
        ready.extend(initial.iter().map(|stored| line("ADDED", &stored.json)));
        ready.push_back(bookmark(request.resource, request.version, true));
    }
    let (newest, epoch) = (store.subscribe(), faults.watch_epoch());
    let watcher = Watcher { request, store, faults, ready, newest, epoch, ended: false };
    futures::stream::unfold(watcher, |mut watcher| async move {
        let chunk = watcher.next().await?;
        Some((chunk, watcher))
    })
}

impl Watcher {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            self.faults.thaw().await;
            if let Some(chunk) = self.take_ready() {
                return Some(Ok(chunk));
            }
            if self.ended {
                return None;
            }
            self.newest.mark_unchanged();
            self.collect();
            if !self.ready.is_empty() {
                continue;
            }
            let bookmark_at = Instant::now() + self.faults.bookmarks();
            tokio::select! {
                changed = self.newest.changed() => self.ended = changed.is_err(),
                dropped = self.epoch.changed() => {
                    drop(dropped);
                    self.ended = true;
                    return Some(Err(io::Error::other("watch dropped")));
                }
                () = tokio::time::sleep_until(self.request.deadline) => self.ended = true,
                () = tokio::time::sleep_until(bookmark_at), if self.request.bookmarks => {
                    self.ready.push_back(bookmark(self.request.resource, self.request.version, false));
                }
            }
        }
    }

    /// All lines that are ready, up to 64 KiB, as one chunk.
    fn take_ready(&mut self) -> Option<Bytes> {
        let first = self.ready.pop_front()?;
        if self.ready.is_empty() {
            return Some(first);
        }
        let mut chunk = BytesMut::from(&first[..]);
        while let Some(line) = self.ready.front() {
            if chunk.len() + line.len() > 65536 {
                break;
            }
            chunk.put_slice(line);
            self.ready.pop_front();
        }
        Some(chunk.freeze())
    }

    fn collect(&mut self) {
        match self.store.changes(self.request.resource, self.request.version) {
            Ok((entries, version)) => {
                self.request.version = version;
                self.ready.extend(entries.iter().filter_map(|entry| self.request.line(entry)));
            }
            Err(error) => {
                self.ready.push_back(error_line(&error));
                self.ended = true;
            }
        }
    }
}

impl WatchRequest {
    fn selects(&self, stored: Option<&Arc<Stored>>) -> bool {
        stored.is_some_and(|stored| {
            let namespace = stored.value.pointer("/metadata/namespace").and_then(Value::as_str);
            self.namespace.as_deref().is_none_or(|wanted| namespace == Some(wanted))
                && self.selector.matches(&stored.value)
        })
    }

    /// An object that begins to match is ADDED, one that stops is DELETED, as the selector sees it.
    fn line(&self, entry: &LogEntry) -> Option<Bytes> {
        let (before, after) = (self.selects(entry.before.as_ref()), self.selects(entry.after.as_ref()));
        match (before, after) {
            (false, true) => entry.after.as_ref().map(|after| line("ADDED", &after.json)),
            (true, true) => entry.after.as_ref().map(|after| line("MODIFIED", &after.json)),
            (true, false) => {
                let last = entry.after.as_ref().or(entry.before.as_ref());
                last.map(|last| line("DELETED", &last.json))
            }
            (false, false) => None,
        }
    }
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + 40);
    line.put_slice(b"{\"type\":\"");
    line.put_slice(kind.as_bytes());
    line.put_slice(b"\",\"object\":");
    line.put_slice(object);
    line.put_slice(b"}\n");
    line.freeze()
}

/// The event that ends a watch with an error.
pub(super) fn error_line(error: &StoreError) -> Bytes {
    line("ERROR", status_object(error).1.to_string().as_bytes())
}

fn bookmark(resource: &Resource, version: u64, ends_initial: bool) -> Bytes {
    let mut metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
    if ends_initial {
        metadata = json!({
            "resourceVersion": version.to_string(),
            "creationTimestamp": null,
            "annotations": {"k8s.io/initial-events-end": "true"},
        });
    }
    let object = json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata});
    line("BOOKMARK", object.to_string().as_bytes())
}
