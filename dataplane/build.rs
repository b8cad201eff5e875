//! Finds the BPF object that the agent embeds, and has the agent rebuilt when it changes.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Names another object than the one `cargo xtask build-ebpf` leaves under `target/bpf`.
const OVERRIDE: &str = "SHUNT_BPF_OBJECT";

fn main() {
    tell_cargo("rerun-if-env-changed", OVERRIDE);
    let object = object_path();
    tell_cargo("rerun-if-changed", &object.display().to_string());
    if object.is_file() {
        tell_cargo("rustc-env", &format!("SHUNT_BPF_OBJECT_PATH={}", object.display()));
    } else {
        tell_cargo("error", &missing(&object));
    }
}

fn object_path() -> PathBuf {
    if let Some(path) = env::var_os(OVERRIDE) {
        return PathBuf::from(path);
    }
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    manifest.parent().unwrap_or(Path::new(".")).join("target/bpf/shunt-ebpf")
}

fn missing(object: &Path) -> String {
    format!(
        "the BPF object {} does not exist: run `cargo xtask build-ebpf` first (or set {OVERRIDE} to an object)",
        object.display()
    )
}

fn tell_cargo(key: &str, value: &str) {
    println!("cargo::{key}={value}");
}
