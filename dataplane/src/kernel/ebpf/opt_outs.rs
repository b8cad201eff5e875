//! Pods that want their sockets to be left alone: their cgroups are found and told to the programs.
//!
//! The key is the id of the pod's cgroup, which the kubelet makes before anything of the pod runs; the network namespace
//! comes later, is shared by all pods of the host network, and cannot be looked into without more privileges.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use shunt_abi::config::CGROUP_LEVELS;

use super::shared::Shared;
use super::words;
use crate::domain::OptedOutPod;

/// A pod that has just appeared gets its cgroup at any moment, and its first process soon after.
const EAGER: Duration = Duration::from_millis(20);
/// How long it is looked for that often.
const EAGERNESS: Duration = Duration::from_mins(1);
/// Pause between looks after that: the pod may have ended long ago, and only its object is left.
const PATIENT: Duration = Duration::from_secs(5);
/// What systemd runs: no pods below.
const UNITS: [&str; 2] = [".service", ".scope"];
/// Pods are not deeper below the cgroup that is searched.
const DEPTH: u32 = 7;
/// Levels that there may be above the cgroup that is searched, where it is not the root of the hierarchy.
const ABOVE: u32 = 6;

/// Takes the pods that opted out. The thread behind it ends with the last of its kind.
#[derive(Clone, Debug)]
pub struct OptOuts(Sender<BTreeSet<OptedOutPod>>);

impl OptOuts {
    /// All pods that opted out; those that were given before and are not among them have not any more.
    pub fn set(&self, pods: BTreeSet<OptedOutPod>) {
        if self.0.send(pods).is_err() {
            tracing::warn!("the thread that leaves the sockets of pods alone has ended");
        }
    }
}

/// Starts the thread, which looks for pods in `cgroup`.
pub(super) fn start(shared: &Arc<Shared>, cgroup: &Path) -> io::Result<OptOuts> {
    let (sender, receiver) = channel();
    let (shared, cgroup) = (Arc::downgrade(shared), cgroup.to_owned());
    let run = move || run(&shared, &cgroup, &receiver);
    thread::Builder::new().name("ebpf-opt-outs".into()).spawn(run)?;
    Ok(OptOuts(sender))
}

