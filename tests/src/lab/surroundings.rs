//! A place to run whole programs in: network namespace, `/sys`, cgroup, files.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use anyhow::{Context, Result};

use super::mounts;
use super::process::Process;
use super::registry::{self, Leftover};
use super::{Cgroup, Namespace, Worker};

/// Runs programs as if on a machine of its own.
///
/// Unlike `ip netns exec`, which hides cgroups and pinned BPF objects behind a
/// fresh `/sys`, the cgroup hierarchy keeps its usual place, and `/sys/fs/bpf`
/// is a BPF file system that lasts from one program to the next: what an agent
/// pins is there when it is started again. Both go with the surroundings.
#[derive(Debug)]
pub struct Surroundings {
    directory: PathBuf,
    cgroup: Option<Arc<Cgroup>>,
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

struct Request {
    command: Command,
    reply: mpsc::SyncSender<std::io::Result<std::process::Child>>,
}

impl Surroundings {
    /// Prepares a directory for files, a cgroup and a mount namespace.
    pub fn create(unique: &str, namespace: &Arc<Namespace>) -> Result<Self> {
        let directory = std::env::temp_dir().join(unique);
        fs::create_dir(&directory)
            .with_context(|| format!("cannot make directory {}", directory.display()))?;
        registry::note(Leftover::Directory(directory.clone()));
        let mut surroundings = Self { directory, cgroup: None, requests: None, thread: None };
        surroundings.cgroup =
            Cgroup::create(unique).map(|cgroup| Some(Arc::new(cgroup))).or_else(|error| {
                // Only the eBPF dataplane needs one, and it says so itself.
                tracing::info!(%error, "no cgroup for the programs of this lab");
                Ok::<_, anyhow::Error>(None)
            })?;
        surroundings.start_spawner(namespace)?;
        Ok(surroundings)
    }

    /// Directory for configuration and logs, removed in the end.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The cgroup for programs of this machine, where the kernel has cgroup v2.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_deref()
    }

    /// Has the sockets that a worker opens from now on count as those of this machine, for what is attached to its
    /// cgroup. Without cgroup v2 there is nothing to do.
    pub fn adopt(&self, worker: &Worker) -> Result<()> {
        let Some(cgroup) = self.cgroup.clone() else { return Ok(()) };
        worker.run(async move { cgroup.admit_this_thread() })?
    }

    /// Starts a program, output appended to `log`. It is killed when the
    /// test process ends, in whatever way.
    pub fn start(&self, program: &[OsString], log: &Path) -> Result<Process> {
        let name = program.first().context("no program to start")?;
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let errors = output.try_clone().context("cannot share the log")?;
        // The signal comes when the spawning thread ends, which is when these
        // surroundings are dropped or the process dies.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(program);
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = self.spawn(command).with_context(|| format!("cannot start {}", name.display()))?;
        Process::new(child)
    }

    /// Runs a program to its end and returns its standard output.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let words = format!("{program} {}", arguments.join(" "));
        let child = self.spawn(command).with_context(|| format!("cannot run {words}"))?;
        let output = child.wait_with_output().with_context(|| format!("cannot wait for {words}"))?;
        anyhow::ensure!(
            output.status.success(),
            "{words} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn spawn(&self, command: Command) -> Result<std::process::Child> {
        let (reply, answer) = mpsc::sync_channel(1);
        let requests = self.requests.as_ref().context("these surroundings are closed")?;
        requests.send(Request { command, reply }).ok().context("the spawning thread is gone")?;
        Ok(answer.recv().context("the spawning thread is gone")??)
    }

    /// A thread in the right namespaces: children inherit those of the thread
    /// that starts them.
    fn start_spawner(&mut self, namespace: &Arc<Namespace>) -> Result<()> {
        let shelf = self.directory.join("shelf");
        fs::create_dir(&shelf).context("cannot make a directory for mounts")?;
        let (requests, incoming) = mpsc::channel::<Request>();
        let (ready, wait) = mpsc::channel();
        let inside = Arc::clone(namespace);
        let thread = std::thread::Builder::new()
            .name(format!("{}-spawner", namespace.name()))
            .spawn(move || {
                let prepared = inside.enter().and_then(|()| Ok(mounts::unshare_with_matching_sys(&shelf)?));
                let failed = prepared.is_err();
                if ready.send(prepared).is_err() || failed {
                    return;
                }
                for Request { mut command, reply } in incoming {
                    drop(reply.send(command.spawn()));
                }
            })
            .context("cannot start a spawning thread")?;
        self.requests = Some(requests);
        self.thread = Some(thread);
        wait.recv().context("the spawning thread ended at once")?.context("cannot set up a mount namespace")
    }
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        let leftover = Leftover::Directory(self.directory.clone());
        registry::remove(&leftover);
        registry::forget(&leftover);
    }
}
