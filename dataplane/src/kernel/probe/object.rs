//! The embedded BPF object: loading it and getting at its programs and maps.

use aya::{
    Ebpf, EbpfError, EbpfLoader, include_bytes_aligned,
    maps::Map,
    programs::{CgroupSockAddr, Program, ProgramError, ProgramType, SchedClassifier},
    sys::{BpfHelper, is_helper_supported},
};
use shunt_abi::probe;

/// The object that `cargo xtask build-ebpf` made.
static OBJECT: &[u8] = include_bytes_aligned!(env!("SHUNT_PROBE_OBJECT_PATH"));

/// Why a part of the probe could not be tried, or did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel refused a map of the object, or the object is damaged.
    #[error("cannot load the BPF object: {0}")]
    Object(#[from] EbpfError),
    /// The kernel refused a program, a link or a test run.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The embedded object is not the one that this agent was written for.
    #[error("the embedded BPF object has no {kind} {name:?}: build it again with `cargo xtask build-ebpf`")]
    ObjectLacks {
        /// `program` or `map`.
        kind: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// A map of the object could not be mapped into memory, read or written.
    #[error("map {name}: {operation}")]
    Map {
        /// The map.
        name: &'static str,
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A program ran and did not do what it should.
    #[error("the program saw {field} {seen} in a packet where it should have seen {expected}")]
    Unexpected {
        /// Which of the recorded facts.
        field: &'static str,
        /// What was recorded.
        seen: i64,
        /// What the packet has.
        expected: i64,
    },
}

impl ProbeError {
    /// Whether privileges are missing.
    pub(super) fn is_denied(&self) -> bool {
        self.chain().any(|error| {
            let error = error.downcast_ref::<std::io::Error>();
            error.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        })
    }

    /// The error in one line, without the verifier's pages; with a hint where privileges are missing.
    pub(super) fn reason(&self) -> String {
        let mut text = String::new();
        for error in self.chain().map(|error| first_line(&error.to_string())) {
            // Layers of errors repeat each other's text.
            if !text.contains(&error) {
                text = if text.is_empty() { error } else { format!("{text}: {error}") };
            }
        }
        if self.is_denied() {
            text.push_str(" (needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN)");
        }
        text
    }

    /// The error and what caused it, outermost first.
    fn chain(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        std::iter::successors(Some(self as &(dyn std::error::Error + 'static)), |error| error.source())
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim_end();
    line.trim_end_matches(". Verifier output:").to_owned()
}

/// The object with its maps in the kernel; programs are loaded one by one.
#[derive(Debug)]
pub(super) struct Object(Ebpf);

impl Object {
    pub(super) fn load() -> Result<Self, ProbeError> {
        let mut loader = EbpfLoader::new();
        // Kernels before 5.18 refuse programs that name the helper.
        let helper = is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval);
        let has_set_retval = u8::from(helper.unwrap_or(true));
        Ok(Self(loader.override_global("HAS_SET_RETVAL", &has_set_retval, true).load(OBJECT)?))
    }

    /// The classifier, loaded if it was not yet.
    pub(super) fn packet_program(&mut self) -> Result<&mut SchedClassifier, ProbeError> {
        let program: &mut SchedClassifier = self.program(probe::PACKET_PROGRAM)?.try_into()?;
        if program.fd().is_err() {
            program.load()?;
        }
        Ok(program)
    }

    /// The connect program, loaded if it was not yet.
    pub(super) fn connect_program(&mut self) -> Result<&mut CgroupSockAddr, ProbeError> {
        let program: &mut CgroupSockAddr = self.program(probe::CONNECT_PROGRAM)?.try_into()?;
        if program.fd().is_err() {
            program.load()?;
        }
        Ok(program)
    }

    pub(super) fn take_map(&mut self, name: &'static str) -> Result<Map, ProbeError> {
        self.0.take_map(name).ok_or(ProbeError::ObjectLacks { kind: "map", name })
    }

    fn program(&mut self, name: &'static str) -> Result<&mut Program, ProbeError> {
        self.0.program_mut(name).ok_or(ProbeError::ObjectLacks { kind: "program", name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_and_says_each_thing_once() {
        let source = std::io::Error::from_raw_os_error(libc::EPERM);
        let error = ProbeError::Map { name: "PROBE_PACKET", operation: "mmap", source };
        assert_eq!(
            error.reason(),
            "map PROBE_PACKET: mmap: Operation not permitted (os error 1) \
             (needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN)"
        );
    }

    #[test]
    fn the_pages_of_the_verifier_are_left_out() {
        assert_eq!(first_line("the BPF_PROG_LOAD syscall returned X. Verifier output: \n0: (bf)\n"), {
            "the BPF_PROG_LOAD syscall returned X"
        });
    }
}
