//! A pinned map with its key and value types.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use shunt_abi::service::ServiceCounters;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::sys::{self, MapInfo};
use crate::kernel::Traffic;

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

/// Is shown some elements at a time: their keys and their values, one after the other.
type RawVisitor<'a> = dyn FnMut(&[u8], &[u8]) + 'a;

/// A map whose elements are bytes.
#[derive(Debug)]
pub(super) struct RawMap {
    name: &'static str,
    fd: OwnedFd,
    info: MapInfo,
}

impl RawMap {
    pub(super) fn new(name: &'static str, fd: OwnedFd) -> Result<Self, MapError> {
        let info = sys::map_info(fd.as_fd()).map_err(|source| MapError::Kernel {
            name,
            operation: "ask about it",
            source,
        })?;
        Ok(Self { name, fd, info })
    }

    /// Bytes of a key and of a value.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        (size(self.info.key_size), size(self.info.value_size))
    }

    /// Opens the pin of that name in a folder.
    pub(super) fn open(directory: &Path, name: &'static str) -> Result<Self, MapError> {
        Self::new(name, open_pin(directory, name)?)
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        let mut value = vec![0_u8; self.sizes().1];
        let found = sys::lookup(self.fd.as_fd(), key, &mut value);
        let found = found.map_err(|source| self.failed("read an element", source))?;
        Ok(found.then_some(value))
    }

    pub(super) fn set(&self, key: &[u8], value: &[u8]) -> Result<(), MapError> {
        sys::update(self.fd.as_fd(), key, value).map_err(|source| self.failed("write an element", source))
    }

    /// Whether there was one.
    pub(super) fn replace(&self, key: &[u8], value: &[u8]) -> Result<bool, MapError> {
        sys::replace(self.fd.as_fd(), key, value).map_err(|source| self.failed("replace an element", source))
    }

    /// Whether there was one.
    pub(super) fn delete(&self, key: &[u8]) -> Result<bool, MapError> {
        sys::delete(self.fd.as_fd(), key).map_err(|source| self.failed("remove an element", source))
    }

    /// Shows everything that is there to `each`, some at a time. The caller may remove elements meanwhile.
    pub(super) fn visit(&self, each: &mut RawVisitor<'_>) -> Result<(), MapError> {
        match self.visit_in_batches(each) {
            // Kernels and map types without batches.
            Err(error) if is_unknown(&error) => self.visit_one_by_one(each),
            outcome => outcome.map_err(|source| self.failed("list", source)),
        }
    }

    fn visit_in_batches(&self, each: &mut RawVisitor<'_>) -> io::Result<()> {
        let (key, value) = self.sizes();
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
                    each(
                        keys.get(..key * read).unwrap_or_default(),
                        values.get(..value * read).unwrap_or_default(),
                    );
                    if !more {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Shown all at once: the kernel finds the next key by the one before, which must still be there.
    fn visit_one_by_one(&self, each: &mut RawVisitor<'_>) -> Result<(), MapError> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let mut key: Option<Vec<u8>> = None;
        loop {
            let mut next = vec![0_u8; self.sizes().0];
            let more = sys::next_key(self.fd.as_fd(), key.as_deref(), &mut next);
            if !more.map_err(|source| self.failed("list", source))? {
                break;
            }
            if let Some(value) = self.get(&next)? {
                keys.extend_from_slice(&next);
                values.extend_from_slice(&value);
            }
            key = Some(next);
        }
        each(&keys, &values);
        Ok(())
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

/// A hash, array or LPM map.
pub(super) struct TypedMap<K, V> {
    raw: RawMap,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> fmt::Debug for TypedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedMap").field("raw", &self.raw).finish_non_exhaustive()
    }
}

impl<K: Plain, V: Plain> TypedMap<K, V> {
    /// Checks that the map has the sizes of the types.
    pub(super) fn new(name: &'static str, fd: OwnedFd) -> Result<Self, MapError> {
        let raw = RawMap::new(name, fd)?;
        let check = |what, found, expected| {
            if usize::try_from(found) == Ok(expected) {
                Ok(())
            } else {
                Err(MapError::Layout { name, what, found, expected })
            }
        };
        check("keys", raw.info.key_size, size_of::<K>())?;
        check("values", raw.info.value_size, size_of::<V>())?;
        Ok(Self { raw, types: PhantomData })
    }

    /// Elements it can hold.
    pub(super) const fn capacity(&self) -> u32 {
        self.raw.info.max_entries
    }

    pub(super) const fn name(&self) -> &'static str {
        self.raw.name
    }

    pub(super) fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        Ok(self.raw.get(key.as_bytes())?.and_then(|value| V::read_from_bytes(&value).ok()))
    }

    pub(super) fn set(&self, key: &K, value: &V) -> Result<(), MapError> {
        self.raw.set(key.as_bytes(), value.as_bytes())
    }

    /// Writes an element that is there already; whether there was one.
    pub(super) fn replace(&self, key: &K, value: &V) -> Result<bool, MapError> {
        self.raw.replace(key.as_bytes(), value.as_bytes())
    }

    /// Writes many elements, with few system calls where the kernel can. Of the same key the last counts.
    pub(super) fn set_all(&self, keys: &[K], values: &[V]) -> Result<(), MapError> {
        self.set_all_or(keys, values, |_, error| error)
    }

    /// The same; `refused` is told which key could not be written.
    pub(super) fn set_all_or<E>(
        &self,
        keys: &[K],
        values: &[V],
        refused: impl Fn(&K, MapError) -> E,
    ) -> Result<(), E> {
        let at_once = |keys: &[K], values: &[V]| {
            let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
            sys::update_batch(self.raw.fd.as_fd(), keys.as_bytes(), values.as_bytes(), count).is_ok()
        };
        write_all(keys, values, at_once, |key, value| {
            self.set(key, value).map_err(|error| refused(key, error))
        })
    }

    /// Whether there was one.
    pub(super) fn delete(&self, key: &K) -> Result<bool, MapError> {
        self.raw.delete(key.as_bytes())
    }

    /// Everything that is there. Elements that come or go meanwhile may be missed, or seen.
    pub(super) fn entries(&self) -> Result<Vec<(K, V)>, MapError> {
        let mut found = Vec::new();
        self.visit(&mut |entries| found.extend_from_slice(entries))?;
        Ok(found)
    }

    /// Shows everything that is there to `each`, some at a time. The caller may remove elements meanwhile.
    pub(super) fn visit(&self, each: &mut Visitor<'_, K, V>) -> Result<(), MapError> {
        self.raw.visit(&mut |keys, values| {
            let pairs = keys.chunks_exact(size_of::<K>()).zip(values.chunks_exact(size_of::<V>()));
            let read = |(key, value)| Some((K::read_from_bytes(key).ok()?, V::read_from_bytes(value).ok()?));
            each(&pairs.filter_map(read).collect::<Vec<_>>());
        })
    }
}

