//! Objects from a directory of manifests: shunt without a cluster.
//!
//! Services, EndpointSlices, Nodes and ServiceCIDRs from `*.yaml`, `*.yml` and `*.json` files (several documents a file,
//! and `kind: List`), with changes picked up as they are made. A file is taken whole or not at all: while one cannot be
//! read, its last good content stays and all other files keep working.

mod collection;
mod directory;
mod document;
mod item;
mod notice;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tracing::warn;

use super::source::{ReceiverGone, Sink};
use super::{ErrorReason, Stamped, WatchHandle, WatchStatus};
use crate::domain::Event;
use collection::Collection;
use directory::Directory;
use notice::Notices;

/// After a change, more changes are waited for this long ...
const SETTLE: Duration = Duration::from_millis(20);
/// ... but all in all not longer than this.
const LONGEST_SETTLE: Duration = Duration::from_millis(250);
/// The directory is looked at this often even without a notice: files may be links to places that are not watched.
const RESCAN: Duration = Duration::from_secs(2);

/// Which manifests, and for which node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestSettings {
    /// The directory; sub-directories are not read.
    pub directory: PathBuf,
    /// Name of this node. Without a Node manifest of that name a Node with nothing but its name is given.
    pub node_name: String,
}

/// Why the source cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The directory is missing or cannot be read.
    #[error("manifest directory {}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
    /// The kernel does not tell about changes in it.
    #[error("watching manifest directory {}", directory.display())]
    Watch {
        /// The directory.
        directory: PathBuf,
        /// What is wrong.
        #[source]
        source: notify::Error,
    },
}

/// Reads the manifests and sends their objects and changes to `sender`.
///
/// Must be called within a tokio runtime. The task runs until the handle is dropped or the receiver is gone.
pub fn spawn(
    settings: &ManifestSettings,
    sender: mpsc::Sender<Stamped>,
) -> Result<WatchHandle, ManifestError> {
    let directory = &settings.directory;
    let failed = |source| ManifestError::Directory { directory: directory.clone(), source };
    drop(std::fs::read_dir(directory).map_err(failed)?);
    let notices = Notices::watch(directory)
        .map_err(|source| ManifestError::Watch { directory: directory.clone(), source })?;
    let status = Arc::new(WatchStatus::new());
    let scanner = Scanner {
        directory: Directory::new(directory.clone()),
        collection: Collection::new(&settings.node_name),
        reachable: true,
    };
    let source =
        Source { notices, sink: Sink::new(sender), status: Arc::clone(&status), path: directory.clone() };
    let mut tasks = JoinSet::new();
    tasks.spawn(source.run(scanner));
    Ok(WatchHandle::new(status, tasks))
}

/// What reads the directory; moved to a thread that may block for each scan.
struct Scanner {
    directory: Directory,
    collection: Collection,
    reachable: bool,
}

impl Scanner {
    /// Reads what has changed; `false` if the directory cannot be read.
    fn scan(&mut self, being_written: &[std::ffi::OsString], events: &mut Vec<Event>) -> bool {
        match self.directory.scan(being_written) {
            Ok(changes) => {
                self.reachable = true;
                self.collection.apply(changes, events);
            }
            Err(error) => {
                if std::mem::replace(&mut self.reachable, false) {
                    let directory = self.directory.path().display();
                    warn!(%directory, %error, "manifest directory cannot be read: what was read before stays");
                }
            }
        }
        self.reachable
    }
}

/// The running source.
struct Source {
    notices: Notices,
    sink: Sink,
    status: Arc<WatchStatus>,
    path: PathBuf,
}

impl Source {
    async fn run(mut self, scanner: Scanner) {
        let sink = self.sink.clone();
        tokio::select! {
            () = sink.closed() => {}
            _ = self.scan_forever(scanner) => {}
        }
    }

    async fn scan_forever(&mut self, mut scanner: Scanner) -> Result<(), ReceiverGone> {
        let mut first = true;
        loop {
            let received = Instant::now();
            let being_written = self.notices.being_written();
            let scanned = spawn_blocking(move || {
                let mut events = Vec::new();
                let reachable = scanner.scan(&being_written, &mut events);
                (scanner, events, reachable)
            });
            let Ok((back, mut events, reachable)) = scanned.await else { return Ok(()) };
            scanner = back;
            if std::mem::take(&mut first) {
                events.extend(WatchStatus::KINDS.map(Event::Synced));
            }
            self.note(&events, reachable);
            self.sink.send(&mut events, received).await?;
            self.notices.rearm(&self.path);
            self.wait_for_change().await;
        }
    }

    fn note(&self, events: &[Event], reachable: bool) {
        for kind in WatchStatus::KINDS {
            let status = self.status.kind(kind);
            status.set_connected(reachable);
            if reachable && !status.synced() {
                status.count_list();
            } else if reachable {
                status.hear();
            }
        }
        for event in events {
            if let Event::Problem(problem) = event {
                self.status.kind(problem.kind).count_error(ErrorReason::Decode);
            }
        }
    }

    async fn wait_for_change(&self) {
        let rescan = if self.notices.being_written().is_empty() { RESCAN } else { RESCAN / 4 };
        if tokio::time::timeout(rescan, self.notices.next()).await.is_err() {
            return;
        }
        let noticed = Instant::now();
        while noticed.elapsed() < LONGEST_SETTLE
            && tokio::time::timeout(SETTLE, self.notices.next()).await.is_ok()
        {}
    }
}

/// How a file is named in problems: without the directory.
fn display_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
