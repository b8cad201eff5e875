//! The BPF object of the dataplane: its maps made (or found by their pins) and its programs loaded.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::maps::{Map, MapError, ProgramArray};
use aya::programs::{
    CgroupSockAddr, Program, ProgramError, ProgramType, SchedClassifier, TestRun as _, TestRunOptions,
};
use aya::sys::{BpfHelper, is_helper_supported};
use aya::{Ebpf, EbpfError, EbpfLoader, include_bytes_aligned};
use shunt_abi::name;
use shunt_abi::tail::Tail;

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
    /// The array of continuations could not be filled.
    #[error("map {}", name::TAILS)]
    Tails(#[from] MapError),
    /// The embedded object is not the one that this agent was written for.
    #[error("the embedded BPF object has no program {0:?}: build it again with `cargo xtask build-ebpf`")]
    Missing(&'static str),
}

/// The object with its programs in the kernel.
#[derive(Debug)]
pub(super) struct Programs {
    object: Ebpf,
    tails: Option<OwnedFd>,
    /// Why there are no socket programs although they were asked for.
    pub(super) no_sockets: Option<ProgramsError>,
    /// Programs can choose what a refused socket sees; where they cannot, they leave refusing to the packet programs.
    pub(super) names_refusals: bool,
}

impl Programs {
    /// Loads everything; maps that are pinned in `directory` are taken over, others are made and pinned there, with these
    /// sizes. Without socket programs, if the kernel refuses them, everything else works.
    pub(super) fn load(
        directory: &Path,
        sockets: bool,
        sizes: Option<&Sizes>,
    ) -> Result<Self, ProgramsError> {
        crate::kernel::allow_maps();
        let mut loader = EbpfLoader::new();
        for (map, size) in sizes.map(Sizes::maps).into_iter().flatten() {
            loader.map_max_entries(map, size);
        }
        for map in name::MAPS.into_iter().filter(|map| *map != name::TAILS) {
            loader.map_pin_path(map, directory.join(map));
        }
        // Kernels before 5.18 refuse programs that may come to call it.
        let helper = is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval);
        let names_refusals = helper.unwrap_or(true);
        let has_set_retval = u8::from(names_refusals);
        loader.override_global("HAS_SET_RETVAL", &has_set_retval, false);
        let object = loader.load(OBJECT)?;
        let mut programs = Self { object, tails: None, no_sockets: None, names_refusals };
        for name in [name::INGRESS_PROGRAM, name::EGRESS_PROGRAM, name::CLOCK_PROGRAM] {
            programs.classifier(name)?.load().map_err(|source| ProgramsError::Program { name, source })?;
        }
        if sockets {
            programs.no_sockets = programs.load_sockets().err();
        }
        // Last, because it takes the array out of the object, where programs that are loaded find it.
        programs.load_tails()?;
        #[cfg(feature = "program-log")]
        super::program_log::follow(&mut programs.object);
        Ok(programs)
    }

    fn load_sockets(&mut self) -> Result<(), ProgramsError> {
        for (name, _) in SOCKET_PROGRAMS {
            let program: &mut CgroupSockAddr = self.program(name)?;
            program.load().map_err(|source| ProgramsError::Program { name, source })?;
        }
        Ok(())
    }

    /// Loads the continuations and puts them into their array. Each set of programs has an array of its own: programs of
    /// another build must not continue in these.
    fn load_tails(&mut self) -> Result<(), ProgramsError> {
        let missing = ProgramsError::Missing(name::TAILS);
        let Some(Map::ProgramArray(array)) = self.object.take_map(name::TAILS) else { return Err(missing) };
        let fd = array.fd().as_fd().try_clone_to_owned().map_err(MapError::from)?;
        let mut tails = ProgramArray::try_from(Map::ProgramArray(array))?;
        for (index, name) in (0..).zip(Tail::ALL.as_flattened()) {
            // Packets that would continue in one that the object does not have are left as they are.
            if self.object.program(name).is_none() {
                tracing::debug!(name, "the BPF object has no such continuation");
                continue;
            }
            let failed = |source| ProgramsError::Program { name, source };
            let program = self.classifier(name)?;
            program.load().map_err(failed)?;
            let fd = program.fd().map_err(failed)?;
            tails.set(index, fd, 0)?;
        }
        self.tails = Some(fd);
        Ok(())
    }

    /// Pins the array of continuations, which the kernel empties when nobody in user space has it.
    pub(super) fn pin_tails(&self, path: &Path) -> io::Result<()> {
        self.tails.as_ref().map_or(Ok(()), |tails| sys::pin(tails.as_fd(), path))
    }

    fn program<'a, T>(&'a mut self, name: &'static str) -> Result<&'a mut T, ProgramsError>
    where
        &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        let program = self.object.program_mut(name).ok_or(ProgramsError::Missing(name))?;
        program.try_into().map_err(|source| ProgramsError::Program { name, source })
    }

    fn classifier(&mut self, name: &'static str) -> Result<&mut SchedClassifier, ProgramsError> {
        self.program(name)
    }

    /// The descriptor of a loaded program.
    pub(super) fn fd(&mut self, name: &'static str) -> Result<BorrowedFd<'_>, ProgramsError> {
        let program = self.object.program(name).ok_or(ProgramsError::Missing(name))?;
        let fd = match program {
            Program::SchedClassifier(program) => program.fd(),
            Program::CgroupSockAddr(program) => program.fd(),
            _ => return Err(ProgramsError::Missing(name)),
        };
        fd.map(|fd| fd.as_fd()).map_err(|source| ProgramsError::Program { name, source })
    }

    /// Has the clock program write down the time.
    pub(super) fn read_clock(&mut self) -> Result<(), ProgramsError> {
        let name = name::CLOCK_PROGRAM;
        let packet = [0_u8; 64];
        let options = TestRunOptions { data_in: Some(&packet), ..TestRunOptions::default() };
        let run = self.classifier(name)?.test_run(options);
        run.map(drop).map_err(|source| ProgramsError::Program { name, source })
    }

    /// Runs a classifier on a packet that is said to be on an interface.
    pub(super) fn run(
        &mut self,
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
        let (mut data, mut context_out) = (vec![0; packet.len() + 256], [0_u8; SKB_LENGTH]);
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut data),
            ctx_in: Some(&context),
            ctx_out: Some(&mut context_out),
            ..TestRunOptions::default()
        };
        let failed = |source| ProgramsError::Program { name: program, source };
        let result = self.classifier(program)?.test_run(options).map_err(failed)?;
        data.truncate(usize::try_from(result.data_size_out).unwrap_or(usize::MAX));
        let verdict = result.return_value.cast_signed();
        Ok(Outcome { verdict, packet: data, mark: get(&context_out, SKB_MARK) })
    }
}

fn put(context: &mut [u8; SKB_LENGTH], at: usize, value: u32) {
    for (slot, byte) in context.iter_mut().skip(at).zip(value.to_ne_bytes()) {
        *slot = byte;
    }
}

fn get(context: &[u8; SKB_LENGTH], at: usize) -> u32 {
    context.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
}
