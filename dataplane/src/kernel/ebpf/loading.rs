//! Loading the programs of an object into the kernel, several at a time: to verify one takes up to 30 ms of a processor,
//! and there are two dozen.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::thread;

use aya::Ebpf;
use aya::programs::{Program, ProgramError};
use shunt_abi::name;
use shunt_abi::tail::Tail;

use super::programs::{ProgramsError, SOCKET_PROGRAMS};

/// More would take memory for the verifier's states, and find nothing left to do.
const MOST_THREADS: usize = 4;

/// Programs that are to be loaded.
#[derive(Debug)]
pub(super) struct Loading<'a> {
    waiting: Vec<(&'static str, &'a mut Program)>,
    missing: Vec<&'static str>,
}

/// What became of each.
#[derive(Debug)]
pub(super) struct Loaded {
    outcomes: BTreeMap<&'static str, Result<OwnedFd, ProgramsError>>,
}

impl<'a> Loading<'a> {
    /// The programs of the object that are wanted. Continuations may be missing in it. `accelerates`: flows may be accelerated.
    pub(super) fn of(object: &'a mut Ebpf, sockets: bool, accelerates: bool) -> Self {
        let needed = [name::INGRESS_PROGRAM, name::EGRESS_PROGRAM, name::CLOCK_PROGRAM];
        let sockets = SOCKET_PROGRAMS.iter().map(|(name, _)| *name).filter(|_| sockets);
        let mut missing: Vec<&'static str> = needed.into_iter().chain(sockets).collect();
        let wanted: Vec<&'static str> = missing.iter().chain(Tail::ALL.as_flattened()).copied().collect();
        let mut waiting = Vec::new();
        for (found, program) in object.programs_mut() {
            let Some(called) = called(found, accelerates) else { continue };
            if let Some(name) = wanted.iter().copied().find(|name| *name == called) {
                missing.retain(|other| *other != name);
                waiting.push((name, program));
            }
        }
        Self { waiting, missing }
    }

    /// Loads all of them.
    pub(super) fn finish(self) -> Loaded {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let missing = self.missing.into_iter().map(|name| (name, Err(ProgramsError::Missing(name))));
        let outcomes = Mutex::new(missing.collect::<BTreeMap<_, _>>());
        let waiting = Mutex::new(self.waiting);
        let work = || {
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some((name, program)) = next else { return };
                let outcome = load(name, program);
                outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(name, outcome);
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                // Without another thread this one does the work.
                drop(thread::Builder::new().name("ebpf-load".into()).spawn_scoped(scope, work));
            }
            work();
        });
        Loaded { outcomes: outcomes.into_inner().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Loaded {
    /// If one of these was refused, none of them is kept; why.
    pub(super) fn take_refusal_of(&mut self, names: &[&'static str]) -> Option<ProgramsError> {
        let refused = |name: &&&'static str| self.outcomes.get(**name).is_some_and(Result::is_err);
        let refused = *names.iter().find(refused)?;
        let refusal = self.outcomes.remove(refused)?.err();
        self.outcomes.retain(|name, _| !names.contains(name));
        refusal
    }

    /// All of them, or why one of them could not be loaded.
    pub(super) fn all(self) -> Result<BTreeMap<&'static str, OwnedFd>, ProgramsError> {
        self.outcomes.into_iter().map(|(name, outcome)| Ok((name, outcome?))).collect()
    }
}

/// By which name a program of the object is known here: one of the two for what enters takes the place of both.
fn called(found: &str, accelerates: bool) -> Option<&str> {
    match found {
        name::ACCELERATED_INGRESS_PROGRAM => accelerates.then_some(name::INGRESS_PROGRAM),
        name::INGRESS_PROGRAM => (!accelerates).then_some(found),
        _ => Some(found),
    }
}

fn load(name: &'static str, program: &mut Program) -> Result<OwnedFd, ProgramsError> {
    let failed = |source: ProgramError| ProgramsError::Program { name, source };
    let fd = match program {
        Program::SchedClassifier(program) => program.load().and_then(|()| program.fd()),
        Program::CgroupSockAddr(program) => program.load().and_then(|()| program.fd()),
        _ => return Err(ProgramsError::Missing(name)),
    };
    fd.map_err(failed)?.as_fd().try_clone_to_owned().map_err(ProgramsError::Descriptor)
}
