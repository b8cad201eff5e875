//! Programs that return at once, on the hooks where the eBPF dataplane has its own: what is left of its cost if it did nothing.

use std::fs;

use anyhow::{Context, Result};
use shunt::kernel::ebpf::{AttachedProgram, Direction};

use super::site::Site;

/// Name of the lane.
pub(super) const LANE: &str = "empty tcx programs";

/// One program on both sides of every interface of a node, until this is dropped.
#[derive(Debug)]
pub(super) struct EmptyPrograms {
    _program: AttachedProgram,
}

impl EmptyPrograms {
    pub(super) fn attach(site: &Site) -> Result<Self> {
        site.node().host().namespace().run(|| {
            // It is never run on its own, so on no interface.
            let mut program = AttachedProgram::empty(0, 0)?;
            for interface in interfaces()? {
                for direction in [Direction::Ingress, Direction::Egress] {
                    program
                        .attach(&interface, direction)
                        .with_context(|| format!("attaching to {interface}"))?;
                }
            }
            Ok(Self { _program: program })
        })?
    }
}

/// Names of the interfaces in the calling thread's namespace.
fn interfaces() -> Result<Vec<String>> {
    let devices = fs::read_to_string("/proc/thread-self/net/dev").context("cannot list the interfaces")?;
    Ok(devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect())
}