/// Writes elements in batches, `at_once`. A batch that is refused is written one by one, once: that tells what is wrong, if
/// anything is.
fn write_all<K, V, E>(
    keys: &[K],
    values: &[V],
    at_once: impl Fn(&[K], &[V]) -> bool,
    one: impl Fn(&K, &V) -> Result<(), E>,
) -> Result<(), E> {
    let most = usize::try_from(BATCH).unwrap_or(usize::MAX);
    for (keys, values) in keys.chunks(most).zip(values.chunks(most)) {
        if keys.len() < 2 || !at_once(keys, values) {
            keys.iter().zip(values).try_for_each(|(key, value)| one(key, value))?;
        }
    }
    Ok(())
}

/// Whether the kernel has no batches, or not for this type of map.
fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP | NOT_SUPPORTED))
}

/// Opens the pin of that name in a folder.
pub(super) fn open_pin(directory: &Path, name: &'static str) -> Result<OwnedFd, MapError> {
    let operation = "open its pin";
    sys::open_pinned(&directory.join(name)).map_err(|source| MapError::Kernel { name, operation, source })
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

    /// The sums over all CPUs of what a Service port has had, in a map of such.
    pub(super) fn traffic(&self, index: u32) -> Result<Traffic, MapError> {
        let mut values = vec![ServiceCounters::default(); self.cpus];
        sys::lookup(self.fd.as_fd(), index.as_bytes(), values.as_mut_bytes())
            .map_err(|source| MapError::Kernel { name: self.name, operation: "read a counter", source })?;
        let sum = |of: fn(&ServiceCounters) -> u64| values.iter().map(of).fold(0, u64::wrapping_add);
        Ok(Traffic {
            packets: sum(|value| value.packets),
            bytes: sum(|value| value.bytes),
            connections: sum(|value| value.flows),
        })
    }

    /// Begins anew for a Service port, in a map of such.
    pub(super) fn reset_traffic(&self, index: u32) -> Result<(), MapError> {
        let zero = vec![ServiceCounters::default(); self.cpus];
        sys::update(self.fd.as_fd(), index.as_bytes(), zero.as_bytes()).map_err(|source| MapError::Kernel {
            name: self.name,
            operation: "reset a counter",
            source,
        })
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
    /// Shows the first `count` elements of an array to `each`, some at a time, with the index of the first of those.
    pub(super) fn visit_first(&self, count: u32, each: &mut dyn FnMut(u32, &[V])) -> Result<(), MapError> {
        let count = count.min(self.capacity());
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let (mut cursor, mut start) = ([0_u8; 4], 0);
        while start < count {
            let batch = BATCH.min(count - start);
            let room = usize::try_from(batch).unwrap_or(0);
            keys.resize(room, 0_u32);
            values.resize(room, V::new_zeroed());
            let (keys, values) = (keys.as_mut_bytes(), values.as_mut_bytes());
            match sys::lookup_batch(self.raw.fd.as_fd(), (&mut cursor, start == 0), keys, values, batch) {
                Err(error) if is_unknown(&error) => return self.show_one_by_one(start..count, each),
                Err(error) => return Err(self.raw.failed("list", error)),
                Ok((0, _)) => return Ok(()),
                Ok((read, _)) => {
                    let read = read.min(batch);
                    let shown = values.chunks_exact(size_of::<V>()).take(usize::try_from(read).unwrap_or(0));
                    let shown: Vec<V> = shown.filter_map(|value| V::read_from_bytes(value).ok()).collect();
                    each(start, &shown);
                    start += read;
                }
            }
        }
        Ok(())
    }

    fn show_one_by_one(
        &self,
        indexes: std::ops::Range<u32>,
        each: &mut dyn FnMut(u32, &[V]),
    ) -> Result<(), MapError> {
        for index in indexes {
            if let Some(value) = self.get(&index)? {
                each(index, &[value]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::sys::{MapKind, create_map};
    use super::*;

    fn map<K: Plain, V: Plain>(kind: MapKind, entries: u32) -> TypedMap<K, V> {
        let bytes = |size: usize| u32::try_from(size).unwrap();
        let sizes = [bytes(size_of::<K>()), bytes(size_of::<V>()), entries];
        TypedMap::new("TEST", create_map(kind, sizes).unwrap()).unwrap()
    }

    #[test]
    fn an_array_is_written_at_once_and_read_as_far_as_asked_for() {
        let map: TypedMap<u32, u64> = map(MapKind::Array, 2 * BATCH + 10);
        let keys: Vec<u32> = (1..=BATCH + 1).chain([2]).collect();
        let values: Vec<u64> = keys.iter().map(|key| u64::from(*key) * 3).collect();
        map.set_all(&keys, &values).unwrap();
        let read = |count| {
            let mut found = Vec::new();
            map.visit_first(count, &mut |start, values| found.extend((start..).zip(values.to_vec())))
                .unwrap();
            found
        };
        let expected = |end: u32| -> Vec<(u32, u64)> {
            (0..end).map(|key| (key, if key <= BATCH + 1 { u64::from(key) * 3 } else { 0 })).collect()
        };
        for end in [0, 1, 7, BATCH, BATCH + 5, 2 * BATCH + 10] {
            assert!(read(end) == expected(end), "{end}");
        }
        assert_eq!(read(u32::MAX).len(), map.entries().unwrap().len());
    }

    #[test]
    fn of_many_elements_with_the_same_key_the_last_counts() {
        let map: TypedMap<u64, u32> = map(MapKind::Hash, 8);
        map.set_all(&[1, 2, 1], &[10, 20, 30]).unwrap();
        assert_eq!((map.get(&1).unwrap(), map.get(&2).unwrap()), (Some(30), Some(20)));
    }

    #[test]
    fn what_fits_is_written_before_a_map_is_full() {
        let map: TypedMap<u64, u32> = map(MapKind::Hash, 2);
        let outcome = map.set_all(&[1, 2, 3], &[10, 20, 30]);
        assert!(matches!(outcome, Err(MapError::Full { name: "TEST", capacity: 2 })), "{outcome:?}");
        assert_eq!(map.entries().unwrap().len(), 2);
    }
    #[test]
    fn what_a_batch_cannot_write_is_tried_once_more_up_to_the_one_that_is_refused() {
        let tried = RefCell::new(Vec::new());
        let one = |key: &u32, (): &()| {
            tried.borrow_mut().push(*key);
            if *key == BATCH + 3 { Err(*key) } else { Ok(()) }
        };
        let keys: Vec<u32> = (1..=BATCH + 5).collect();
        let values = vec![(); keys.len()];
        let takes_full_batches = |keys: &[u32], _: &[()]| keys.len() == usize::try_from(BATCH).unwrap();
        assert_eq!(write_all(&keys, &values, takes_full_batches, one), Err(BATCH + 3));
        assert_eq!(tried.take(), [BATCH + 1, BATCH + 2, BATCH + 3]);
        assert_eq!(write_all(&keys[..1], &values[..1], |_, _| unreachable!("there is but one"), one), Ok(()));
        assert_eq!(tried.take(), [1]);
    }

    #[test]
    fn the_key_that_has_no_room_is_named() {
        let map: TypedMap<u64, u32> = map(MapKind::Hash, 2);
        let outcome = map.set_all_or(&[1, 2, 3], &[10, 20, 30], |key, error| (*key, error.to_string()));
        assert_eq!(outcome.unwrap_err(), (3, "map TEST is full: it holds 2 elements".to_owned()));
    }
}
