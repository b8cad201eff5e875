//! Where cgroup v2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside version 1.

use std::path::{Path, PathBuf};

const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// Why no cgroup v2 directory was found.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The mount table cannot be read.
    #[error("cannot read {MOUNT_TABLE}: {0}")]
    MountTable(#[from] std::io::Error),
    /// cgroup v2 is not mounted.
    #[error("cgroup v2 is not mounted (no line of type cgroup2 in {MOUNT_TABLE})")]
    NotMounted,
}

/// The directory of the cgroup v2 hierarchy as this process sees it.
pub fn find_cgroup2() -> Result<PathBuf, CgroupError> {
    let table = std::fs::read_to_string(MOUNT_TABLE)?;
    cgroup2_in(&table).ok_or(CgroupError::NotMounted)
}

/// Of several mounts the last one, which covers the others where they share a place.
fn cgroup2_in(table: &str) -> Option<PathBuf> {
    table.lines().filter_map(cgroup2_mount_point).next_back().map(Path::to_owned)
}

/// Format of a line: `id parent major:minor root MOUNT-POINT options [tag]... - TYPE source options`.
fn cgroup2_mount_point(line: &str) -> Option<&Path> {
    let (place, kind) = line.split_once(" - ")?;
    if kind.split(' ').next()? != "cgroup2" {
        return None;
    }
    place.split(' ').nth(4).map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_beside_version_1_is_found() {
        let table = "24 29 0:22 / /proc rw,relatime - proc proc rw\n\
                     32 31 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
                     40 31 0:35 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_in(table), Some(PathBuf::from("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn version_1_alone_is_not_enough() {
        assert_eq!(cgroup2_in("32 31 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
    }
}
