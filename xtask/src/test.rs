//! `cargo xtask test`: every test there is, with what they need.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    build_ebpf, packages,
    process::{self, cargo},
    test_summary,
    workspace::Workspace,
};

/// Arguments of `cargo xtask test`.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// Handed to the test runner, `cargo nextest run` or `cargo test`: names of tests, `-p CRATE` ...
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    runner: Vec<String>,
}

/// Provides packages, builds the BPF programs and the agent, runs the tests. The runner's summary is the last thing
/// printed.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    packages::ensure()?;
    build_ebpf::run(workspace)?;
    process::run(cargo(workspace).args(["build", "--package", "shunt"]))?;
    let privileges = Privileges::find()?;
    if has_nextest(workspace) {
        run_with_nextest(workspace, arguments, &privileges)
    } else {
        run_with_cargo_test(workspace, arguments, &privileges)
    }
}

fn has_nextest(workspace: &Workspace) -> bool {
    process::succeeds(cargo(workspace).args(["nextest", "--version"]))
}

fn run_with_nextest(workspace: &Workspace, arguments: &Arguments, privileges: &Privileges) -> Result<()> {
    if arguments.runner.is_empty() {
        // nextest leaves out the examples in documentation.
        process::run(cargo(workspace).args(["test", "--doc", "--quiet"]))?;
    }
    let mut command = cargo(workspace);
    command.args(["nextest", "run"]).args(&arguments.runner);
    privileges.apply(&mut command);
    process::run(&mut command)
}

fn run_with_cargo_test(workspace: &Workspace, arguments: &Arguments, privileges: &Privileges) -> Result<()> {
    let mut command = cargo(workspace);
    command.args(["test", "--no-fail-fast"]).args(&arguments.runner);
    privileges.apply(&mut command);
    test_summary::run(&mut command)
}

/// How test programs get root, which the kernel tests need. A test without it fails; none is skipped.
enum Privileges {
    Root,
    Sudo,
}

impl Privileges {
    fn find() -> Result<Self> {
        if nix::unistd::geteuid().is_root() {
            return Ok(Self::Root);
        }
        if process::succeeds(Command::new("sudo").args(["-n", "true"])) {
            return Ok(Self::Sudo);
        }
        bail!(
            "the tests program network namespaces, nftables and BPF: run this as root, or have sudo work without a \
             password (`sudo -v`). Tests that need nothing of it: cargo test --workspace --lib"
        )
    }

    /// Has cargo start test programs through sudo where that is needed.
    fn apply(&self, command: &mut Command) {
        if matches!(self, Self::Sudo) {
            command.env(format!("CARGO_TARGET_{}_RUNNER", host_triple()), "sudo --preserve-env");
        }
    }
}

/// The target triple of this xtask, as cargo spells it in variables.
fn host_triple() -> String {
    format!("{}_UNKNOWN_LINUX_GNU", std::env::consts::ARCH.to_uppercase())
}
