//! The cgroup whose processes get socket load balancing.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

/// Opens `root` if it is of cgroup version 2, or else `unified` below it, where hybrid systems have it.
pub(super) fn open(root: &Path) -> io::Result<(File, PathBuf)> {
    for path in [root.to_owned(), root.join("unified")] {
        match File::open(&path) {
            Ok(directory) if is_version_2(&directory)? => return Ok((directory, path)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && path != root => {}
            Err(error) => return Err(named(&path, &error)),
        }
    }
    let words = "neither this directory nor `unified` below it is of cgroup version 2; mount it, or name it with \
                 --cgroup-root, or turn socket load balancing off with --socket-lb=off";
    Err(named(root, &io::Error::new(io::ErrorKind::Unsupported, words)))
}

/// Where the cgroup is found when it is opened, or `root` itself if it finds none.
pub fn path_of(root: &Path) -> PathBuf {
    open(root).map_or_else(|_nothing| root.to_owned(), |(_, path)| path)
}

fn is_version_2(directory: &File) -> io::Result<bool> {
    Ok(fstatfs(directory)?.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cgroup {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_cgroup_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let error = open(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&directory.path().display().to_string()) && error.contains("--cgroup-root"));
        assert!(open(Path::new("/nowhere/at-all")).unwrap_err().to_string().contains("/nowhere/at-all"));
    }
}
