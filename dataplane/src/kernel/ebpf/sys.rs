//! The `bpf` system call, for what aya 0.14 does not offer: replacing a program behind a cgroup link, links by interface
//! index, and many map elements at once.
#![expect(unsafe_code, reason = "raw system calls, with pointers to memory that outlives them")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// `enum bpf_cmd`
#[derive(Clone, Copy, Debug)]
enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ObjectPin = 6,
    ObjectGet = 7,
    TestRun = 10,
    ProgramById = 13,
    Info = 15,
    ProgramQuery = 16,
    LookupBatch = 24,
    UpdateBatch = 26,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkDetach = 34,
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

/// Where among the programs that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// After all of them.
    End,
    /// Before all of them.
    Start,
    /// Before the program with this id.
    Before(u32),
    /// After the program with this id.
    After(u32),
}

impl Place {
    /// `BPF_F_BEFORE`, `BPF_F_AFTER` and `BPF_F_ID`, and the program that they refer to.
    const fn anchor(self) -> (u32, u32) {
        const BEFORE: u32 = 1 << 3;
        const AFTER: u32 = 1 << 4;
        const BY_ID: u32 = 1 << 5;
        match self {
            Self::End => (0, 0),
            Self::Start => (BEFORE, 0),
            Self::Before(program) => (BEFORE | BY_ID, program),
            Self::After(program) => (AFTER | BY_ID, program),
        }
    }
}

/// Attaches among the programs that are there already; behind all of them to a cgroup.
pub(super) fn link_create(
    program: BorrowedFd<'_>,
    target: LinkTarget<'_>,
    kind: AttachType,
    place: Place,
) -> io::Result<OwnedFd> {
    let target = match target {
        LinkTarget::Interface(index) => index,
        LinkTarget::Cgroup(directory) => directory.as_raw_fd().cast_unsigned(),
    };
    let (flags, anchor) = place.anchor();
    let attribute = Attribute::new().fd(0, program).u32(4, target).u32(8, kind as u32);
    attribute.u32(12, flags).u32(16, anchor).call_for_fd(Command::LinkCreate)
}

/// A program at an interface, and the link that holds it there (0 for none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attached {
    pub(super) program: u32,
    pub(super) link: u32,
}

/// The programs at an interface by tcx, in the order in which they run.
pub(super) fn attached(interface: u32, kind: AttachType) -> io::Result<Vec<Attached>> {
    /// `BPF_MPROG_MAX`: the kernel allows no more.
    const MOST: usize = 64;
    let mut programs = [0_u32; MOST];
    let mut links = [0_u32; MOST];
    let mut attribute = Attribute::new()
        .u32(0, interface)
        .u32(4, kind as u32)
        .pointer(16, programs.as_mut_ptr())
        .u32(24, u32::try_from(MOST).unwrap_or(0))
        .pointer(40, links.as_mut_ptr());
    if !present(attribute.call(Command::ProgramQuery))? {
        return Ok(Vec::new());
    }
    let count = usize::try_from(attribute.read_u32(24)).unwrap_or(0);
    let pairs = programs.iter().zip(&links).take(count);
    Ok(pairs.map(|(program, link)| Attached { program: *program, link: *link }).collect())
}

/// Name of a program, as much of it as the kernel keeps (15 bytes).
pub(super) fn program_name(id: u32) -> io::Result<String> {
    /// Where `struct bpf_prog_info` has the name.
    const NAME: std::ops::Range<usize> = 64..80;
    let program = Attribute::new().u32(0, id).call_for_fd(Command::ProgramById)?;
    let mut info = [0_u8; 256];
    let length = u32::try_from(size_of_val(&info)).unwrap_or(0);
    let mut attribute = Attribute::new().fd(0, program.as_fd()).u32(4, length).pointer(8, info.as_mut_ptr());
    attribute.call(Command::Info)?;
    let name = info.get(NAME).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// The number of a program.
pub(super) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    // `struct bpf_prog_info`: type, id, ...
    let mut info = [0_u32; 64];
    let length = u32::try_from(size_of_val(&info)).unwrap_or(0);
    Attribute::new().fd(0, program).u32(4, length).pointer(8, info.as_mut_ptr()).call(Command::Info)?;
    let [_, id, ..] = info;
    Ok(id)
}

