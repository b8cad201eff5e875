//! Kernels before 5.11 count BPF maps as locked memory of the process that makes them, of which it may have 64 KiB.

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

/// Lifts the limit on locked memory, if this process may: otherwise the kernel's answer to the first map says what is
/// wrong, or, from 5.11 on, nothing is.
pub(crate) fn allow_maps() {
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::debug!(%error, "the limit on locked memory stays");
    }
}
