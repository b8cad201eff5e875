//! `cargo xtask lint-check`: a lint table that no crate inherits protects nothing.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    process::{self, cargo},
    workspace::Workspace,
};

/// Fails if a member does not inherit the workspace's lints, or the BPF crate, which cannot, has others.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut faults = Vec::new();
    for manifest in member_manifests(workspace)? {
        let text = fs::read_to_string(&manifest)?;
        if entries(&text, "lints").get("workspace").map(String::as_str) != Some("true") {
            faults.push(format!("{} does not have `[lints] workspace = true`", manifest.display()));
        }
    }
    faults.extend(differences(
        &fs::read_to_string(workspace.path("Cargo.toml"))?,
        &fs::read_to_string(workspace.path("ebpf/Cargo.toml"))?,
    ));
    if faults.is_empty() { Ok(()) } else { bail!("lint tables:\n  {}", faults.join("\n  ")) }
}

fn member_manifests(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let text = process::output(cargo(workspace).args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
    let packages =
        metadata.get("packages").and_then(Value::as_array).context("cargo metadata has no packages")?;
    Ok(packages
        .iter()
        .filter_map(|package| package.get("manifest_path").and_then(Value::as_str))
        .map(PathBuf::from)
        .collect())
}

/// Lints of the workspace's table that `ebpf` lacks or has at another level.
fn differences(workspace: &str, ebpf: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for tool in ["rust", "clippy"] {
        let own = entries(ebpf, &format!("lints.{tool}"));
        for (lint, level) in entries(workspace, &format!("workspace.lints.{tool}")) {
            if own.get(&lint) != Some(&level) {
                faults.push(format!("ebpf/Cargo.toml: [lints.{tool}] should have `{lint} = {level}`"));
            }
        }
    }
    faults
}

/// The `key = value` lines of a table of a manifest.
fn entries(manifest: &str, table: &str) -> BTreeMap<String, String> {
    let header = format!("[{table}]");
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != header).skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lint_that_the_bpf_crate_lacks_or_weakens_is_named() {
        let workspace =
            "[workspace.lints.rust]\na = \"deny\"\nb = \"warn\"\n\n[workspace.lints.clippy]\nc = \"warn\"\n";
        let ebpf =
            "[lints.rust]\na = \"allow\"\n# b = \"warn\"\n[lints.clippy]\nc = \"warn\"\nextra = \"warn\"\n";
        assert_eq!(
            differences(workspace, ebpf),
            [
                "ebpf/Cargo.toml: [lints.rust] should have `a = \"deny\"`",
                "ebpf/Cargo.toml: [lints.rust] should have `b = \"warn\"`",
            ]
        );
    }

    #[test]
    fn a_table_ends_where_the_next_one_begins() {
        assert!(entries("[lints]\n[dependencies]\nworkspace = true\n", "lints").is_empty());
        assert_eq!(entries("[lints]\nworkspace = true\n", "lints")["workspace"], "true");
    }
}
