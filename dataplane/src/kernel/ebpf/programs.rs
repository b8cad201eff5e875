//! The BPF object of the dataplane: its maps made (or found by their pins) and its programs loaded.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::maps::Map;
use aya::programs::{ProgramError, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported};
use aya::{Ebpf, EbpfError, EbpfLoader, include_bytes_aligned};
use shunt_abi::name;
use shunt_abi::tail::Tail;

use super::loading::Loading;
use super::sizes::Sizes;
use super::sys::{self, AttachType};
use super::trial::Outcome;

/// The object that `cargo xtask build-ebpf` made.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!(env!("SHUNT_DATAPATH_OBJECT_PATH"));

/// Each socket program and where it attaches.
pub(super) const SOCKET_PROGRAMS: [(&str, AttachType); 8] = {
    use AttachType as A;
    let [a, b, c, d, e, f, g, h] = name::SOCKET_PROGRAMS;
    [
        (a, A::Connect4),
        (b, A::Connect6),
        (c, A::Sendmsg4),
        (d, A::Sendmsg6),
        (e, A::Recvmsg4),
        (f, A::Recvmsg6),
        (g, A::Getpeername4),
        (h, A::Getpeername6),
    ]
};

/// Where the fields of `struct __sk_buff` (linux/bpf.h) are that a test run sets and reads.
const SKB_MARK: usize = 8;
const SKB_INGRESS_INTERFACE: usize = 36;
const SKB_INTERFACE: usize = 40;
const SKB_LENGTH: usize = 192;

