//! Links: tried for a moment with programs that change nothing.

use std::{fs::File, path::Path};

use super::{
    cgroup::find_cgroup2,
    connect::ConnectProbeProgram,
    object::ProbeError,
    packet::{Direction, PacketProbe},
    report::{Feature, Need},
};

/// A tcx link (kernel 6.6 and later): pinned and replaced atomically, it is what upgrades without a gap rest on.
pub(super) fn tcx(interface: &str) -> Feature {
    let outcome = PacketProbe::load().and_then(|mut probe| {
        for direction in [Direction::Ingress, Direction::Egress] {
            let link = probe.attach(interface, direction)?;
            probe.detach(link)?;
        }
        Ok(format!("attached to {interface}, both directions"))
    });
    Feature::tried("tcx link", Need::Datapath, outcome.map_err(|error| error.reason()))
}

/// A cgroup link in the cgroup that socket load balancing would use: another owner's exclusive program shows here.
pub(super) fn connect4(cgroup: Option<&Path>) -> Feature {
    Feature::tried("cgroup connect4 link", Need::SocketLb, try_connect4(cgroup))
}

fn try_connect4(cgroup: Option<&Path>) -> Result<String, String> {
    let path = match cgroup {
        Some(path) => path.to_owned(),
        None => find_cgroup2().map_err(|error| error.to_string())?,
    };
    let directory = File::open(&path).map_err(|error| format!("cgroup {}: {error}", path.display()))?;
    attach(&directory).map_err(|error| format!("cgroup {}: {}", path.display(), error.reason()))?;
    Ok(format!("attached to {}", path.display()))
}

fn attach(directory: &File) -> Result<(), ProbeError> {
    let mut probe = ConnectProbeProgram::load()?;
    probe.attach(directory)?;
    Ok(())
}
