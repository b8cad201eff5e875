//! How much of what was freed the C library's allocator keeps.
//!
//! glibc has an arena for each thread that allocates, and each keeps what was freed; and it takes ever larger blocks from
//! arenas once one of that size was freed. An agent that parses a list, plans it and is quiet from then on would hold
//! on to twice what it needs.
#![cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "the allocator is set up by calls into the C library")
)]

/// Blocks from this size on are given back to the kernel when they are freed.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 256 << 10;

/// Has all threads share one arena, and large blocks given back when they are freed. To be called before other threads run.
/// The agent's threads seldom allocate at the same time: while lists are read, two of them do.
pub(crate) fn economize() {
    #[cfg(target_env = "gnu")]
    for (setting, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)]
    {
        // SAFETY: takes two numbers, and locks what it changes.
        if unsafe { libc::mallopt(setting, value) } == 0 {
            tracing::debug!(setting, value, "the allocator does not take a setting");
        }
    }
}

/// Gives back what was freed, for after something that took much. Takes a millisecond for some tens of MiB.
pub(crate) fn release() {
    #[cfg(target_env = "gnu")]
    {
        let begun = std::time::Instant::now();
        // SAFETY: takes a number, and locks the arenas one by one.
        unsafe { libc::malloc_trim(0) };
        tracing::debug!(took = ?begun.elapsed(), "what was freed is given back");
    }
}
