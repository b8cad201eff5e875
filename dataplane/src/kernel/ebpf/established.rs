//! The number of established flows, which programs and agent count together: in memory of a map that both have.
#![expect(
    unsafe_code,
    reason = "mapping a BPF map is a raw system call, and what is in it is used by a pointer"
)]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI64, Ordering};

use shunt_abi::name;

use super::map::{MapError, RawMap, open_pin};
use crate::domain::IpFamily;

/// One for each family.
type Counts = [AtomicI64; 2];

/// The counts, as long as this is there.
#[derive(Debug)]
pub(super) struct Established(NonNull<Counts>);

// SAFETY: the memory is that of the kernel's map, from which it is not taken before the drop, and is used atomically.
unsafe impl Send for Established {}
// SAFETY: as above.
unsafe impl Sync for Established {}

impl Established {
    /// Opens the pin in `directory`.
    pub(super) fn open(directory: &Path) -> Result<Self, MapError> {
        let name = name::ESTABLISHED;
        let failed = |source| MapError::Kernel { name, operation: "map it into memory", source };
        let found = RawMap::new(name, open_pin(directory, name)?)?.sizes().1;
        if found != size_of::<i64>() {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(MapError::Layout { name, what: "values", found, expected: size_of::<i64>() });
        }
        let map = open_pin(directory, name).map_err(|error| failed(io::Error::other(error)))?;
        // SAFETY: a new mapping at an address of the kernel's choice; the descriptor is open during the call.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size_of::<Counts>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(failed(io::Error::last_os_error()));
        }
        NonNull::new(start.cast()).map(Self).ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))
    }

    fn of(&self, family: IpFamily) -> &AtomicI64 {
        // SAFETY: the pages are mapped until the drop, begin at a page's start and are larger than the counts; programs
        // write them with atomic instructions only.
        let [four, six] = unsafe { self.0.as_ref() };
        match family {
            IpFamily::V4 => four,
            IpFamily::V6 => six,
        }
    }

    /// Established flows.
    pub(super) fn read(&self, family: IpFamily) -> i64 {
        self.of(family).load(Ordering::Relaxed)
    }

    /// Adds flows, or (below 0) takes them away.
    pub(super) fn add(&self, family: IpFamily, flows: i64) {
        self.of(family).fetch_add(flows, Ordering::Relaxed);
    }
}

impl Drop for Established {
    fn drop(&mut self) {
        // SAFETY: the pages were mapped by `open` with this length, and no reference to them outlives this value.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Counts>()) };
    }
}

/// How far the count is off, by looks through all flows one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drift {
    last: i64,
}

impl Drift {
    /// What has to be added to the count. `counted` is what it said before and after a look, without the flows that the look
    /// removed; so many were `found` that stay. Flows come during a look, so one alone proves nothing: of two that
    /// agree the smaller difference counts.
    pub(super) fn correction(&mut self, counted: [i64; 2], found: i64) -> i64 {
        let [before, after] = counted;
        let off = found - found.clamp(before.min(after), before.max(after));
        let agreed = if off.signum() == self.last.signum() {
            off.signum() * off.abs().min(self.last.abs())
        } else {
            0
        };
        self.last = off - agreed;
        agreed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_corrected_when_two_looks_agree() {
        let mut drift = Drift::default();
        assert_eq!(drift.correction([100, 100], 90), 0);
        assert_eq!(drift.correction([100, 100], 93), -7, "the smaller difference");
        assert_eq!(drift.correction([93, 93], 93), 0);
        assert_eq!(drift.correction([93, 93], 99), 0);
        assert_eq!(drift.correction([93, 93], 99), 6);
        assert_eq!(drift.correction([99, 99], 99), 0);
    }

    #[test]
    fn flows_that_come_during_a_look_are_no_difference() {
        let mut drift = Drift::default();
        for found in [100, 120, 150] {
            assert_eq!(drift.correction([100, 150], found), 0);
            assert_eq!(drift.correction([150, 100], found), 0);
        }
        for found in [90, 110, 90, 110] {
            assert_eq!(drift.correction([100, 100], found), 0, "once too few, once too many");
        }
    }

    #[test]
    fn a_count_below_nothing_is_corrected_too() {
        let mut drift = Drift::default();
        assert_eq!([drift.correction([-3, -3], 2), drift.correction([-3, -3], 2)], [0, 5]);
    }
}
