//! `cargo xtask bench`: measures the control plane and the datapath.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    build_ebpf, packages,
    process::{self, cargo},
    workspace::Workspace,
};

/// Arguments of `cargo xtask bench`.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// Handed to the benchmark: --quick, --control-plane, --datapath, --services N,N ... (--help lists all)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    benchmark: Vec<String>,
}

/// Builds agent and benchmark with optimizations and runs the benchmark as root.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    packages::ensure()?;
    build_ebpf::run(workspace)?;
    process::run(cargo(workspace).args(["build", "--release", "--package", "shunt"]))?;
    process::run(cargo(workspace).args([
        "build",
        "--release",
        "--package",
        "shunt-tests",
        "--bin",
        "bench",
    ]))?;
    let program = workspace.target("release/bench");
    let mut command = if nix::unistd::geteuid().is_root() {
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
    process::run(&mut command)
}
