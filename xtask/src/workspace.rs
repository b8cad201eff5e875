//! Where things are in the repository.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The root folder of the repository.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The repository that this xtask was built in.
    pub(crate) fn locate() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().context("xtask is not within a workspace")?;
        Ok(Self { root: root.to_owned() })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path within the repository.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Where tools, sources and the BPF object go: always within the repository, whatever `CARGO_TARGET_DIR` says.
    pub(crate) fn target(&self, relative: &str) -> PathBuf {
        self.root.join("target").join(relative)
    }
}
