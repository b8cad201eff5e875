//! The benchmark program: `cargo xtask bench` builds and runs it.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use shunt_tests::bench::{Arguments, run};

fn main() -> Result<ExitCode> {
    run(&Arguments::parse())
}
