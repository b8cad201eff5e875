//! Namespaces for a test of the eBPF dataplane.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::namespace;

/// Runs a test on a thread of its own in new network and mount namespaces, with loopback up and a BPF file system, whose
/// mount point it is told; everything is gone afterwards.
pub(crate) fn in_namespace(test: impl FnOnce(&Path) + Send) {
    namespace::in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), none).unwrap();
        test(folder.path());
    });
}
