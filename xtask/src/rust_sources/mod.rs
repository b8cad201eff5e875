//! The standard library's sources, from which `core` is built for the BPF target.
//!
//! Tried in this order: what the toolchain has, `rustup component add rust-src`, Debian's package of the same compiler
//! version, a tarball named by `SHUNT_RUST_SRC_TARBALL`. The last two leave the toolchain alone: they go into an overlay
//! under target/tools, a folder of links to the toolchain with the sources added.

mod debian;
mod overlay;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace::Workspace};

/// Names a `.tar.xz` of the folder `library` of the compiler's own version.
const TARBALL: &str = "SHUNT_RUST_SRC_TARBALL";

/// Where the sources are within a toolchain.
const IN_SYSROOT: &str = "lib/rustlib/src/rust/library";

/// A compiler whose sysroot has the sources.
pub(crate) enum Compiler {
    /// The toolchain's own.
    Toolchain,
    /// A script that runs the toolchain's compiler with another sysroot.
    Overlay { rustc: PathBuf, sysroot: PathBuf },
}

impl Compiler {
    /// Has `cargo` use this compiler.
    pub(crate) fn apply(&self, cargo: &mut Command) {
        if let Self::Overlay { rustc, sysroot } = self {
            // SYSROOT is for clippy, which takes the compiler's place and would not see the script.
            cargo.env("RUSTC", rustc).env("SYSROOT", sysroot);
        }
    }
}

/// A compiler with sources.
pub(crate) fn provide(workspace: &Workspace) -> Result<Compiler> {
    let sysroot = PathBuf::from(process::output(rustc(workspace).args(["--print", "sysroot"]))?);
    if has_sources(&sysroot) || add_component(workspace, &sysroot) {
        return Ok(Compiler::Toolchain);
    }
    let version = compiler_version(workspace)?;
    let library = workspace.target(&format!("tools/rust-src-{version}/library"));
    if !library.join("Cargo.lock").is_file() {
        fetch(&version, &library)?;
    }
    overlay::make(&sysroot, &library, &workspace.target(&format!("tools/sysroot-{version}")))
}

fn rustc(workspace: &Workspace) -> Command {
    let mut command = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.current_dir(workspace.root());
    command
}

fn has_sources(sysroot: &Path) -> bool {
    sysroot.join(IN_SYSROOT).join("Cargo.lock").is_file()
}

fn add_component(workspace: &Workspace, sysroot: &Path) -> bool {
    let mut rustup = Command::new("rustup");
    rustup.current_dir(workspace.root()).args(["component", "add", "rust-src"]);
    if let Err(error) = process::run(&mut rustup) {
        process::say(&format!("rustup cannot provide rust-src: {error}"));
    }
    has_sources(sysroot)
}

fn compiler_version(workspace: &Workspace) -> Result<String> {
    let text = process::output(rustc(workspace).arg("--version"))?;
    let version = text.split_whitespace().nth(1).context("rustc --version says no version")?;
    Ok(version.to_owned())
}

/// Puts the folder `library` of compiler `version` at `library`, complete or not at all.
fn fetch(version: &str, library: &Path) -> Result<()> {
    let parent = library.parent().context("no folder to put the sources in")?;
    let scratch = parent.with_added_extension("part");
    let attempts: [(&str, &dyn Fn() -> Result<PathBuf>); 2] = [
        ("Debian's rust-src package", &|| debian::unpack_package(version, &scratch)),
        (TARBALL, &|| unpack_tarball(version, &scratch)),
    ];
    let mut reasons = Vec::new();
    for (name, attempt) in attempts {
        fs::remove_dir_all(&scratch).or_else(ignore_missing)?;
        fs::create_dir_all(&scratch)?;
        match attempt() {
            Ok(found) => return install(&found, library, &scratch),
            Err(error) => reasons.push(format!("  {name}: {error:#}")),
        }
    }
    bail!(
        "the sources of Rust {version}'s standard library are needed to build BPF programs, and cannot be had:\n{}\n\
         Run `rustup component add rust-src`, or set {TARBALL}.",
        reasons.join("\n")
    )
}

fn install(found: &Path, library: &Path, scratch: &Path) -> Result<()> {
    let parent = library.parent().context("no folder to put the sources in")?;
    fs::create_dir_all(parent)?;
    fs::remove_dir_all(library).or_else(ignore_missing)?;
    fs::rename(found, library)?;
    fs::remove_dir_all(scratch)?;
    Ok(())
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn unpack_tarball(version: &str, scratch: &Path) -> Result<PathBuf> {
    let tarball = env::var_os(TARBALL).context("not set")?;
    process::run(Command::new("tar").arg("-xJf").arg(&tarball).arg("-C").arg(scratch))?;
    find_library(scratch).with_context(|| {
        format!("{} has no folder `library` of Rust {version}", Path::new(&tarball).display())
    })
}

/// The folder `library` at or below `folder`.
fn find_library(folder: &Path) -> Result<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(candidate) = folders.pop() {
        if candidate.join("Cargo.lock").is_file() && candidate.join("core/Cargo.toml").is_file() {
            return Ok(candidate);
        }
        for entry in fs::read_dir(&candidate)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    bail!("no standard library sources in {}", folder.display())
}
