//! Pods that asked for their sockets to be left alone.

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use shunt_abi::config::{CGROUP_LEVELS, Config};

use crate::maps::OPTED_OUT;

/// Whether the process is in a cgroup that is to be left alone. Where there is none at all this costs one comparison.
#[inline]
pub(super) fn is_wanted(config: &Config) -> bool {
    config.opted_out_levels != 0 && is_listed(config.opted_out_levels)
}

/// The process's own cgroup is a container's: which pod it belongs to is told by one above it.
#[inline(never)]
fn is_listed(levels: u32) -> bool {
    for level in 1..CGROUP_LEVELS {
        if levels >> level & 1 == 0 {
            continue;
        }
        // SAFETY: the helper takes a plain number; a level below the process's own gives 0, which is nobody's id.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level.cast_signed()) };
        // SAFETY: the map frees its elements after a grace period, which the program's run is within.
        if unsafe { OPTED_OUT.get(id) }.is_some() {
            return true;
        }
    }
    false
}
