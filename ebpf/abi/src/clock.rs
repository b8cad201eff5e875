//! The programs' clock: ticks, counted in 32 bits that wrap.
//!
//! A tick is 256 jiffies (0.256 s to 2.56 s, by the kernel's `CONFIG_HZ`), which programs read without a call. The
//! agent learns "now" by running [`crate::name::CLOCK_PROGRAM`] (`BPF_PROG_TEST_RUN` with any packet of at least 14 bytes), which fills element
//! 0 of [`crate::name::CLOCK`]; two readings a while apart give the length of a tick.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// log2 of the jiffies in a tick.
pub const JIFFIES_SHIFT: u32 = 8;

/// One moment on all clocks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ClockReading {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub nanoseconds: u64,
    /// The kernel's 64-bit jiffies.
    pub jiffies: u64,
}

assert_layout!(ClockReading, size 16, nanoseconds @ 0, jiffies @ 8);

impl ClockReading {
    /// The tick it falls into, as in [`crate::flow::FlowValue4::last_seen`].
    #[must_use]
    pub const fn tick(&self) -> u32 {
        tick(self.jiffies)
    }
}

/// The tick of a number of jiffies.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "ticks wrap, and differences of them are taken so")]
pub const fn tick(jiffies: u64) -> u32 {
    (jiffies >> JIFFIES_SHIFT) as u32
}
