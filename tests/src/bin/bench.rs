//! The benchmark program: `cargo xtask bench` builds and runs it.

use anyhow::Result;
use clap::Parser as _;
use shunt_tests::bench::{Arguments, run};

fn main() -> Result<()> {
    run(&Arguments::parse())
}
