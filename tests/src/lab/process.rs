//! A program that runs for the lab.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::registry::{self, Leftover};

const POLL_PAUSE: Duration = Duration::from_millis(10);
/// How long a program may take to end when asked.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A child process, leader of a process group; it is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    id: i32,
}

impl Process {
    pub(crate) fn new(child: Child) -> Result<Self> {
        let id = i32::try_from(child.id()).context("a process id out of range")?;
        registry::note(Leftover::Process(id));
        Ok(Self { child, id })
    }

    /// The process id.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The exit status, if the program has ended.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot ask for the state of a process")
    }

    /// Whether the program has ended. Unlike [`Self::status`] it changes nothing.
    pub fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        // An error means that it has been waited for.
        !matches!(waitid(Id::Pid(Pid::from_raw(self.id)), flags), Ok(WaitStatus::StillAlive))
    }

    /// Asks the program to end, waits some seconds, then kills it. Returns its
    /// exit status and whether it had to be killed.
    pub fn stop(&mut self) -> Result<(ExitStatus, bool)> {
        self.signal(Signal::SIGTERM)?;
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.status()? {
                return Ok((status, false));
            }
            std::thread::sleep(POLL_PAUSE);
        }
        Ok((self.kill()?, true))
    }

    /// Kills the program at once (SIGKILL).
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if self.status()?.is_none() {
            // The whole group: a shell's children go with it.
            killpg(Pid::from_raw(self.id), Signal::SIGKILL)
                .with_context(|| format!("cannot kill process group {}", self.id))?;
        }
        self.child.wait().context("cannot wait for a killed process")
    }

    /// Sends a signal to the program, if it still runs.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.status()?.is_some() {
            return Ok(());
        }
        kill(Pid::from_raw(self.id), signal).with_context(|| format!("cannot signal process {}", self.id))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::warn!(%error, id = self.id, "a process may be left");
        }
        registry::forget(&Leftover::Process(self.id));
    }
}
