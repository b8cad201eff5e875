//! The folder of pins: `<bpffs>/shunt/<version of the layouts>-<tag of the sizes>`, with the maps in it and the links in
//! `links`.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, statfs};

use super::sizes::Sizes;
use super::sys;

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
    pub(super) fn new(root: &Path, sizes: &Sizes) -> Self {
        Self { base: base(root), version: format!("{}{:08x}", layouts(), sizes.tag()) }
    }

    /// The folder that is there with this build's layouts, whatever the sizes. Of several, one whose programs are attached:
    /// an agent that did not come up may have left maps.
    pub(super) fn find(root: &Path) -> Option<Self> {
        let base = base(root);
        let names = entries(&base).ok()?.into_iter();
        let names = names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let own = names.filter(|name| name.starts_with(&layouts()));
        let found = own.map(|version| Self { base: base.clone(), version });
        found.max_by_key(|directory| entries(&directory.links()).map_or(0, |links| links.len()))
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

    /// The folder of the maps.
    pub(super) fn maps(&self) -> PathBuf {
        self.base.join(&self.version)
    }

    /// Whether there are maps already, made by an earlier agent.
    pub(super) fn has_maps(&self) -> bool {
        entries(&self.maps()).is_ok_and(|found| found.iter().any(|path| !path.is_dir()))
    }

    /// The folder of the links.
    pub(super) fn links(&self) -> PathBuf {
        self.maps().join("links")
    }

    /// The folders of builds with other layouts, and of maps with other sizes.
    pub(super) fn others(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = entries(&self.base)?;
        found.retain(|entry| entry.file_name().is_some_and(|name| name != self.version.as_str()));
        Ok(found)
    }

    /// Removes the other folders, which ends their links.
    pub(super) fn remove_others(&self) -> io::Result<usize> {
        let others = self.others()?;
        for entry in &others {
            // Before what the programs behind them continue in.
            remove_links(entry)?;
            remove(entry)?;
        }
        Ok(others.len())
    }
}

/// What the names of folders with this build's layouts begin with.
fn layouts() -> String {
    format!("{:08x}-", shunt_abi::version::LAYOUT_VERSION)
}

/// The folder with a folder for each version.
pub(super) fn base(root: &Path) -> PathBuf {
    root.join("shunt")
}

/// Removes everything of every build.
pub(super) fn remove_all(root: &Path) -> io::Result<()> {
    let base = base(root);
    // Links first, so that no program runs without its maps being kept up.
    for version in entries(&base)? {
        remove_links(&version)?;
    }
    remove(&base)
}

/// Whether a build of whatever version left something.
pub(super) fn exists(root: &Path) -> bool {
    base(root).exists()
}

/// Ends the links of a folder. By the removal of its pin alone a link ends some time later, when the map of programs that
/// its program continues in is empty already: packets would be left half translated.
fn remove_links(version: &Path) -> io::Result<()> {
    let links = version.join("links");
    for pin in entries(&links)? {
        // Of an interface that is gone there is nothing to end.
        if let Err(error) = sys::open_pinned(&pin).and_then(|link| sys::link_detach(link.as_fd())) {
            tracing::debug!(pin = %pin.display(), %error, "a link is not ended before its pin goes");
        }
    }
    remove(&links)
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
    use crate::kernel::ebpf::sizes::Wanted;

    fn sizes() -> Sizes {
        Sizes::new(&Wanted::default(), 1 << 32, 2, false)
    }

    #[test]
    fn a_folder_outside_of_a_bpf_file_system_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let error = Directory::new(root.path(), &sizes()).create().unwrap_err().to_string();
        assert!(
            error.contains(&root.path().display().to_string()) && error.contains("--bpffs-root"),
            "{error}"
        );
    }

    #[test]
    fn only_folders_of_other_layouts_or_sizes_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(root.path(), &sizes());
        let larger = Directory::new(root.path(), &Sizes { flows: 1 << 20, ..sizes() });
        assert_eq!(Directory::find(root.path()), None);
        fs::create_dir_all(directory.links()).unwrap();
        assert_eq!(Directory::find(root.path()).as_ref(), Some(&directory));
        fs::create_dir_all(larger.links()).unwrap();
        fs::create_dir_all(root.path().join("shunt/00000000/links")).unwrap();
        for attached in [&directory, &larger] {
            let link = attached.links().join("ingress-1");
            fs::create_dir(&link).unwrap();
            assert_eq!(Directory::find(root.path()).as_ref(), Some(attached));
            fs::remove_dir(link).unwrap();
        }
        assert_eq!(directory.remove_others().unwrap(), 2);
        assert!(directory.links().exists() && !larger.maps().exists());
        remove_all(root.path()).unwrap();
        assert!(!exists(root.path()));
        remove_all(root.path()).unwrap();
    }
}
