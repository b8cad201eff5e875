//! The programs that an agent has attached, run on packets that nobody sends (`BPF_PROG_TEST_RUN`).
//!
//! They see the agent's own maps, so a run leaves what a packet would leave: flows, counters.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::programs::links::{LinkError, PinnedLink};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType, TestRun as _, TestRunOptions, loaded_programs,
};
use aya::{EbpfError, EbpfLoader};
use shunt_abi::name;

use super::directory::Directory;
use super::programs::OBJECT;

/// `struct __sk_buff` (linux/bpf.h): its size, and where the indexes of interfaces are in it.
const SKB_LENGTH: usize = 192;
const SKB_INGRESS_IFINDEX: usize = 36;
const SKB_IFINDEX: usize = 40;
/// What a program may add to a packet.
const GROWTH: usize = 256;

/// Direction of packets at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// They enter the host.
    Ingress,
    /// They leave it.
    Egress,
}

/// Why a program could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum AttachedError {
    /// No agent of this build has left pins there.
    #[error("no agent of this build has pins in {}", .0.display())]
    NoAgent(PathBuf),
    /// No agent of this build has a link there (or the kernel has no tcx, and so no pinned links of interfaces).
    #[error("no program of this build is attached: {}", path.display())]
    NotAttached {
        /// The pin that was looked for.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: LinkError,
    },
    /// The link is there, and its program is gone.
    #[error("program {0} is not loaded any more")]
    Gone(u32),
    /// The embedded object is not the one that this build was written for.
    #[error("the embedded BPF object has no program {:?}", name::EMPTY_PROGRAM)]
    Missing,
    /// The kernel refused to open or run a program.
    #[error("cannot run a program")]
    Run(#[from] ProgramError),
    /// The kernel refused the embedded object.
    #[error("cannot load the BPF object")]
    Object(#[from] EbpfError),
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the program returned: `TC_ACT_*`, -1 for "next".
    pub code: i32,
    /// The packet afterwards, Ethernet header included.
    pub packet: Vec<u8>,
    /// Mean time of a run, as the kernel measured it.
    pub duration: Duration,
}

/// A program to be tried.
#[derive(Debug)]
pub struct AttachedProgram {
    program: SchedClassifier,
    context: [u8; SKB_LENGTH],
}

impl AttachedProgram {
    /// The program behind an agent's link on an interface. `bpffs` is the agent's BPF file system as this process sees it.
    /// Runs are as on that interface, which has to be one of the calling thread's network namespace; packets of runs have
    /// come to the host by the interface `came_by` (0: they are its own).
    pub fn attached(
        bpffs: &Path,
        interface: u32,
        direction: Direction,
        came_by: u32,
    ) -> Result<Self, AttachedError> {
        let word = match direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        let name = format!("{word}-{interface}");
        let directory = Directory::find(bpffs).ok_or_else(|| AttachedError::NoAgent(bpffs.to_owned()))?;
        let path = directory.links().join(name);
        let link = PinnedLink::from_pin(&path)
            .map_err(|source| AttachedError::NotAttached { path: path.clone(), source })?;
        let info = aya::programs::links::FdLink::from(link)
            .info()
            .map_err(|source| AttachedError::NotAttached { path, source })?;
        let id = info.program_id();
        let found = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
        let found = found.ok_or(AttachedError::Gone(id))?;
        let program = SchedClassifier::from_program_info(found, Cow::Borrowed(word))?;
        Ok(Self { program, context: context(interface, came_by) })
    }

    /// A program that does nothing, to compare with. Runs are as on `interface`.
    pub fn empty(interface: u32, came_by: u32) -> Result<Self, AttachedError> {
        let mut loader = EbpfLoader::new();
        // None of them is used.
        for map in name::MAPS {
            loader.map_max_entries(map, 64);
        }
        let mut object = loader.load(OBJECT)?;
        let program = object.program_mut(name::EMPTY_PROGRAM).ok_or(AttachedError::Missing)?;
        let program: &mut SchedClassifier = program.try_into()?;
        program.load()?;
        // A handle that outlives the object with its maps.
        let program = SchedClassifier::from_program_info(program.info()?, Cow::Borrowed("empty"))?;
        Ok(Self { program, context: context(interface, came_by) })
    }

    /// Has packets of an interface pass the program too (by tcx, behind all others), as long as this value lives. The
    /// interface is one of the calling thread's network namespace.
    pub fn attach(&mut self, interface: &str, direction: Direction) -> Result<(), AttachedError> {
        let direction = match direction {
            Direction::Ingress => TcAttachType::Ingress,
            Direction::Egress => TcAttachType::Egress,
        };
        let behind = TcAttachOptions::TcxOrder(LinkOrder::last());
        self.program.attach_with_options(interface, direction, behind)?;
        Ok(())
    }

    /// Runs the program `repeat` times on one packet: what one run makes of it, the next one finds.
    pub fn run(&self, packet: &[u8], repeat: u32) -> Result<Verdict, AttachedError> {
        let mut out = vec![0; packet.len() + GROWTH];
        let mut options = self.options(packet, repeat);
        options.data_out = Some(&mut out);
        let result = self.program.test_run(options)?;
        out.truncate(usize::try_from(result.data_size_out).unwrap_or(usize::MAX));
        Ok(Verdict { code: result.return_value.cast_signed(), packet: out, duration: result.duration })
    }

    /// Like [`Self::run`], without asking for the packet.
    pub fn time(&self, packet: &[u8], repeat: u32) -> Result<Duration, AttachedError> {
        Ok(self.program.test_run(self.options(packet, repeat))?.duration)
    }

    fn options<'a>(&'a self, packet: &'a [u8], repeat: u32) -> TestRunOptions<'a> {
        TestRunOptions { data_in: Some(packet), ctx_in: Some(&self.context), repeat, ..TestRunOptions::new() }
    }
}

fn context(interface: u32, came_by: u32) -> [u8; SKB_LENGTH] {
    let mut context = [0; SKB_LENGTH];
    for (at, value) in [(SKB_IFINDEX, interface), (SKB_INGRESS_IFINDEX, came_by)] {
        if let Some(place) = context.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_ne_bytes());
        }
    }
    context
}
