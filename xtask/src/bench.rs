//! `cargo xtask bench`: measures the control plane and the datapath, or looks at what was measured.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    build_ebpf, packages,
    process::{self, cargo},
    workspace::Workspace,
};

/// Flags of the benchmark with which it measures nothing.
const LOOKING: [&str; 4] = ["--compare", "--draw", "--help", "-h"];

/// Arguments of `cargo xtask bench`.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// Handed to the benchmark: --quick, --control-plane, --datapath, --services N,N, --compare OLD ... (--help lists all)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    benchmark: Vec<String>,
}

/// Builds agent and benchmark with optimizations and runs the benchmark as root. To compare or draw reports again it
/// takes neither root nor the agent.
///
/// Its exit status is that of the benchmark: with `--compare` 0 if nothing of shunt's got worse, 3 if something did, 1 if
/// the reports cannot be compared, 2 if the arguments are wrong.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let looking = looks(&arguments.benchmark);
    let mut wanted = vec!["--package", "shunt-tests", "--bin", "bench"];
    if !looking {
        packages::ensure()?;
        build_ebpf::run(workspace)?;
        // Together: one after the other, what both depend on would be built twice, with other features.
        wanted.extend(["--package", "shunt", "--bin", "shunt"]);
    }
    process::run(cargo(workspace).args(["build", "--release"]).args(wanted))?;
    let program = workspace.target("release/bench");
    let mut command = if looking || nix::unistd::geteuid().is_root() {
        Command::new(program)
    } else if process::succeeds(Command::new("sudo").args(["-n", "true"])) {
        let mut command = Command::new("sudo");
        command.arg(program);
        command
    } else {
        bail!(
            "the benchmark makes network namespaces: run this as root, or have sudo work without a password"
        )
    };
    command.args(&arguments.benchmark).current_dir(workspace.root());
    // In place of this process: the exit status is the benchmark's.
    Err(command.exec()).context("cannot start the benchmark")
}

fn looks(arguments: &[String]) -> bool {
    arguments.iter().any(|argument| {
        let flag = argument.split('=').next().unwrap_or_default();
        LOOKING.contains(&flag)
    })
}

#[cfg(test)]
mod tests {
    use super::looks;

    #[test]
    fn comparing_takes_no_root() {
        let looks =
            |arguments: &[&str]| looks(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(looks(&["--compare", "old.json"]));
        assert!(looks(&["--quick", "--draw=report.json"]));
        assert!(!looks(&["--quick", "--services", "1,1000"]));
        assert!(!looks(&[]));
    }
}
