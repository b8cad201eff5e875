//! Inside the virtual machine of `cargo xtask kernels`: first process, loader of BPF programs, small cluster.
//!
//! `guest boot` is the machine's first process and refuses to be anything else: it mounts what a host has, loads the
//! kernel modules that came along, runs everything below, and switches the machine off. `guest run` runs the same on
//! the machine at hand, in namespaces.
//!
//! What is found is written line by line (`report`) to the second serial port, where the host judges it.

mod boot;
mod cases;
mod features;
mod kinds;
mod modes;
mod node;
mod programs;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use report::Report;

/// Where the BPF objects are in the machine.
const OBJECTS: &str = "/bpf";

#[derive(Debug, Parser)]
#[command(name = "guest", about = "Tries shunt on the kernel that is running")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be the first process of a virtual machine
    Boot,
    /// Try everything on this machine
    Run {
        /// Folder with the BPF objects
        #[arg(long, default_value = OBJECTS)]
        objects: PathBuf,
    },
}

/// Does what the arguments say.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Boot => boot::run(),
        Command::Run { objects } => Report::on_terminal().and_then(|mut report| {
            everything(&mut report, &objects);
            report.end()
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

#[expect(clippy::print_stderr, reason = "the only way to say why nothing was reported")]
fn complain(error: &anyhow::Error) -> ExitCode {
    eprintln!("guest: {error:#}");
    ExitCode::FAILURE
}

/// Every check, in order; one that fails stops none of the others.
fn everything(report: &mut Report, objects: &Path) {
    features::report(report);
    let programs = programs::load_all(report, objects);
    report.stopped("programs", &programs);
    let modes = modes::run_all(report);
    report.stopped("modes", &modes);
}
