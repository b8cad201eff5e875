//! BPF programs on the interfaces of a namespace, as the kernel lists them.

use std::fs;

use anyhow::{Context, Result};
use aya::programs::{SchedClassifier, TcAttachType};

use super::Namespace;

/// Each program attached by tcx: `INTERFACE DIRECTION: NAME`.
pub fn attached_programs(namespace: &Namespace) -> Result<Vec<String>> {
    namespace.run(|| {
        let devices =
            fs::read_to_string("/proc/thread-self/net/dev").context("cannot list the interfaces")?;
        let names = devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
        let mut found = Vec::new();
        for name in names {
            for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
                let (_, programs) = SchedClassifier::query_tcx(name, direction)
                    .with_context(|| format!("cannot ask for the programs of {name}"))?;
                let words = |program: &str| format!("{name} {direction:?}: {program}");
                found.extend(programs.iter().map(|program| words(program.name_as_str().unwrap_or("?"))));
            }
        }
        Ok(found)
    })?
}
