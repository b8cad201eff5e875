//! The configuration as its users meet it: command lines and files in, settings, warnings and errors out.

mod defaults;
mod files;
mod flags;
mod kubeadm;
mod strictness;
mod validation;
mod warnings;

use std::fs;

use super::{ConfigError, FieldError, Loaded, load};
use crate::cli::Args;

/// First lines of each file.
const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
const SHUNT_HEAD: &str = "---\napiVersion: shunt.dev/v1alpha1\nkind: ShuntConfiguration\n";

fn args(flags: &[&str]) -> Args {
    Args::parse_from(["shunt"].iter().chain(flags)).unwrap()
}

/// Loads a file of this text, with these flags besides `--config`.
fn load_text(text: &str, flags: &[&str]) -> Result<Loaded, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.conf");
    fs::write(&path, text).unwrap();
    let mut args = args(flags);
    args.process.config = path.to_str().unwrap().to_owned();
    load(&args)
}

/// Loads a KubeProxyConfiguration with these lines.
fn load_lines(lines: &str) -> Result<Loaded, ConfigError> {
    load_text(&format!("{HEAD}{lines}"), &[])
}

fn load_flags(flags: &[&str]) -> Result<Loaded, ConfigError> {
    load(&args(flags))
}

/// The errors of values, in the order in which they were found.
fn field_errors(result: Result<Loaded, ConfigError>) -> Vec<FieldError> {
    match result.unwrap_err() {
        ConfigError::Invalid { errors, .. } => errors.0,
        other => panic!("{other}"),
    }
}

/// The paths of fields with errors.
fn invalid_paths(result: Result<Loaded, ConfigError>) -> Vec<String> {
    field_errors(result).into_iter().map(|error| error.path).collect()
}
