//! What `cargo xtask kernels` runs inside of its virtual machines. See [`shunt_tests::guest`].

use std::process::ExitCode;

fn main() -> ExitCode {
    shunt_tests::guest::main()
}
