//! A cgroup (version 2) for the programs of one lab.

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

    /// Moves a process, by id, into the cgroup.
    pub fn admit(&self, id: u32) -> Result<()> {
        fs::write(self.path.join("cgroup.procs"), id.to_string())
            .with_context(|| format!("cannot move process {id} to cgroup {}", self.path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
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
