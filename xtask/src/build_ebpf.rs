//! `cargo xtask build-ebpf`: the BPF programs, to objects under target/bpf, which the agent embeds.

use std::{env, ffi::OsString, fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    bpf_linker,
    process::{self, cargo},
    rust_sources,
    workspace::Workspace,
};

/// The binaries of the BPF crate, and the names of the objects.
pub(crate) const OBJECTS: [&str; 2] = ["shunt-datapath", "shunt-probe"];

/// What to build.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Programs that log what becomes of packets, to target/bpf/log: for an agent built with SHUNT_BPF_OBJECTS=target/bpf/log
    #[arg(long)]
    log: bool,
}

/// Builds the objects as the agent embeds them.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    build(workspace, &Arguments { log: false })
}

/// Builds the objects. When nothing changed this takes a second and leaves the files as they were, so that the agent is
/// not built again.
pub(crate) fn build(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let folder = if arguments.log { "bpf/log" } else { "bpf" };
    let mut command = cargo_for_bpf(workspace, "build")?;
    command.arg("--locked");
    if arguments.log {
        command.args(["--features", "log"]);
    }
    process::run(&mut command)?;
    fs::create_dir_all(workspace.target(folder))?;
    for object in OBJECTS {
        let built = workspace.target(&format!("bpf/build/bpfel-unknown-none/release/{object}"));
        copy_if_changed(&built, &workspace.target(&format!("{folder}/{object}")))?;
    }
    Ok(())
}

/// `cargo SUBCOMMAND` on the BPF crate: sources and linker provided, `core` built with the stable compiler in bootstrap
/// mode.
pub(crate) fn cargo_for_bpf(workspace: &Workspace, subcommand: &str) -> Result<Command> {
    let compiler = rust_sources::provide(workspace)?;
    let linker = bpf_linker::provide(workspace)?;
    let mut command = cargo(workspace);
    // The crate's own .cargo/config.toml names target and flags; cargo reads it from the current folder only.
    command.current_dir(workspace.path("ebpf"));
    command.args([subcommand, "--release", "--target-dir"]).arg(workspace.target("bpf/build"));
    command.env("RUSTC_BOOTSTRAP", "1").env("PATH", path_with(&linker)?);
    // Flags for the host would take the place of those in the crate's configuration.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
    compiler.apply(&mut command);
    Ok(command)
}

/// `PATH` with the linker's folder in front.
fn path_with(linker: &Path) -> Result<OsString> {
    let folder = linker.parent().context("bpf-linker is in no folder")?.to_owned();
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths([folder].into_iter().chain(env::split_paths(&path)))?)
}

fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let object = fs::read(from).with_context(|| format!("cargo left no object at {}", from.display()))?;
    if fs::read(to).is_ok_and(|present| present == object) {
        return Ok(());
    }
    fs::write(to, object).with_context(|| format!("cannot write {}", to.display()))?;
    process::say(&format!("new BPF object {}", to.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_did_not_change_is_not_written_again() {
        let folder = env::temp_dir().join(format!("shunt-object-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (built, kept) = (folder.join("built"), folder.join("kept"));
        fs::write(&built, "one").unwrap();
        copy_if_changed(&built, &kept).unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&kept).unwrap().set_modified(long_ago).unwrap();

        copy_if_changed(&built, &kept).unwrap();
        assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), long_ago);

        fs::write(&built, "two").unwrap();
        copy_if_changed(&built, &kept).unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "two");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_build_that_left_nothing_is_an_error_that_names_the_file() {
        let error = copy_if_changed(Path::new("/nowhere/built"), Path::new("/nowhere/kept")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/built"), "{error}");
    }
}
