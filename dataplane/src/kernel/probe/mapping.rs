//! A one-element array map in this process's memory: read without a system call.
#![expect(unsafe_code, reason = "mapping a BPF map is a raw system call, and reading it a raw load")]

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::{self, NonNull},
};

use aya::maps::{Map, MapData};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::object::ProbeError;

/// The memory of a map created with `BPF_F_MMAPABLE`, read-only.
#[derive(Debug)]
pub(super) struct Mapping<T> {
    start: NonNull<T>,
    /// Keeps the map alive as long as its memory is looked at.
    _map: MapData,
}

// SAFETY: the memory belongs to the kernel's map and may be read from any thread.
unsafe impl<T> Send for Mapping<T> {}

impl<T: FromBytes + Immutable + KnownLayout + Copy> Mapping<T> {
    /// Maps `map`, which must be an mmap-able array of `T`.
    pub(super) fn new(map: Map, name: &'static str) -> Result<Self, ProbeError> {
        let Map::Array(data) = map else { return Err(ProbeError::ObjectLacks { kind: "array map", name }) };
        let start = map_pages(&data, size_of::<T>()).map_err(|source| ProbeError::Map {
            name,
            operation: "mmap",
            source,
        })?;
        Ok(Self { start: start.cast(), _map: data })
    }

    /// The element as it is now. A program may be writing it: call when none runs, or accept a mixture.
    pub(super) fn read(&self) -> T {
        // SAFETY: `start` is page-aligned, mapped for at least `size_of::<T>()` bytes until drop, and any bytes are a
        // `T` (FromBytes); volatile because the kernel writes it.
        unsafe { ptr::read_volatile(self.start.as_ptr()) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: the pages were mapped by `map_pages` with this length and nobody else holds a reference to them.
        unsafe { libc::munmap(self.start.as_ptr().cast(), size_of::<T>()) };
    }
}

fn map_pages(map: &MapData, length: usize) -> io::Result<NonNull<libc::c_void>> {
    let fd = map.fd().as_fd().as_raw_fd();
    // SAFETY: a new shared mapping at an address of the kernel's choice; `fd` is open during the call.
    let address = unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}
