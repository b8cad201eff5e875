//! `cargo xtask demo`: a small cluster on this machine, with shunt on its nodes. See [`shunt_tests::demo`].

use std::process::ExitCode;

fn main() -> ExitCode {
    shunt_tests::demo::main()
}
