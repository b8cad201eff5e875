//! When to look at the directory again.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tracing::warn;

/// A file that is being written is left alone for at most this long.
const LONGEST_WRITE: Duration = Duration::from_secs(1);

/// Notices of the kernel about a directory.
pub(super) struct Notices {
    watcher: RecommendedWatcher,
    shared: Arc<Shared>,
    watched: Option<Identity>,
}

/// Device and inode: a directory that was replaced is another one.
type Identity = (u64, u64);

#[derive(Default)]
struct Shared {
    changed: Notify,
    /// Files that were written to and not closed yet, since when.
    writing: Mutex<HashMap<OsString, Instant>>,
}

impl Notices {
    pub(super) fn watch(directory: &Path) -> Result<Self, notify::Error> {
        let shared = Arc::new(Shared::default());
        let handler = Arc::clone(&shared);
        let mut watcher = notify::recommended_watcher(move |event| handler.handle(&event))?;
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(Self { watcher, shared, watched: identity(directory) })
    }

    /// Waits for the next notice; several at once count as one.
    pub(super) async fn next(&self) {
        self.shared.changed.notified().await;
    }

    /// Names of the files that somebody is writing: half a file must not take the other half's objects away.
    pub(super) fn being_written(&self) -> Vec<OsString> {
        let mut writing = self.shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        writing.retain(|_, since| since.elapsed() < LONGEST_WRITE);
        writing.keys().cloned().collect()
    }

    /// Follows the path to a directory that has taken the place of the watched one.
    pub(super) fn rearm(&mut self, directory: &Path) {
        let now = identity(directory);
        if now == self.watched || now.is_none() {
            return;
        }
        // The old watch ends with its directory; that there is none any more is no failure.
        drop(self.watcher.unwatch(directory));
        match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched = now;
                // It may have been filled between the scan and the watch.
                self.shared.changed.notify_one();
            }
            Err(error) => {
                warn!(directory = %directory.display(), %error, "manifest directory cannot be watched");
            }
        }
    }
}

fn identity(directory: &Path) -> Option<Identity> {
    std::fs::metadata(directory).ok().map(|meta| (meta.dev(), meta.ino()))
}

impl Shared {
    fn handle(&self, event: &notify::Result<notify::Event>) {
        let relevant = match event {
            Ok(event) => self.note_writing(event),
            // The queue ran over, or the like: look at everything.
            Err(_) => true,
        };
        if relevant {
            self.changed.notify_one();
        }
    }

    /// Keeps track of who writes; `false` for what changes nothing (our own reading).
    fn note_writing(&self, event: &notify::Event) -> bool {
        let names = event.paths.iter().filter_map(|path| path.file_name());
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match event.kind {
            EventKind::Modify(ModifyKind::Data(_)) => {
                let now = Instant::now();
                for name in names {
                    writing.entry(name.to_owned()).or_insert(now);
                }
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) => {
                for name in names {
                    writing.remove(name);
                }
            }
            EventKind::Access(_) => return false,
            _ => {}
        }
        true
    }
}
