//! Links that outlive the agent: pinned, taken up again by the next one, their programs replaced atomically.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::order::{Order, is_placed};
use super::sys::{self, AttachType, Attached, LinkInfo, LinkTarget, Place};

/// What a program is attached to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// An interface, by its index; where among the programs of others.
    Interface(u32, &'a Order),
    /// A cgroup v2 directory.
    Cgroup(&'a File),
}

impl Target<'_> {
    fn id(self) -> io::Result<u64> {
        match self {
            Self::Interface(index, _) => Ok(u64::from(index)),
            Self::Cgroup(directory) => Ok(directory.metadata()?.ino()),
        }
    }

    /// Everything that is attached in the same place, where the kernel orders it.
    fn attached(self, kind: AttachType) -> io::Result<Vec<Attached>> {
        match self {
            Self::Interface(index, _) => sys::attached(index, kind),
            Self::Cgroup(_) => Ok(Vec::new()),
        }
    }

    /// The place for `own` among them.
    fn place(self, kind: AttachType, all: &[Attached], own: Option<u32>) -> Place {
        let Self::Interface(_, order) = self else { return Place::End };
        let others: Vec<_> = all.iter().filter(|other| Some(other.link) != own).copied().collect();
        order.place(kind, &others, |program| sys::program_name(program).ok())
    }
}

/// Has `program` run at `target` behind the link pinned at `path`: the link that is pinned there gets the program in
/// place of the one it has; without one, or if it belongs to something else, is dead or out of order, a new one is made.
/// The new one is there before the old one ends. The kernel takes no program twice in one place, so a link that holds
/// `program` already stays where it is.
pub(super) fn attach(
    path: &Path,
    program: BorrowedFd<'_>,
    target: Target<'_>,
    kind: AttachType,
) -> io::Result<()> {
    let old = sys::open_pinned(path).ok();
    // Kernels without tcx say so here already, and nothing was done.
    let all = target.attached(kind)?;
    if let Some(old) = &old
        && takes(old, program, target, kind, &all)?
    {
        return Ok(());
    }
    let (place, to) = match target {
        Target::Interface(index, _) => (target.place(kind, &all, None), LinkTarget::Interface(index)),
        Target::Cgroup(directory) => (Place::End, LinkTarget::Cgroup(directory.as_fd())),
    };
    let new = sys::link_create(program, to, kind, place)?;
    if old.is_some() {
        fs::remove_file(path)?;
    }
    sys::pin(new.as_fd(), path)
}

/// Puts the program behind a link, if it is the right one.
fn takes(
    link: &OwnedFd,
    program: BorrowedFd<'_>,
    target: Target<'_>,
    kind: AttachType,
    all: &[Attached],
) -> io::Result<bool> {
    let LinkInfo { id, program: held, target: attached } = sys::link_info(link.as_fd(), kind)?;
    if attached != target.id()? {
        return Ok(false);
    }
    if held == sys::program_id(program)? {
        return Ok(true);
    }
    let ordered = match target {
        Target::Interface(..) => is_placed(id, target.place(kind, all, Some(id)), all),
        Target::Cgroup(_) => true,
    };
    Ok(ordered && sys::link_update(link.as_fd(), program).is_ok())
}

/// Whether the link pinned at `path` is there and holds a program. At the interface with this index, it has to be among
/// those that run.
pub(super) fn holds(path: &Path, kind: AttachType, interface: Option<u32>) -> io::Result<bool> {
    let Ok(link) = sys::open_pinned(path) else { return Ok(false) };
    let info = sys::link_info(link.as_fd(), kind)?;
    match interface {
        None => Ok(info.target != 0),
        Some(index) => Ok(sys::attached(index, kind)?.iter().any(|attached| attached.link == info.id)),
    }
}

/// The programs of others that run behind the link pinned at `path` and before it. Without the link, all run before.
pub(super) fn company(path: &Path, kind: AttachType, interface: u32) -> io::Result<[usize; 2]> {
    let all = sys::attached(interface, kind)?;
    let own = match sys::open_pinned(path) {
        Ok(link) => Some(sys::link_info(link.as_fd(), kind)?.id),
        Err(_) => None,
    };
    let position = all.iter().position(|attached| Some(attached.link) == own);
    Ok(position.map_or([0, all.len()], |position| [all.len() - position - 1, position]))
}

/// The program that `order` names, if the link pinned at `path` is on the wrong side of it.
pub(super) fn misplaced_by(
    path: &Path,
    kind: AttachType,
    interface: u32,
    order: &Order,
) -> io::Result<Option<Attached>> {
    if !order.names_another() {
        return Ok(None);
    }
    let Ok(link) = sys::open_pinned(path) else { return Ok(None) };
    let own = sys::link_info(link.as_fd(), kind)?.id;
    let all = sys::attached(interface, kind)?;
    let target = Target::Interface(interface, order);
    let anchor = match target.place(kind, &all, Some(own)) {
        place @ (Place::Before(anchor) | Place::After(anchor)) if !is_placed(own, place, &all) => anchor,
        _ => return Ok(None),
    };
    Ok(all.into_iter().find(|other| other.program == anchor))
}

/// Ends the link pinned at `path`; nothing there is not an error.
pub(super) fn detach(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
