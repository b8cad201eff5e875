//! One network namespace.

use std::fs::File;
use std::sync::Once;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};

use super::mounts;
use super::registry::{self, Leftover};

/// A named network namespace; it is removed when dropped.
///
/// The name is visible to `ip netns` under `/run/netns`.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
}

impl Namespace {
    /// Makes a new namespace named `<unique name>-<role>`, loopback up.
    pub fn create(unique: &str, role: &str) -> Result<Self> {
        static DIRECTORY: Once = Once::new();
        let mut prepared = Ok(());
        DIRECTORY.call_once(|| prepared = mounts::prepare_namespace_directory());
        prepared.context("cannot prepare /run/netns (root is needed)")?;

        let name = format!("{unique}-{role}");
        registry::note(Leftover::Namespace(name.clone()));
        let made = std::thread::scope(|scope| {
            scope
                .spawn(|| -> std::io::Result<()> {
                    unshare(CloneFlags::CLONE_NEWNET)?;
                    mounts::keep_own_network_namespace(&name)
                })
                .join()
        });
        made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .with_context(|| format!("cannot make network namespace {name} (root is needed)"))?;
        let handle = File::open(mounts::namespace_file(&name))
            .with_context(|| format!("cannot open network namespace {name}"))?;
        let namespace = Self { name, handle };
        super::ip(&namespace, None, &["link set lo up"])?;
        Ok(namespace)
    }

    /// The name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread into the namespace, for good.
    ///
    /// Sockets opened and processes started by the thread from now on are in
    /// the namespace; other threads are not affected.
    pub fn enter(&self) -> Result<()> {
        setns(&self.handle, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter network namespace {}", self.name))
    }

    /// Runs a closure in the namespace, on a thread of its own.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter()?;
                    Ok(body())
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let leftover = Leftover::Namespace(self.name.clone());
        registry::remove(&leftover);
        registry::forget(&leftover);
    }
}
