//! Mounts that keep network namespaces alive under `/run/netns`, as ip-netns(8) does.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Where named network namespaces are mounted.
pub(crate) const NAMESPACE_DIRECTORY: &str = "/run/netns";
const NOTHING: Option<&str> = None;

/// The file a named namespace is mounted on.
pub(crate) fn namespace_file(name: &str) -> PathBuf {
    Path::new(NAMESPACE_DIRECTORY).join(name)
}

/// Mounts the calling thread's network namespace under `name`.
pub(crate) fn keep_own_network_namespace(name: &str) -> io::Result<()> {
    let path = namespace_file(name);
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    mount(Some("/proc/thread-self/ns/net"), &path, NOTHING, MsFlags::MS_BIND, NOTHING)?;
    Ok(())
}

/// Makes `/run/netns` a shared mount: a namespace removed here then vanishes
/// from every mount namespace, and does not live on in one of them.
pub(crate) fn prepare_namespace_directory() -> io::Result<()> {
    fs::create_dir_all(NAMESPACE_DIRECTORY)?;
    match share_namespace_directory() {
        Err(Errno::EINVAL) => {
            // Not a mount point yet: make it one.
            mount(
                Some(NAMESPACE_DIRECTORY),
                NAMESPACE_DIRECTORY,
                NOTHING,
                MsFlags::MS_BIND | MsFlags::MS_REC,
                NOTHING,
            )?;
            Ok(share_namespace_directory()?)
        }
        other => Ok(other?),
    }
}

fn share_namespace_directory() -> nix::Result<()> {
    mount(NOTHING, NAMESPACE_DIRECTORY, NOTHING, MsFlags::MS_SHARED | MsFlags::MS_REC, NOTHING)
}

/// Unmounts a named namespace and removes its file.
pub(crate) fn remove_namespace_file(name: &str) -> io::Result<()> {
    let path = namespace_file(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL) => fs::remove_file(path),
        Err(error) => Err(error.into()),
    }
}

/// Gives the calling thread a mount namespace of its own that shows the
/// devices of its network namespace under `/sys`.
///
/// The cgroup hierarchies stay visible in their usual place, and
/// `/sys/fs/bpf` is a BPF file system that lives as long as this mount
/// namespace. The thread no longer shares its working directory with others.
pub(crate) fn unshare_with_matching_sys(shelf: &Path) -> io::Result<()> {
    use nix::sched::{CloneFlags, unshare};
    const CGROUPS: &str = "/sys/fs/cgroup";
    const BPF: &str = "/sys/fs/bpf";
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_SLAVE, NOTHING)?;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    let has_cgroups = Path::new(CGROUPS).is_dir();
    if has_cgroups {
        mount(Some(CGROUPS), shelf, NOTHING, bind, NOTHING)?;
    }
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NOTHING)?;
    if has_cgroups {
        mount(Some(shelf), CGROUPS, NOTHING, bind, NOTHING)?;
        umount2(shelf, MntFlags::MNT_DETACH)?;
    }
    if Path::new(BPF).is_dir() {
        mount(Some("bpf"), BPF, Some("bpf"), MsFlags::empty(), NOTHING)?;
    }
    Ok(())
}
