//! `cargo xtask ci`: everything that has to hold before a merge, quick checks first, the tests last.

use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::{
    build_ebpf, kernels, lint_check, packages,
    process::{self, cargo},
    test,
    workspace::Workspace,
};

type Stage = (&'static str, fn(&Workspace) -> Result<()>);

const STAGES: [Stage; 9] = [
    ("format", format),
    ("lint tables", lint_check::run),
    ("system packages", |_| packages::ensure()),
    ("BPF programs", build_ebpf::run),
    ("clippy, BPF", clippy_bpf),
    ("clippy, host", clippy_host),
    ("documentation", documentation),
    ("licences and advisories", deny),
    ("kernels", |workspace| kernels::run(workspace, &kernels::Arguments::default())),
];

/// Runs the stages, then the tests; the first that fails ends it. The tests' summary is the last thing printed.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    for (name, stage) in STAGES {
        process::say(&format!("== {name}"));
        let start = Instant::now();
        stage(workspace).with_context(|| format!("stage {name:?}"))?;
        process::say(&format!("== {name}: passed in {:.0?}", start.elapsed()));
    }
    process::say("== tests");
    test::run(workspace, &test::Arguments::default())
}

fn format(workspace: &Workspace) -> Result<()> {
    process::run(cargo(workspace).args(["fmt", "--all", "--check"]))?;
    process::run(cargo(workspace).args(["fmt", "--manifest-path", "ebpf/Cargo.toml", "--check"]))
}

/// Benchmarks included, which nothing else here compiles.
fn clippy_host(workspace: &Workspace) -> Result<()> {
    let lint = ["clippy", "--workspace", "--all-targets", "--features", "shunt/workbench"];
    process::run(cargo(workspace).args(lint).args(["--", "-D", "warnings"]))
}

fn clippy_bpf(workspace: &Workspace) -> Result<()> {
    process::run(build_ebpf::cargo_for_bpf(workspace, "clippy")?.args(["--", "-D", "warnings"]))
}

fn documentation(workspace: &Workspace) -> Result<()> {
    process::run(
        cargo(workspace)
            .args(["doc", "--workspace", "--no-deps", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn deny(workspace: &Workspace) -> Result<()> {
    if !process::succeeds(cargo(workspace).args(["deny", "--version"])) {
        process::say("cargo-deny is not installed here: licences and advisories are not checked");
        return Ok(());
    }
    process::run(cargo(workspace).args(["deny", "check"]))
}
