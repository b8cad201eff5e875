//! The `bpf` system call, for what aya 0.14 does not offer: replacing a program behind a cgroup link, links by interface
//! index, and many map elements at once.
#![expect(unsafe_code, reason = "raw system calls, with pointers to memory that outlives them")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// `enum bpf_cmd`
#[derive(Clone, Copy, Debug)]
enum Command {
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ObjectPin = 6,
    ObjectGet = 7,
    Info = 15,
    LookupBatch = 24,
    UpdateBatch = 26,
    LinkCreate = 28,
    LinkUpdate = 29,
}

/// `enum bpf_attach_type`, as far as shunt uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttachType {
    Connect4 = 10,
    Connect6 = 11,
    Sendmsg4 = 14,
    Sendmsg6 = 15,
    Recvmsg4 = 19,
    Recvmsg6 = 20,
    Getpeername4 = 29,
    Getpeername6 = 30,
    TcxIngress = 46,
    TcxEgress = 47,
}

/// `union bpf_attr`: numbers put at their offsets.
#[derive(Debug)]
#[repr(C, align(8))]
struct Attribute([u8; 128]);

impl Attribute {
    const fn new() -> Self {
        Self([0; 128])
    }

    fn put(mut self, offset: usize, bytes: &[u8]) -> Self {
        if let Some(place) = self.0.get_mut(offset..offset + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self
    }

    fn u32(self, offset: usize, value: u32) -> Self {
        self.put(offset, &value.to_ne_bytes())
    }

    fn fd(self, offset: usize, fd: BorrowedFd<'_>) -> Self {
        self.u32(offset, fd.as_raw_fd().cast_unsigned())
    }

    fn u64(self, offset: usize, value: u64) -> Self {
        self.put(offset, &value.to_ne_bytes())
    }

    /// The address of memory that the caller keeps in place during the call.
    fn pointer<T>(self, offset: usize, pointer: *const T) -> Self {
        self.u64(offset, pointer.addr() as u64)
    }

    fn read_u32(&self, offset: usize) -> u32 {
        self.0.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
    }

    fn call(&mut self, command: Command) -> io::Result<u32> {
        // SAFETY: the attribute is larger than what any of the commands read; pointers within it are to memory that
        // the callers below hold during the call, of the lengths that the kernel knows from the map.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, command as libc::c_long, self.0.as_mut_ptr(), size_of::<Self>())
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(u32::try_from(result).unwrap_or(0)) }
    }

    fn call_for_fd(&mut self, command: Command) -> io::Result<OwnedFd> {
        let fd = self.call(command)?.cast_signed();
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Gives an object a name in the BPF file system.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    Attribute::new().pointer(0, path.as_ptr()).fd(8, object).call(Command::ObjectPin)?;
    Ok(())
}

/// Opens an object by its name in the BPF file system.
pub(super) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    Attribute::new().pointer(0, path.as_ptr()).call_for_fd(Command::ObjectGet)
}

/// Where a link attaches.
#[derive(Clone, Copy, Debug)]
pub(super) enum LinkTarget<'a> {
    Interface(u32),
    Cgroup(BorrowedFd<'a>),
}

/// Attaches behind the programs that are there already.
pub(super) fn link_create(
    program: BorrowedFd<'_>,
    target: LinkTarget<'_>,
    kind: AttachType,
) -> io::Result<OwnedFd> {
    let target = match target {
        LinkTarget::Interface(index) => index,
        LinkTarget::Cgroup(directory) => directory.as_raw_fd().cast_unsigned(),
    };
    let mut attribute = Attribute::new().fd(0, program).u32(4, target).u32(8, kind as u32);
    attribute.call_for_fd(Command::LinkCreate)
}

/// Replaces the program behind a link, atomically.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    Attribute::new().fd(0, link).fd(4, program).call(Command::LinkUpdate)?;
    Ok(())
}

/// What the kernel says about a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MapInfo {
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
}

pub(super) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    // `struct bpf_map_info`: type, id, key_size, value_size, max_entries, ...
    let mut info = [0_u32; 24];
    let length = u32::try_from(size_of_val(&info)).unwrap_or(0);
    Attribute::new().fd(0, map).u32(4, length).pointer(8, info.as_mut_ptr()).call(Command::Info)?;
    let [_, _, key_size, value_size, max_entries, ..] = info;
    Ok(MapInfo { key_size, value_size, max_entries })
}

/// What a link is attached to: the index of an interface (0 once it is gone) or the id of a cgroup.
pub(super) fn link_target(link: BorrowedFd<'_>, kind: AttachType) -> io::Result<u64> {
    // `struct bpf_link_info`: type, id, prog_id, pad, then the union: ifindex, or the cgroup's id (64 bits).
    let mut info = [0_u32; 24];
    let length = u32::try_from(size_of_val(&info)).unwrap_or(0);
    Attribute::new().fd(0, link).u32(4, length).pointer(8, info.as_mut_ptr()).call(Command::Info)?;
    let [_, _, _, _, low, high, ..] = info;
    let is_interface = matches!(kind, AttachType::TcxIngress | AttachType::TcxEgress);
    let high = if is_interface { 0 } else { u64::from(high) };
    Ok(high << 32 | u64::from(low))
}

/// Reads one element into `value`; false if there is none. The slices have the sizes of the map.
pub(super) fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attribute = Attribute::new().fd(0, map).pointer(8, key.as_ptr()).pointer(16, value.as_mut_ptr());
    present(attribute.call(Command::MapLookup))
}

/// Writes one element.
pub(super) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut attribute = Attribute::new().fd(0, map).pointer(8, key.as_ptr()).pointer(16, value.as_ptr());
    attribute.call(Command::MapUpdate)?;
    Ok(())
}

/// Removes one element; false if there was none.
pub(super) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<bool> {
    present(Attribute::new().fd(0, map).pointer(8, key.as_ptr()).call(Command::MapDelete))
}

/// The key after `key` (the first one if `None`), into `next`; false at the end.
pub(super) fn next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
    let key = key.map_or(std::ptr::null(), <[u8]>::as_ptr);
    present(
        Attribute::new().fd(0, map).pointer(8, key).pointer(16, next.as_mut_ptr()).call(Command::MapNextKey),
    )
}

/// One step through a map: `cursor` is where to go on (4 bytes for hash maps, a key for others), `first` at the start.
/// Returns the number of elements read and whether there may be more.
pub(super) fn lookup_batch(
    map: BorrowedFd<'_>,
    (cursor, first): (&mut [u8], bool),
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<(u32, bool)> {
    let from = if first { std::ptr::null() } else { cursor.as_ptr() };
    let mut attribute = Attribute::new()
        .pointer(0, from)
        .pointer(8, cursor.as_mut_ptr())
        .pointer(16, keys.as_mut_ptr())
        .pointer(24, values.as_mut_ptr())
        .u32(32, count)
        .fd(36, map);
    let more = present(attribute.call(Command::LookupBatch))?;
    Ok((attribute.read_u32(32), more))
}

/// Writes many elements; the slices hold `count` keys and values.
pub(super) fn update_batch(map: BorrowedFd<'_>, keys: &[u8], values: &[u8], count: u32) -> io::Result<()> {
    Attribute::new()
        .pointer(16, keys.as_ptr())
        .pointer(24, values.as_ptr())
        .u32(32, count)
        .fd(36, map)
        .call(Command::UpdateBatch)?;
    Ok(())
}

fn present(answer: io::Result<u32>) -> io::Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
