//! The agent binary.

use std::process::ExitCode;

use shunt::cli::{self, Args};

fn main() -> ExitCode {
    let args = match Args::parse_from(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => return cli::explain_usage(&error),
    };
    match shunt::start::main(&args) {
        Ok(code) => code,
        Err(error) => cli::report(&error),
    }
}
