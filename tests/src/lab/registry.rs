//! What this process has made and must remove, and the names it uses.
//!
//! Owners remove their things in `Drop`; the registry exists for the ways out
//! on which no `Drop` runs: Ctrl-C and SIGTERM.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::{mounts, sweep};

/// Start of every name the lab gives to something the whole machine can see.
pub(crate) const NAME_PREFIX: &str = "shuntlab";
/// Conventional exit status of a program ended by SIGINT.
const INTERRUPTED: i32 = 130;

/// Something that outlives a careless end of the process.
///
/// The order of the variants is the order of removal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leftover {
    /// A process, by id, with all of its process group.
    Process(i32),
    /// A named network namespace.
    Namespace(String),
    /// A cgroup directory.
    Cgroup(PathBuf),
    /// A directory of files.
    Directory(PathBuf),
}

static LEFTOVERS: Mutex<BTreeSet<Leftover>> = Mutex::new(BTreeSet::new());
static PREPARED: Once = Once::new();
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// A name no other lab on this machine uses: prefix, process id, number.
pub fn unique_name() -> String {
    prepare();
    format!("{NAME_PREFIX}{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Notes something to be removed if the process is interrupted.
pub(crate) fn note(item: Leftover) {
    prepare();
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner).insert(item);
}

/// Takes something off the list: its owner has removed it.
pub(crate) fn forget(item: &Leftover) {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner).remove(item);
}

/// Once per process: remove what killed processes left, raise the limit on
/// open files (a case opens hundreds of sockets), and watch for Ctrl-C.
fn prepare() {
    PREPARED.call_once(|| {
        sweep::remove_leftovers_of_dead_processes();
        raise_file_limit();
        watch_for_interrupts();
    });
}

fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
}

fn watch_for_interrupts() {
    let watcher = std::thread::Builder::new().name("lab-interrupts".to_owned());
    if let Err(error) = watcher.spawn(|| {
        if let Err(error) = wait_for_interrupt() {
            tracing::warn!(%error, "cannot watch for Ctrl-C");
        }
    }) {
        tracing::warn!(%error, "cannot watch for Ctrl-C");
    }
}

fn wait_for_interrupt() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok::<(), std::io::Error>(())
    })?;
    remove_everything();
    leave()
}

#[expect(clippy::exit, reason = "the process was asked to end, and everything has been cleaned up")]
fn leave() -> ! {
    std::process::exit(INTERRUPTED)
}

fn remove_everything() {
    let items = std::mem::take(&mut *LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner));
    for item in items {
        remove(&item);
    }
}

/// Removes one thing; errors are logged, for there is nobody left to act.
pub(crate) fn remove(item: &Leftover) {
    let done = match item {
        Leftover::Process(id) => kill(Pid::from_raw(*id), Signal::SIGKILL).map_err(std::io::Error::from),
        Leftover::Namespace(name) => mounts::remove_namespace_file(name),
        Leftover::Cgroup(path) => std::fs::remove_dir(path),
        Leftover::Directory(path) => std::fs::remove_dir_all(path),
    };
    if let Err(error) = done {
        tracing::debug!(?item, %error, "not removed");
    }
}
