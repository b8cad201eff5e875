//! bpf-linker, which turns LLVM bitcode into a BPF object.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, ensure};

use crate::{
    process::{self, cargo},
    workspace::Workspace,
};

/// The last version that can load the LLVM within the Rust toolchain; later ones need an LLVM of their own.
const VERSION: &str = "0.10.4";

/// A bpf-linker of the right version: the one on `PATH`, or one built into target/tools.
pub(crate) fn provide(workspace: &Workspace) -> Result<PathBuf> {
    let private = workspace.target("tools/bin/bpf-linker");
    let candidates = process::find("bpf-linker").into_iter().chain([private.clone()]);
    if let Some(linker) = candidates.into_iter().find(is_right_version) {
        return Ok(linker);
    }
    install(workspace)?;
    ensure!(
        is_right_version(&private),
        "{} is not bpf-linker {VERSION} although just built",
        private.display()
    );
    Ok(private)
}

fn is_right_version(linker: &PathBuf) -> bool {
    process::output(Command::new(linker).arg("--version"))
        .is_ok_and(|version| version.split_whitespace().any(|word| word == VERSION))
}

fn install(workspace: &Workspace) -> Result<()> {
    let root = workspace.target("tools");
    process::run(
        cargo(workspace)
            .args(["install", "bpf-linker", "--locked", "--force", "--version", VERSION, "--root"])
            .arg(root),
    )
}
