//! kube-proxy's packet-flow tables, and cases of our own, as real packets.
//!
//! Each case of `tests/data/cases` and `tests/data/cases-own` is a test of its
//! own. Needs root, iproute2 and the built agent (or `SHUNT_BIN`);
//! `SHUNT_MODE` chooses another dataplane than nftables.

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use shunt_tests::flows::{AgentProgram, Backend, Case, Options, cases_in, run, shunt_program};

/// Cases mostly wait, so more of them run at a time than there are processors.
const CASES_AT_A_TIME: usize = 4;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(CASES_AT_A_TIME);
    match trials() {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            let trial =
                Trial::test("case_files_can_be_read", move || Err(Failed::from(format!("{error:#}"))));
            libtest_mimic::run(&arguments, vec![trial]).exit_code()
        }
    }
}

fn trials() -> anyhow::Result<Vec<Trial>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let mut trials = Vec::new();
    for (directory, kind) in [("cases", "kube-proxy"), ("cases-own", "own")] {
        for case in cases_in(&data.join(directory), Backend::Nftables)? {
            trials.push(Trial::test(case.name.clone(), move || check(&case)).with_kind(kind));
        }
    }
    Ok(trials)
}

fn check(case: &Case) -> Result<(), Failed> {
    let failures = shunt_program().and_then(|program| {
        let mode = std::env::var("SHUNT_MODE").unwrap_or_else(|_unset| "nftables".to_owned());
        run(case, &Options::new(AgentProgram::Agent(program), &mode))
    });
    match failures {
        Ok(failures) if failures.is_empty() => Ok(()),
        Ok(failures) => {
            let lines: Vec<_> = failures.iter().map(ToString::to_string).collect();
            Err(lines.join("\n").into())
        }
        Err(error) => Err(format!("{error:#}").into()),
    }
}
