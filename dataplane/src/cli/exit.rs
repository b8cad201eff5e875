//! What the process prints when it ends early.

use std::process::ExitCode;

/// Prints the usage, or what is wrong with the command line.
pub fn explain_usage(error: &clap::Error) -> ExitCode {
    // With standard output closed there is nobody to tell.
    drop(error.print());
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

/// Prints the version, as kube-proxy does.
pub fn print_version() -> ExitCode {
    match super::say(concat!("shunt v", env!("CARGO_PKG_VERSION"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_closed) => ExitCode::FAILURE,
    }
}

/// Prints an error with all its causes.
#[expect(clippy::print_stderr, reason = "logging may not have been set up yet")]
pub fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("shunt: {error:#}");
    ExitCode::FAILURE
}
