//! Links that outlive the agent: pinned, taken up again by the next one, their programs replaced atomically.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::sys::{self, AttachType, LinkTarget};

/// What a program is attached to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// An interface, by its index.
    Interface(u32),
    /// A cgroup v2 directory.
    Cgroup(&'a File),
}

impl Target<'_> {
    fn id(self) -> io::Result<u64> {
        match self {
            Self::Interface(index) => Ok(u64::from(index)),
            Self::Cgroup(directory) => Ok(directory.metadata()?.ino()),
        }
    }
}

/// Has `program` run at `target` behind the link pinned at `path`: the link that is pinned there gets the program in
/// place of the one it has; without one, or if it belongs to something else or is dead, a new one is made.
pub(super) fn attach(
    path: &Path,
    program: BorrowedFd<'_>,
    target: Target<'_>,
    kind: AttachType,
) -> io::Result<()> {
    if let Ok(link) = sys::open_pinned(path) {
        if sys::link_target(link.as_fd(), kind)? == target.id()?
            && sys::link_update(link.as_fd(), program).is_ok()
        {
            return Ok(());
        }
        fs::remove_file(path)?;
    }
    let place = match target {
        Target::Interface(index) => LinkTarget::Interface(index),
        Target::Cgroup(directory) => LinkTarget::Cgroup(directory.as_fd()),
    };
    let link = sys::link_create(program, place, kind)?;
    sys::pin(link.as_fd(), path)
}

/// Ends the link pinned at `path`; nothing there is not an error.
pub(super) fn detach(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
