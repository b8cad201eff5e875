//! Which clsact qdiscs shunt has made: an empty folder for each in the BPF file system, named by the interface's index.
//! They outlive the agent as the qdiscs do, and are gone after a reboot as well.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::directory::entries;

/// Name of the folder with the markers, in the folder of a version.
const FOLDER: &str = "qdiscs";

/// The markers of one version's folder.
#[derive(Clone, Debug)]
pub(super) struct Markers(PathBuf);

impl Markers {
    /// Those in `version`, the folder of pins of a version.
    pub(super) fn of(version: &Path) -> Self {
        Self(version.join(FOLDER))
    }

    pub(super) fn set(&self, interface: u32) -> io::Result<()> {
        fs::create_dir_all(self.0.join(interface.to_string()))
    }

    /// None there is not an error.
    pub(super) fn clear(&self, interface: u32) -> io::Result<()> {
        match fs::remove_dir(self.0.join(interface.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Interfaces that are marked.
    pub(super) fn all(&self) -> io::Result<BTreeSet<u32>> {
        let index = |path: PathBuf| path.file_name()?.to_str()?.parse().ok();
        Ok(entries(&self.0)?.into_iter().filter_map(index).collect())
    }

    /// Marks what every version beside this one has marked.
    pub(super) fn take_over(&self) -> io::Result<()> {
        let Some(own) = self.0.parent() else { return Ok(()) };
        for interface in Self::everywhere(own.parent().unwrap_or(own))? {
            self.set(interface)?;
        }
        Ok(())
    }

    /// Interfaces that any version in `base` has marked.
    pub(super) fn everywhere(base: &Path) -> io::Result<BTreeSet<u32>> {
        let mut marked = BTreeSet::new();
        for version in entries(base)? {
            marked.append(&mut Self::of(&version).all()?);
        }
        Ok(marked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_other_versions_are_taken_over() {
        let base = tempfile::tempdir().unwrap();
        let old = Markers::of(&base.path().join("00000001"));
        let new = Markers::of(&base.path().join("00000002"));
        old.set(7).unwrap();
        old.set(8).unwrap();
        let marked = |markers: &Markers| markers.all().unwrap().contains(&7);
        assert!(marked(&old) && !marked(&new));
        new.take_over().unwrap();
        assert_eq!(new.all().unwrap(), BTreeSet::from([7, 8]));
        new.clear(7).unwrap();
        new.clear(7).unwrap();
        assert_eq!(new.all().unwrap(), BTreeSet::from([8]));
        assert_eq!(Markers::everywhere(base.path()).unwrap(), BTreeSet::from([7, 8]));
    }
}