fn run(shared: &Weak<Shared>, cgroup: &Path, pods: &Receiver<BTreeSet<OptedOutPod>>) {
    let mut search = Search::default();
    loop {
        let received = match search.pause(Instant::now()) {
            None => pods.recv().map_err(|_gone| RecvTimeoutError::Disconnected),
            Some(pause) => pods.recv_timeout(pause),
        };
        match received {
            Ok(pods) => search.take(pods, Instant::now()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(shared) = shared.upgrade() else { return };
        if search.look(cgroup, Instant::now()) {
            let (ids, levels) = search.found(is_root(cgroup));
            if let Err(error) = shared.leave_alone(&ids, levels) {
                tracing::warn!("leaving the sockets of pods alone: {}", words(&error));
                search.changed = true;
            }
        }
        shared.set_not_found(search.not_found(Instant::now()));
    }
}

/// The root of the whole hierarchy has no type.
fn is_root(cgroup: &Path) -> bool {
    !cgroup.join("cgroup.type").exists()
}

/// A cgroup of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    id: u64,
    /// Levels below the cgroup that was searched.
    depth: u32,
}

#[derive(Debug)]
struct Wanted {
    since: Instant,
    found: Option<Found>,
    said: bool,
}

/// The pods, and what was found of them.
#[derive(Debug, Default)]
struct Search {
    pods: BTreeMap<OptedOutPod, Wanted>,
    /// What was found is not told yet.
    changed: bool,
}

impl Search {
    fn take(&mut self, pods: BTreeSet<OptedOutPod>, now: Instant) {
        self.pods.retain(|pod, _| pods.contains(pod));
        for pod in pods {
            self.pods.entry(pod).or_insert(Wanted { since: now, found: None, said: false });
        }
        // Also when there are none: an earlier agent may have left some.
        self.changed = true;
    }

    /// How long until the next look; `None` if there is nothing to look for.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let missing = self.pods.values().filter(|pod| pod.found.is_none());
        let youngest = missing.map(|pod| now.saturating_duration_since(pod.since)).min();
        let youngest = youngest.or(self.changed.then_some(EAGERNESS))?;
        Some(if youngest < EAGERNESS { EAGER } else { PATIENT })
    }

    /// Looks for what is missing; whether there is something to tell.
    fn look(&mut self, cgroup: &Path, now: Instant) -> bool {
        let missing: Vec<_> = self.pods.iter_mut().filter(|(_, wanted)| wanted.found.is_none()).collect();
        if !missing.is_empty() {
            let mut folders = Vec::new();
            list_pods(cgroup, 1, &mut folders);
            for (pod, wanted) in missing {
                let names = folder_names(&pod.uid);
                let folder = folders.iter().find(|(path, _)| has_name(path, &names));
                wanted.found = folder.and_then(|(path, depth)| identify(path, *depth));
                self.changed |= wanted.found.is_some();
                if let Some(found) = wanted.found {
                    tracing::info!(pod = &*pod.name, cgroup = found.id, "its sockets are left alone");
                } else if is_overdue(wanted, now) && !std::mem::replace(&mut wanted.said, true) {
                    let root = cgroup.display();
                    tracing::warn!(
                        pod = &*pod.name,
                        "its sockets are to be left alone, but it has no cgroup in {root}"
                    );
                }
            }
        }
        std::mem::take(&mut self.changed)
    }

    /// Ids of what was found, and the levels of the hierarchy that they are on, as bits.
    fn found(&self, in_root: bool) -> (BTreeSet<u64>, u32) {
        let found = self.pods.values().filter_map(|wanted| wanted.found);
        let levels = found.clone().fold(0, |levels, found| levels | levels_of(found.depth, in_root));
        (found.map(|found| found.id).collect(), levels)
    }

    /// Names of pods that have been looked for in vain for long.
    fn not_found(&self, now: Instant) -> Vec<Arc<str>> {
        let missing = self.pods.iter().filter(|(_, wanted)| is_overdue(wanted, now));
        missing.map(|(pod, _)| Arc::clone(&pod.name)).collect()
    }
}

fn is_overdue(wanted: &Wanted, now: Instant) -> bool {
    wanted.found.is_none() && now.saturating_duration_since(wanted.since) >= EAGERNESS
}

/// As bits. Below a cgroup of which nobody can say how deep it is: all that are possible.
fn levels_of(depth: u32, in_root: bool) -> u32 {
    let last = if in_root { depth } else { depth + ABOVE };
    (depth..=last).filter(|level| *level < CGROUP_LEVELS).fold(0, |bits, level| bits | 1 << level)
}

/// The name of a pod's folder with the cgroupfs driver, and the end of it with the systemd driver.
fn folder_names(uid: &str) -> [String; 2] {
    [format!("pod{uid}"), format!("-pod{}.slice", uid.replace('-', "_"))]
}

fn has_name(path: &Path, [whole, end]: &[String; 2]) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name == whole || name.ends_with(end.as_str())
}

fn is_pod(name: &str) -> bool {
    match name.strip_suffix(".slice") {
        Some(slice) => slice.contains("-pod"),
        None => name.starts_with("pod"),
    }
}

/// Collects folders that look like pods; into those, and into what systemd runs, nothing is looked.
fn list_pods(folder: &Path, depth: u32, found: &mut Vec<(PathBuf, u32)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if is_pod(name) {
            found.push((entry.path(), depth));
        } else if depth < DEPTH && !UNITS.iter().any(|end| name.ends_with(end)) {
            list_pods(&entry.path(), depth + 1, found);
        }
    }
}

/// A cgroup's id is the number of its inode.
fn identify(path: &Path, depth: u32) -> Option<Found> {
    let id = fs::metadata(path).ok()?.ino();
    Some(Found { id, depth })
}

#[cfg(test)]
#[path = "opt_outs_tests.rs"]
mod tests;
