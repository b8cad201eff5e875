//! The command surface of the repository: `cargo xtask COMMAND`. One file a command.

mod bench;
mod bpf_linker;
mod build_ebpf;
mod ci;
mod demo;
mod kernels;
mod lint_check;
mod packages;
mod process;
mod rust_sources;
mod test;
mod test_summary;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, shows and tests shunt", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the BPF programs, with whatever toolchain parts that needs, to under target/bpf
    BuildEbpf(build_ebpf::Arguments),
    /// Show services being load-balanced, in a small cluster of network namespaces (needs root)
    Demo(demo::Arguments),
    /// Run all tests: unit, privileged, packet flows (needs root)
    Test(test::Arguments),
    /// Measure control plane and datapath beside plain routing and kube-proxy's layouts (needs root)
    Bench(bench::Arguments),
    /// Boot Debian's kernels in emulated machines, load the BPF programs there and try both dataplanes
    Kernels(kernels::Arguments),
    /// Run everything that has to hold before a merge: format, lints, documentation, licences, tests
    Ci,
    /// Check that every crate is under the workspace's lints
    LintCheck,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    match &arguments.command {
        Command::BuildEbpf(arguments) => build_ebpf::build(&workspace, arguments),
        Command::Demo(arguments) => demo::run(&workspace, arguments),
        Command::Test(arguments) => test::run(&workspace, arguments),
        Command::Bench(arguments) => bench::run(&workspace, arguments),
        Command::Kernels(arguments) => kernels::run(&workspace, arguments),
        Command::Ci => ci::run(&workspace),
        Command::LintCheck => lint_check::run(&workspace),
    }
}
