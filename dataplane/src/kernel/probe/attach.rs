//! Links and filters: tried for a moment with programs that change nothing.

use std::{fs::File, io, path::Path, thread};

use nix::sched::{CloneFlags, unshare};

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
        .or_else("clsact filters take their place")
}

/// Whether programs attach to packets at all: a tcx link does, or else a filter on the loopback interface of a network
/// namespace made for it, where the queueing discipline that filters need is in nobody's way.
pub(super) fn packets(tcx: &Feature) -> Feature {
    let outcome = if tcx.available { Ok("by a tcx link".to_owned()) } else { try_filter() };
    Feature::tried("programs on packets", Need::Datapath, outcome)
}

fn try_filter() -> Result<String, String> {
    let tried = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|error| format!("a network namespace to try it in: {error}"))?;
        let attached =
            PacketProbe::load().and_then(|mut probe| probe.attach_filter("lo", Direction::Ingress));
        attached.map_err(|error| error.reason())
    });
    let outcome = tried.join().unwrap_or_else(|_panic| Err("trying it failed".to_owned()));
    outcome.map(|()| "by a clsact filter".to_owned())
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

/// The folder for pins is of the BPF file system.
pub(super) fn bpf_file_system(root: &Path) -> Feature {
    const NAME: &str = "BPF file system";
    let found = nix::sys::statfs::statfs(root).map_err(io::Error::from);
    let outcome = match found {
        Ok(found) if found.filesystem_type() == BPF_FS => Ok(format!("at {}", root.display())),
        Ok(_) => Err(format!("none is mounted at {}", root.display())),
        Err(error) => Err(format!("{}: {error}", root.display())),
    };
    Feature::tried(NAME, Need::Datapath, outcome)
}

/// `BPF_FS_MAGIC`
const BPF_FS: nix::sys::statfs::FsType = nix::sys::statfs::FsType(0xcafe_4a11);
