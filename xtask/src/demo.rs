//! `cargo xtask demo`: builds the agent and the demo program, and becomes the demo program.

use std::{env, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    build_ebpf, packages,
    process::{self, cargo},
    workspace::Workspace,
};

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The agent's mode
    #[arg(long, default_value = "nftables", value_parser = ["nftables", "auto", "ebpf"])]
    mode: String,
    /// Leave everything up in the end, with a kubeconfig for kubectl, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// Provides packages, builds what is needed, and runs the demo. Returns only if something is wrong: this process turns
/// into the demo, so that Ctrl-C reaches nobody who would leave before it has cleaned up.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    packages::ensure()?;
    build_ebpf::run(workspace)?;
    // One build for both: they share most of their dependencies.
    process::run(cargo(workspace).args([
        "build",
        "--release",
        "--package",
        "shunt",
        "--package",
        "shunt-tests",
        "--bin",
        "shunt",
        "--bin",
        "demo",
    ]))?;
    let mut demo = command()?;
    demo.args(["--mode", &arguments.mode]);
    if arguments.keep {
        demo.arg("--keep");
    }
    let error = demo.exec();
    bail!("cannot start {}: {error}", demo.get_program().display())
}

/// The demo program, through sudo where this is not root: it makes network namespaces.
fn command() -> Result<Command> {
    // This program is at target/debug/xtask, wherever target/ is.
    let this = env::current_exe().context("cannot tell where this program is")?;
    let target = this.ancestors().nth(2).context("this program is in an odd place")?;
    let program = target.join("release/demo");
    if nix::unistd::geteuid().is_root() {
        return Ok(Command::new(program));
    }
    if process::find("sudo").is_none() {
        bail!("the demo makes network namespaces: run this as root");
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    Ok(command)
}
