//! Doing something in every network namespace that the processes of a cgroup live in.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

/// Calls `each` once in each network namespace in which a process of the cgroup (or one below it) lives, and in the
/// caller's own, on a thread of its own. Namespaces that cannot be entered are passed over: their processes ended, or
/// are not visible from here.
pub(super) fn for_each(cgroup: &Path, each: &(dyn Fn() + Sync)) -> io::Result<()> {
    let mut seen = BTreeSet::from([own()?]);
    each();
    let mut namespaces = Vec::new();
    for process in processes(cgroup) {
        let Ok(namespace) = File::open(format!("/proc/{process}/ns/net")) else { continue };
        if namespace.metadata().is_ok_and(|metadata| seen.insert(metadata.ino())) {
            namespaces.push(namespace);
        }
    }
    if namespaces.is_empty() {
        return Ok(());
    }
    std::thread::scope(|scope| {
        let visits = scope.spawn(|| {
            for namespace in &namespaces {
                match setns(namespace, CloneFlags::CLONE_NEWNET) {
                    Ok(()) => each(),
                    Err(error) => tracing::debug!(%error, "a network namespace cannot be entered"),
                }
            }
        });
        visits.join().map_err(|_panic| io::Error::other("visiting the network namespaces failed"))
    })
}

fn own() -> io::Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

/// Every process of a cgroup and those below it; of threaded cgroups, which do not tell their processes, every thread.
fn processes(cgroup: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    let mut waiting = vec![cgroup.to_owned()];
    while let Some(directory) = waiting.pop() {
        let members = fs::read_to_string(directory.join("cgroup.procs"))
            .or_else(|_threaded| fs::read_to_string(directory.join("cgroup.threads")))
            .unwrap_or_default();
        found.extend(members.lines().filter_map(|line| line.parse::<u32>().ok()));
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        waiting.extend(folders.map(|entry| entry.path()));
    }
    found
}
