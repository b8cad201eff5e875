//! Finds the BPF objects that the agent embeds, and has the agent rebuilt when they change.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Names another folder than target/bpf, where `cargo xtask build-ebpf` leaves the objects.
const OVERRIDE: &str = "SHUNT_BPF_OBJECTS";

/// The variable by which the code finds each object, and the object's name.
const OBJECTS: [(&str, &str); 2] =
    [("SHUNT_DATAPATH_OBJECT_PATH", "shunt-datapath"), ("SHUNT_PROBE_OBJECT_PATH", "shunt-probe")];

fn main() {
    tell_cargo("rerun-if-env-changed", OVERRIDE);
    let folder = folder();
    for (variable, name) in OBJECTS {
        let object = folder.join(name);
        tell_cargo("rerun-if-changed", &object.display().to_string());
        if object.is_file() {
            tell_cargo("rustc-env", &format!("{variable}={}", object.display()));
        } else {
            tell_cargo("error", &missing(&object));
        }
    }
}

fn folder() -> PathBuf {
    if let Some(path) = env::var_os(OVERRIDE) {
        return PathBuf::from(path);
    }
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    manifest.parent().unwrap_or(Path::new(".")).join("target/bpf")
}

fn missing(object: &Path) -> String {
    format!(
        "the BPF object {} does not exist: run `cargo xtask build-ebpf` first (or set {OVERRIDE} to a folder with objects)",
        object.display()
    )
}

fn tell_cargo(key: &str, value: &str) {
    println!("cargo::{key}={value}");
}
