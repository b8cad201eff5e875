//! A cgroup (version 2) for the programs and the sockets of one machine of a lab.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::registry::{self, Leftover};

const REMOVAL_PATIENCE: Duration = Duration::from_secs(1);

/// A child cgroup; it is removed when dropped, once its processes are gone.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes a cgroup below the root of the hierarchy.
    ///
    /// Fails where no cgroup version 2 hierarchy is mounted.
    pub fn create(unique: &str) -> Result<Self> {
        let mount = mount_point().context("no cgroup v2 hierarchy is mounted")?;
        let path = mount.join(unique);
        fs::create_dir(&path).with_context(|| format!("cannot make cgroup {}", path.display()))?;
        registry::note(Leftover::Cgroup(path.clone()));
        Ok(Self { path })
    }

    /// The directory of the cgroup.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the calling thread alone into the cgroup: sockets it opens from now on belong there.
    ///
    /// That makes the cgroup a threaded one, whose threads have to come from its parent, the root. A process that is
    /// elsewhere is moved there as a whole before.
    pub fn admit_this_thread(&self) -> Result<()> {
        self.admit_thread(nix::unistd::gettid().as_raw())
            .with_context(|| format!("cannot move a thread to cgroup {}", self.path.display()))
    }

    fn admit_thread(&self, id: i32) -> std::io::Result<()> {
        let kind = self.path.join("cgroup.type");
        if fs::read_to_string(&kind)?.trim() != "threaded" {
            fs::write(&kind, "threaded")?;
        }
        let threads = self.path.join("cgroup.threads");
        fs::write(&threads, id.to_string()).or_else(|_elsewhere| {
            fs::write(self.parent().join("cgroup.procs"), std::process::id().to_string())?;
            fs::write(&threads, id.to_string())
        })
    }

    fn parent(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Moves threads that are still inside back to the root: a cgroup in use cannot be removed.
    fn dismiss_threads(&self) {
        let threads = fs::read_to_string(self.path.join("cgroup.threads")).unwrap_or_default();
        for id in threads.lines() {
            // It may have ended by now.
            drop(fs::write(self.parent().join("cgroup.threads"), id));
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.dismiss_threads();
        let deadline = Instant::now() + REMOVAL_PATIENCE;
        // A cgroup stays busy for a moment after its last process was reaped.
        while fs::remove_dir(&self.path).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        registry::forget(&Leftover::Cgroup(self.path.clone()));
    }
}

/// Where cgroup version 2 is mounted: not always `/sys/fs/cgroup`.
pub(crate) fn mount_point() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}