/// What a test run of a program ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TestRun {
    /// What the program returned.
    pub(super) returned: u32,
    /// Bytes of the packet afterwards.
    pub(super) length: usize,
}

/// Runs a program once on a packet (`BPF_PROG_TEST_RUN`). `out` takes the packet as it is then, if it is not empty; `context`
/// is what the program sees besides it, and becomes what it has made of it.
pub(super) fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    out: &mut [u8],
    context: Option<&mut [u8]>,
) -> io::Result<TestRun> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut attribute = Attribute::new().fd(0, program).u32(8, length(packet)).pointer(16, packet.as_ptr());
    if !out.is_empty() {
        attribute = attribute.u32(12, length(out)).pointer(24, out.as_mut_ptr());
    }
    if let Some(context) = context {
        let size = length(context);
        attribute = attribute.u32(40, size).u32(44, size);
        // The kernel copies it in before the run, and out after it.
        attribute = attribute.pointer(48, context.as_ptr()).pointer(56, context.as_mut_ptr());
    }
    attribute.call(Command::TestRun)?;
    let length = usize::try_from(attribute.read_u32(12)).unwrap_or(usize::MAX);
    Ok(TestRun { returned: attribute.read_u32(4), length })
}

/// Replaces the program behind a link, atomically.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    Attribute::new().fd(0, link).fd(4, program).call(Command::LinkUpdate)?;
    Ok(())
}

/// Ends what a link attaches, whoever holds it: when this returns, its program runs no more.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    Attribute::new().fd(0, link).call(Command::LinkDetach).map(drop)
}

/// `enum bpf_map_type`, as far as shunt makes maps without a BPF object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MapKind {
    #[cfg(test)]
    Hash = 1,
    Array = 2,
}

/// Makes a map; bytes of a key, of a value, and the number of elements.
pub(super) fn create_map(kind: MapKind, [key, value, entries]: [u32; 3]) -> io::Result<OwnedFd> {
    let mut attribute = Attribute::new().u32(0, kind as u32).u32(4, key).u32(8, value).u32(12, entries);
    attribute.call_for_fd(Command::MapCreate)
}

/// Makes an array whose elements can be mapped into memory.
#[cfg(test)]
pub(super) fn create_memory(value: u32, entries: u32) -> io::Result<OwnedFd> {
    /// `BPF_F_MMAPABLE`
    const MAPPABLE: u32 = 1 << 10;
    let attribute = Attribute::new().u32(0, MapKind::Array as u32).u32(4, 4).u32(8, value).u32(12, entries);
    attribute.u32(16, MAPPABLE).call_for_fd(Command::MapCreate)
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

/// What the kernel says about a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkInfo {
    pub(super) id: u32,
    pub(super) program: u32,
    /// What it is attached to: the index of an interface or the id of a cgroup; 0 once that is gone, or the link was
    /// detached by force.
    pub(super) target: u64,
}

pub(super) fn link_info(link: BorrowedFd<'_>, kind: AttachType) -> io::Result<LinkInfo> {
    // `struct bpf_link_info`: type, id, prog_id, pad, then the union: ifindex, or the cgroup's id (64 bits).
    let mut info = [0_u32; 24];
    let length = u32::try_from(size_of_val(&info)).unwrap_or(0);
    Attribute::new().fd(0, link).u32(4, length).pointer(8, info.as_mut_ptr()).call(Command::Info)?;
    let [_, id, program, _, low, high, ..] = info;
    let is_interface = matches!(kind, AttachType::TcxIngress | AttachType::TcxEgress);
    let high = if is_interface { 0 } else { u64::from(high) };
    Ok(LinkInfo { id, program, target: high << 32 | u64::from(low) })
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

/// Writes one element that is there already; false if there is none.
pub(super) fn replace(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<bool> {
    /// `BPF_EXIST`
    const EXISTING: u64 = 2;
    let attribute = Attribute::new().fd(0, map).pointer(8, key.as_ptr()).pointer(16, value.as_ptr());
    present(attribute.u64(24, EXISTING).call(Command::MapUpdate))
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
