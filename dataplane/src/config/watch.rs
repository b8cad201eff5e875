//! Notices that the configuration file has changed. The agent then ends and is started again by its DaemonSet, as
//! kube-proxy does.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::error::ConfigError;

/// Somebody who writes a file does it in several steps; the file is read again only after they have been quiet for so
/// long.
const QUIET: Duration = Duration::from_millis(100);

/// Resolves once the file has been written, renamed, or replaced, also by the symlink swap with which the kubelet
/// updates a ConfigMap volume. A file that is deleted is waited for. Watching starts with this call, so that nothing
/// is missed between it and the first poll; call it before the file is read.
pub fn watch_file(path: &Path) -> Result<impl Future<Output = ()> + Send + use<>, ConfigError> {
    let error = |source| ConfigError::Watch { path: path.to_owned(), source };
    let (sender, mut events) = unbounded_channel();
    let mut watcher = notify::recommended_watcher(move |event| {
        // The receiver is gone when nobody waits any more.
        sender.send(event).unwrap_or_default();
    })
    .map_err(error)?;
    for directory in directories(path).map_err(|source| error(notify::Error::io(source)))? {
        watcher.watch(&directory, RecursiveMode::NonRecursive).map_err(error)?;
    }
    let watched = Watched { path: path.to_owned(), known: Identity::of(path) };
    Ok(async move {
        watched.changed(&mut events).await;
        settle(&mut events).await;
        drop::<RecommendedWatcher>(watcher);
    })
}

/// The directory of the path, and the one of the file that it leads to.
fn directories(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let (named, real) = (parent(path), parent(&path.canonicalize()?));
    Ok(if named.canonicalize()? == real { vec![named] } else { vec![named, real] })
}

struct Watched {
    path: PathBuf,
    known: Option<Identity>,
}

impl Watched {
    async fn changed(&self, events: &mut UnboundedReceiver<notify::Result<Event>>) {
        while let Some(event) = events.recv().await {
            let tells = event.is_ok_and(|event| self.tells_of_change(&event));
            if tells || self.is_another() {
                return;
            }
        }
    }

    /// Whether the event alone says that this file has changed. Times of files are too coarse to show every write.
    fn tells_of_change(&self, event: &Event) -> bool {
        let is_change = match event.kind {
            EventKind::Create(_) => self.path.exists(),
            EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Name(RenameMode::From | RenameMode::To)) => {
                true
            }
            _ => false,
        };
        is_change && event.paths.iter().any(|path| path.file_name() == self.file_name())
    }

    fn file_name(&self) -> Option<&OsStr> {
        self.path.file_name()
    }

    /// Whether the path leads to another file than at the start. A missing file is not another one.
    fn is_another(&self) -> bool {
        let now = Identity::of(&self.path);
        now.is_some() && now != self.known
    }
}

/// What tells one content of a path from another without reading it.
#[derive(PartialEq, Eq)]
struct Identity {
    real_path: PathBuf,
    inode: (u64, u64),
    modified: (i64, i64),
    size: u64,
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let real_path = path.canonicalize().ok()?;
        let metadata: Metadata = real_path.metadata().ok()?;
        Some(Self {
            real_path,
            inode: (metadata.dev(), metadata.ino()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.len(),
        })
    }
}

/// Waits for quiet, but not for ever: other files of the directory may change all the time.
async fn settle(events: &mut UnboundedReceiver<notify::Result<Event>>) {
    let quiet = async { while let Ok(Some(_)) = tokio::time::timeout(QUIET, events.recv()).await {} };
    tokio::time::timeout(QUIET * 10, quiet).await.unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Whether the watch ends within a time that is long for a kernel event.
    async fn ends(watch: impl Future<Output = ()>) -> bool {
        tokio::time::timeout(Duration::from_secs(5), watch).await.is_ok()
    }

    async fn stays(watch: impl Future<Output = ()>) -> bool {
        tokio::time::timeout(Duration::from_millis(500), watch).await.is_err()
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.conf");
        fs::write(&path, "a: 1\n").unwrap();
        (directory, path)
    }

    #[tokio::test]
    async fn a_write_ends_the_watch_even_with_the_same_text() {
        let (_directory, path) = file();
        let watch = watch_file(&path).unwrap();
        fs::write(&path, "a: 1\n").unwrap();
        assert!(ends(watch).await);
    }

    #[tokio::test]
    async fn a_rename_over_the_file_ends_the_watch() {
        let (directory, path) = file();
        let watch = watch_file(&path).unwrap();
        let new = directory.path().join("new");
        fs::write(&new, "a: 2\n").unwrap();
        fs::rename(&new, &path).unwrap();
        assert!(ends(watch).await);
    }

    #[tokio::test]
    async fn a_rename_of_the_file_ends_the_watch() {
        let (directory, path) = file();
        let watch = watch_file(&path).unwrap();
        fs::rename(&path, directory.path().join("old")).unwrap();
        assert!(ends(watch).await);
    }

    #[tokio::test]
    async fn a_config_map_update_ends_the_watch() {
        let volume = tempfile::tempdir().unwrap();
        let at = |name: &str| volume.path().join(name);
        for version in ["..v1", "..v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("config.conf"), version).unwrap();
        }
        symlink("..v1", at("..data")).unwrap();
        symlink("..data/config.conf", at("config.conf")).unwrap();
        let watch = watch_file(&at("config.conf")).unwrap();
        symlink("..v2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(ends(watch).await);
    }

    #[tokio::test]
    async fn other_files_and_reading_leave_the_watch_alone() {
        let (directory, path) = file();
        let watch = watch_file(&path).unwrap();
        fs::write(directory.path().join("kubeconfig.conf"), "b: 1\n").unwrap();
        fs::read(&path).unwrap();
        assert!(stays(watch).await);
    }

    #[tokio::test]
    async fn a_deleted_file_is_waited_for() {
        let (_directory, path) = file();
        let watch = watch_file(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let mut watch = Box::pin(watch);
        assert!(stays(&mut watch).await);
        fs::write(&path, "a: 3\n").unwrap();
        assert!(ends(watch).await);
    }

    #[tokio::test]
    async fn a_target_in_another_directory_is_watched_too() {
        let (_directory, path) = file();
        let other = tempfile::tempdir().unwrap();
        let link = other.path().join("config.conf");
        symlink(&path, &link).unwrap();
        let watch = watch_file(&link).unwrap();
        fs::write(&path, "a: 4\n").unwrap();
        assert!(ends(watch).await);
    }

    #[test]
    fn a_missing_file_cannot_be_watched() {
        let error = watch_file(Path::new("/nowhere/config.conf")).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "cannot watch the configuration file /nowhere/config.conf");
    }
}
