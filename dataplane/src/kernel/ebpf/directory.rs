//! The folder of pins: `<bpffs>/shunt/<version of the layouts>`, with the maps in it and the links in `links`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, statfs};

/// `BPF_FS_MAGIC`
const BPF_FS: FsType = FsType(0xcafe_4a11);

/// The folder of this build's pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directory {
    base: PathBuf,
    version: String,
}

impl Directory {
    /// Names of `root`, nothing is made yet.
    pub(super) fn new(root: &Path) -> Self {
        Self { base: root.join("shunt"), version: format!("{:08x}", shunt_abi::version::LAYOUT_VERSION) }
    }

    /// Makes the folders.
    pub(super) fn create(&self) -> io::Result<()> {
        let root = self.base.parent().unwrap_or(Path::new("/"));
        let found = statfs(root).map_err(|error| named(root, &error.into()))?;
        if found.filesystem_type() != BPF_FS {
            let words = "no BPF file system is mounted here: mount one (mount -t bpf bpf DIR), or name it with \
                         --bpffs-root";
            return Err(named(root, &io::Error::new(io::ErrorKind::NotFound, words)));
        }
        fs::create_dir_all(self.links()).map_err(|error| named(&self.links(), &error))
    }

    /// The folder with a folder for each version.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// The folder of the maps.
    pub(super) fn maps(&self) -> PathBuf {
        self.base.join(&self.version)
    }

    /// The folder of the links.
    pub(super) fn links(&self) -> PathBuf {
        self.maps().join("links")
    }

    /// Removes the folders of builds with other layouts, which ends their links.
    pub(super) fn remove_others(&self) -> io::Result<usize> {
        let mut removed = 0;
        for entry in entries(&self.base)? {
            if entry.file_name().is_some_and(|name| name != self.version.as_str()) {
                fs::remove_dir_all(&entry).map_err(|error| named(&entry, &error))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes everything of every build.
    pub(super) fn remove_all(&self) -> io::Result<()> {
        // Links first, so that no program runs without its maps being kept up.
        for version in entries(&self.base)? {
            remove(&version.join("links"))?;
        }
        remove(&self.base)
    }

    /// Whether a build of whatever version left something.
    pub(super) fn exists(&self) -> bool {
        self.base.exists()
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(path, &error)),
        _ => Ok(()),
    }
}

/// What is in a folder, nothing if it is not there.
pub(super) fn entries(path: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(path) {
        Ok(found) => Ok(found.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(named(path, &error)),
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_outside_of_a_bpf_file_system_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let error = Directory::new(root.path()).create().unwrap_err().to_string();
        assert!(
            error.contains(&root.path().display().to_string()) && error.contains("--bpffs-root"),
            "{error}"
        );
    }

    #[test]
    fn only_folders_of_other_layouts_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(root.path());
        fs::create_dir_all(directory.links()).unwrap();
        fs::create_dir_all(root.path().join("shunt/00000000/links")).unwrap();
        assert_eq!(directory.remove_others().unwrap(), 1);
        assert!(directory.links().exists() && directory.exists());
        directory.remove_all().unwrap();
        assert!(!directory.exists());
        directory.remove_all().unwrap();
    }
}