/// Why programs could not be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgramsError {
    /// The kernel refused a map of the object, or the object is damaged.
    #[error("cannot load the BPF object")]
    Object(#[from] EbpfError),
    /// The kernel refused a program.
    #[error("program {name}")]
    Program {
        name: &'static str,
        #[source]
        source: ProgramError,
    },
    /// The kernel refused to run a program.
    #[error("run program {name}")]
    Run {
        name: &'static str,
        #[source]
        source: io::Error,
    },
    /// The array of continuations could not be filled.
    #[error("map {}", name::TAILS)]
    Tails(#[source] io::Error),
    /// There are too many open files.
    #[error("keep a descriptor")]
    Descriptor(#[source] io::Error),
    /// The embedded object is not the one that this agent was written for.
    #[error("the embedded BPF object has no program {0:?}: build it again with `cargo xtask build-ebpf`")]
    Missing(&'static str),
}

/// The programs in the kernel, and nothing of the object they come from: its instructions with their type information are
/// several MiB.
#[derive(Debug)]
pub(super) struct Programs {
    loaded: BTreeMap<&'static str, OwnedFd>,
    tails: OwnedFd,
    /// Why there are no socket programs although they were asked for.
    pub(super) no_sockets: Option<ProgramsError>,
    /// Programs can choose what a refused socket sees; where they cannot, they leave refusing to the packet programs.
    pub(super) names_refusals: bool,
}

impl Programs {
    /// Loads everything; maps that are pinned in `directory` are taken over, others are made and pinned there, with these
    /// sizes. Without socket programs, if the kernel refuses them, everything else works. `accelerates`: flows may be
    /// accelerated.
    pub(super) fn load(
        directory: &Path,
        sockets: bool,
        sizes: Option<&Sizes>,
        accelerates: bool,
    ) -> Result<Self, ProgramsError> {
        crate::kernel::allow_maps();
        // Kernels before 5.18 refuse programs that may come to call it.
        let helper = is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval);
        let names_refusals = helper.unwrap_or(true);
        let mut object = make_maps(directory, sizes, names_refusals)?;
        let mut outcomes = Loading::of(&mut object, sockets, accelerates).finish();
        let no_sockets = outcomes.take_refusal_of(&SOCKET_PROGRAMS.map(|(name, _)| name));
        let loaded = outcomes.all()?;
        let tails = fill_tails(&mut object, &loaded)?;
        #[cfg(feature = "program-log")]
        super::program_log::follow(&mut object);
        Ok(Self { loaded, tails, no_sockets, names_refusals })
    }

    /// Pins the array of continuations, which the kernel empties when nobody in user space has it.
    pub(super) fn pin_tails(&self, path: &Path) -> io::Result<()> {
        sys::pin(self.tails.as_fd(), path)
    }

    /// The descriptor of a loaded program.
    pub(super) fn fd(&self, name: &'static str) -> Result<BorrowedFd<'_>, ProgramsError> {
        self.loaded.get(name).map(OwnedFd::as_fd).ok_or(ProgramsError::Missing(name))
    }

    /// Has the clock program write down the time.
    pub(super) fn read_clock(&self) -> Result<(), ProgramsError> {
        let name = name::CLOCK_PROGRAM;
        let run = sys::test_run(self.fd(name)?, &[0_u8; 64], &mut [], None);
        run.map(drop).map_err(|source| ProgramsError::Run { name, source })
    }

    /// Runs a classifier on a packet that is said to be on an interface.
    pub(super) fn run(
        &self,
        program: &'static str,
        packet: &[u8],
        interface: u32,
    ) -> Result<Outcome, ProgramsError> {
        let mut context = [0_u8; SKB_LENGTH];
        put(&mut context, SKB_INTERFACE, interface);
        // What leaves was sent by this node: it came in nowhere.
        if program == name::INGRESS_PROGRAM {
            put(&mut context, SKB_INGRESS_INTERFACE, interface);
        }
        // Room for what an answer of ours may add.
        let mut data = vec![0; packet.len() + 256];
        let run = sys::test_run(self.fd(program)?, packet, &mut data, Some(&mut context));
        let sys::TestRun { returned, length } =
            run.map_err(|source| ProgramsError::Run { name: program, source })?;
        data.truncate(length);
        Ok(Outcome { verdict: returned.cast_signed(), packet: data, mark: get(&context, SKB_MARK) })
    }
}

/// The object, with its maps in the kernel.
fn make_maps(directory: &Path, sizes: Option<&Sizes>, names_refusals: bool) -> Result<Ebpf, EbpfError> {
    let mut loader = EbpfLoader::new();
    for (map, size) in sizes.map(Sizes::maps).into_iter().flatten() {
        loader.map_max_entries(map, size);
    }
    for map in name::MAPS.into_iter().filter(|map| *map != name::TAILS) {
        loader.map_pin_path(map, directory.join(map));
    }
    let has_set_retval = u8::from(names_refusals);
    loader.override_global("HAS_SET_RETVAL", &has_set_retval, false);
    let peers = sizes.map_or(name::capacity::PEERS, |sizes| sizes.peers);
    loader.override_global(name::PEERS_ELEMENTS, &peers, false);
    loader.load(OBJECT)
}

/// Puts the continuations into their array. Each set of programs has an array of its own: programs of another build must
/// not continue in these.
fn fill_tails(
    object: &mut Ebpf,
    programs: &BTreeMap<&'static str, OwnedFd>,
) -> Result<OwnedFd, ProgramsError> {
    let missing = ProgramsError::Missing(name::TAILS);
    let Some(Map::ProgramArray(array)) = object.take_map(name::TAILS) else { return Err(missing) };
    let tails = array.fd().as_fd().try_clone_to_owned().map_err(ProgramsError::Descriptor)?;
    for (index, name) in (0_u32..).zip(Tail::ALL.as_flattened()) {
        // Packets that would continue in one that the object does not have are left as they are.
        let Some(program) = programs.get(name) else {
            tracing::debug!(name, "the BPF object has no such continuation");
            continue;
        };
        let number = program.as_raw_fd();
        sys::update(tails.as_fd(), &index.to_ne_bytes(), &number.to_ne_bytes())
            .map_err(ProgramsError::Tails)?;
    }
    Ok(tails)
}

fn put(context: &mut [u8; SKB_LENGTH], at: usize, value: u32) {
    for (slot, byte) in context.iter_mut().skip(at).zip(value.to_ne_bytes()) {
        *slot = byte;
    }
}

fn get(context: &[u8; SKB_LENGTH], at: usize) -> u32 {
    context.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
}
