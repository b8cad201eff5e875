//! What this kernel can do for the eBPF dataplane, found out by doing it.
//!
//! Mode `auto` and `shunt status` ask [`probe_kernel`]. Each feature is tried by itself, so that the answer names what
//! is missing and why; without the privileges (`CAP_BPF`, `CAP_NET_ADMIN`) the answer is just that.
//! Nothing is left behind: maps, programs and links go away with their file descriptors, the programs refuse no
//! connection and change no packet.

mod attach;
mod cgroup;
mod connect;
mod features;
mod mapping;
mod object;
mod packet;
mod report;
mod sample;

use std::path::PathBuf;

pub use cgroup::{CgroupError, find_cgroup2};
pub use connect::ConnectProbeProgram;
pub use object::ProbeError;
pub use packet::{Direction, PacketProbe};
pub use report::{Feature, Need, Report};
pub use sample::{GsoFacts, SamplePacket};

/// What to try the features on.
#[derive(Clone, Debug, Default)]
pub struct ProbeOptions {
    /// The cgroup v2 directory that socket load balancing would attach to; found in the mount table if `None`.
    pub cgroup: Option<PathBuf>,
    /// Leave cgroups alone, because socket load balancing is not wanted.
    pub without_cgroup: bool,
    /// Where the BPF file system should be; not looked at if `None`.
    pub bpffs: Option<PathBuf>,
    /// The interface that the tcx link is tried on; the loopback interface if `None`.
    pub interface: Option<String>,
}

/// Tries what acceleration needs of this kernel besides the datapath.
pub fn probe_acceleration() -> Report {
    super::allow_maps();
    let mut features = features::helpers();
    features.retain(|feature| feature.need == Need::Acceleration);
    // Verifiers of kernels without tcx links give up on what accelerates: it takes more than they look at.
    features.push(Feature { need: Need::Acceleration, without: None, ..attach::tcx("lo") });
    Report { features }
}

/// Tries everything that the eBPF dataplane needs of this kernel. Never fails: what cannot be tried is reported as
/// unavailable, with the reason. Blocks for some tens of milliseconds (a debug build: a third of a second), in which the
/// loader reads the kernel's type information.
pub fn probe_kernel(options: &ProbeOptions) -> Report {
    super::allow_maps();
    if let Some(denied) = features::denied() {
        return Report { features: denied };
    }
    let mut features = features::maps();
    features.extend(features::helpers());
    features.extend(features::programs());
    features.extend(packet::features());
    features.extend(options.bpffs.as_deref().map(attach::bpf_file_system));
    let tcx = attach::tcx(options.interface.as_deref().unwrap_or("lo"));
    features.push(attach::packets(&tcx));
    features.push(tcx);
    if !options.without_cgroup {
        features.push(attach::connect4(options.cgroup.as_deref()));
    }
    Report { features }
}
