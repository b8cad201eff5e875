//! A pinned map with its key and value types.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, OwnedFd};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::sys::{self, MapInfo};

/// Elements moved by one system call.
const BATCH: u32 = 4096;
/// The kernel's own `ENOTSUPP`, which libc does not know.
const NOT_SUPPORTED: i32 = 524;

/// What keys and values are: plain bytes of a known layout.
pub(super) trait Plain: FromBytes + IntoBytes + Immutable + Copy {}
impl<T: FromBytes + IntoBytes + Immutable + Copy> Plain for T {}

/// Why a map could not be used; always names the map.
#[derive(Debug, thiserror::Error)]
pub(super) enum MapError {
    /// There is no room for another element.
    #[error("map {name} is full: it holds {capacity} elements")]
    Full { name: &'static str, capacity: u32 },
    /// The pinned map is not what this build knows.
    #[error("map {name} has {what} of {found} bytes, where this build has {expected}")]
    Layout { name: &'static str, what: &'static str, found: u32, expected: usize },
    /// The kernel refused.
    #[error("map {name}: {operation}")]
    Kernel {
        name: &'static str,
        operation: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Is shown some elements at a time.
type Visitor<'a, K, V> = dyn FnMut(&[(K, V)]) + 'a;

/// A hash, array or LPM map.
pub(super) struct TypedMap<K, V> {
    name: &'static str,
    fd: OwnedFd,
    info: MapInfo,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> fmt::Debug for TypedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedMap").field("name", &self.name).field("info", &self.info).finish_non_exhaustive()
    }
}

impl<K: Plain, V: Plain> TypedMap<K, V> {
    /// Checks that the map has the sizes of the types.
    pub(super) fn new(name: &'static str, fd: OwnedFd) -> Result<Self, MapError> {
        let info = sys::map_info(fd.as_fd()).map_err(|source| MapError::Kernel {
            name,
            operation: "ask about it",
            source,
        })?;
        let check = |what, found, expected| {
            if usize::try_from(found) == Ok(expected) {
                Ok(())
            } else {
                Err(MapError::Layout { name, what, found, expected })
            }
        };
        check("keys", info.key_size, size_of::<K>())?;
        check("values", info.value_size, size_of::<V>())?;
        Ok(Self { name, fd, info, types: PhantomData })
    }

    /// Elements it can hold.
    pub(super) const fn capacity(&self) -> u32 {
        self.info.max_entries
    }

    pub(super) fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        let mut value = vec![0_u8; size_of::<V>()];
        let found = sys::lookup(self.fd.as_fd(), key.as_bytes(), &mut value);
        let found = found.map_err(|source| self.failed("read an element", source))?;
        Ok(if found { V::read_from_bytes(&value).ok() } else { None })
    }

    pub(super) fn set(&self, key: &K, value: &V) -> Result<(), MapError> {
        sys::update(self.fd.as_fd(), key.as_bytes(), value.as_bytes())
            .map_err(|source| self.failed("write an element", source))
    }

    /// Whether there was one.
    pub(super) fn delete(&self, key: &K) -> Result<bool, MapError> {
        sys::delete(self.fd.as_fd(), key.as_bytes())
            .map_err(|source| self.failed("remove an element", source))
    }

    /// Everything that is there. Elements that come or go meanwhile may be missed, or seen.
    pub(super) fn entries(&self) -> Result<Vec<(K, V)>, MapError> {
        let mut found = Vec::new();
        self.visit(&mut |entries| found.extend_from_slice(entries))?;
        Ok(found)
    }

    /// Shows everything that is there to `each`, some at a time. The caller may remove elements meanwhile.
    pub(super) fn visit(&self, each: &mut Visitor<'_, K, V>) -> Result<(), MapError> {
        match self.visit_in_batches(each) {
            // Kernels and map types without batches.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP | NOT_SUPPORTED)) =>
            {
                each(&self.entries_one_by_one()?);
                Ok(())
            }
            outcome => outcome.map_err(|source| self.failed("list", source)),
        }
    }

    fn visit_in_batches(&self, each: &mut Visitor<'_, K, V>) -> io::Result<()> {
        let (key, value) = (size_of::<K>(), size_of::<V>());
        let mut batch = BATCH;
        let mut cursor = vec![0_u8; key.max(8)];
        let mut first = true;
        let mut buffers = (Vec::new(), Vec::new());
        loop {
            let count = usize::try_from(batch).unwrap_or(0);
            let (keys, values) = &mut buffers;
            keys.resize(key * count, 0_u8);
            values.resize(value * count, 0_u8);
            match sys::lookup_batch(self.fd.as_fd(), (&mut cursor, first), keys, values, batch) {
                // A bucket with more elements than there was room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && batch < 1 << 20 => batch *= 2,
                Err(error) => return Err(error),
                Ok((read, more)) => {
                    first = false;
                    let read = usize::try_from(read).unwrap_or(0);
                    let pairs = keys.chunks_exact(key).zip(values.chunks_exact(value)).take(read);
                    let pairs: Vec<_> = pairs
                        .filter_map(|(key, value)| {
                            Some((K::read_from_bytes(key).ok()?, V::read_from_bytes(value).ok()?))
                        })
                        .collect();
                    each(&pairs);
                    if !more {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn entries_one_by_one(&self) -> Result<Vec<(K, V)>, MapError> {
        let mut found = Vec::new();
        let mut key: Option<Vec<u8>> = None;
        loop {
            let mut next = vec![0_u8; size_of::<K>()];
            let more = sys::next_key(self.fd.as_fd(), key.as_deref(), &mut next);
            if !more.map_err(|source| self.failed("list", source))? {
                return Ok(found);
            }
            if let Ok(read) = K::read_from_bytes(&next)
                && let Some(value) = self.get(&read)?
            {
                found.push((read, value));
            }
            key = Some(next);
        }
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> MapError {
        match source.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => {
                MapError::Full { name: self.name, capacity: self.info.max_entries }
            }
            _ => MapError::Kernel { name: self.name, operation, source },
        }
    }
}

/// A per-CPU array of counters.
#[derive(Debug)]
pub(super) struct CounterMap {
    name: &'static str,
    fd: OwnedFd,
    cpus: usize,
}

impl CounterMap {
    /// `cpus` is the number of possible ones: the kernel writes a value for each.
    pub(super) const fn new(name: &'static str, fd: OwnedFd, cpus: usize) -> Self {
        Self { name, fd, cpus }
    }

    /// The sum over all CPUs.
    pub(super) fn sum(&self, index: u32) -> Result<u64, MapError> {
        let mut values = vec![0_u64; self.cpus];
        sys::lookup(self.fd.as_fd(), index.as_bytes(), values.as_mut_bytes())
            .map_err(|source| MapError::Kernel { name: self.name, operation: "read a counter", source })?;
        Ok(values.into_iter().fold(0, u64::wrapping_add))
    }
}

impl<V: Plain> TypedMap<u32, V> {
    /// Writes neighbours of an array, with one system call where the kernel can.
    pub(super) fn set_range(&self, start: u32, values: &[V]) -> Result<(), MapError> {
        let keys: Vec<u32> = (start..).take(values.len()).collect();
        let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
        if let [value] = values {
            return self.set(&start, value);
        }
        match sys::update_batch(self.fd.as_fd(), keys.as_bytes(), values.as_bytes(), count) {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP | NOT_SUPPORTED)) =>
            {
                keys.iter().zip(values).try_for_each(|(key, value)| self.set(key, value))
            }
            outcome => outcome.map_err(|source| self.failed("write elements", source)),
        }
    }
}
