//! Every program of both BPF objects, loaded by itself: who is refused, and what the verifier says.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use aya::programs::{Program, ProgramError, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use shunt::kernel::probe::{Need, probe_acceleration};

use super::report::Report;

const OBJECTS: [&str; 2] = ["shunt-datapath", "shunt-probe"];
/// What is loaded for acceleration alone.
const ACCELERATED: &str = "shunt_ingress_accelerated";
/// Lines of the verifier's log that say why.
const LAST_LINES: usize = 8;

/// A line for each program.
pub(super) fn load_all(report: &mut Report, folder: &Path) -> Result<()> {
    // Kernels before 5.11 count maps as locked memory. The agent has to see to that itself, so it gets the old limit.
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_MEMLOCK).context("cannot read the limit on locked memory")?;
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
        .context("cannot raise the limit on locked memory")?;
    let done = load_objects(report, folder);
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard).context("cannot restore the limit on locked memory")?;
    done
}

fn load_objects(report: &mut Report, folder: &Path) -> Result<()> {
    for object in OBJECTS {
        let path = folder.join(object);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        match open(&bytes) {
            Ok(mut loaded) => load_programs(report, object, &mut loaded),
            Err(error) => report.failed("programs", object, &format!("{error:#}")),
        }
    }
    Ok(())
}

/// Makes the maps. Constants are set as the agent sets them.
fn open(bytes: &[u8]) -> Result<Ebpf> {
    let helper = is_helper_supported(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval);
    let has_set_retval = u8::from(helper.unwrap_or(true));
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::STATS | VerifierLogLevel::VERBOSE);
    loader.override_global("HAS_SET_RETVAL", &has_set_retval, false);
    loader.load(bytes).context("cannot make the maps")
}

fn load_programs(report: &mut Report, object: &str, loaded: &mut Ebpf) {
    for (name, program) in loaded.programs_mut() {
        let name_here = format!("{object} {name}");
        // Refusing it takes these verifiers minutes, under emulation.
        if let Some(why) = lacking(name) {
            report.missing("programs", &name_here, &why);
            continue;
        }
        let start = Instant::now();
        let outcome = load(program).map(|instructions| {
            let instructions = instructions.map(|count| format!("{count} instructions verified, "));
            format!("{}{:.1?}", instructions.unwrap_or_default(), start.elapsed())
        });
        report.outcome("programs", &name_here, &outcome);
    }
}

/// Why the agent does not load a program on this kernel.
fn lacking(program: &str) -> Option<String> {
    let probed = (program == ACCELERATED).then(probe_acceleration)?;
    (!probed.supports(Need::Acceleration)).then(|| probed.summary(Need::Acceleration))
}

/// The number of instructions that the verifier looked at, where the kernel says so.
fn load(program: &mut Program) -> Result<Option<u32>> {
    let loaded = match &mut *program {
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        other => bail!("a program of type {:?}", other.prog_type()),
    };
    match loaded {
        Ok(()) => Ok(program.info().ok().and_then(|info| info.verified_instruction_count())),
        Err(ProgramError::LoadError { io_error, verifier_log }) => {
            bail!("{io_error}: {}", last_lines(&verifier_log.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_end_is_kept() {
        let lines: Vec<String> = (1..=20).map(|line| line.to_string()).collect();
        let log = lines.join("\n");
        assert_eq!(last_lines(&log), "13\n14\n15\n16\n17\n18\n19\n20");
    }
}
