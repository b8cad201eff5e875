//! Reading the clock for the agent.

use aya_ebpf::{
    bindings::tcx_action_base::TCX_NEXT,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns},
};

use crate::maps::CLOCK;

pub(crate) fn run() -> i32 {
    let Some(reading) = CLOCK.get_ptr_mut(0) else { return TCX_NEXT };
    // SAFETY: the pointer comes from a map look-up, is not null, and the array outlives the program.
    let reading = unsafe { &mut *reading };
    // SAFETY: the helper takes nothing.
    reading.nanoseconds = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the helper takes nothing.
    reading.jiffies = unsafe { bpf_jiffies64() };
    TCX_NEXT
}
