//! What the operator decides about the eBPF dataplane.

use std::path::PathBuf;

use super::order::Order;
use super::sizes::Sizes;
use crate::domain::LocalDetector;
use crate::plan::PerFamily;

/// Whose sockets are connected to backends in place of frontends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// Those of every process in the cgroup.
    All,
    /// Only those in the host's network namespace.
    Host,
    /// None: packets are translated one by one.
    Off,
}

/// How packet programs get onto interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attaching {
    /// Where among the tcx programs of others.
    pub order: Order,
    /// Classic filters although the kernel has tcx.
    pub only_filters: bool,
    /// Priority of classic filters among those of others; the lowest runs first.
    pub filter_priority: u16,
}

impl Default for Attaching {
    fn default() -> Self {
        Self { order: Order::default(), only_filters: false, filter_priority: super::classic::PRIORITY }
    }
}

/// Settings of the eBPF dataplane; they do not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cgroup v2 directory for socket load balancing; `unified` below it is found too.
    pub cgroup_root: PathBuf,
    /// Where the BPF file system is.
    pub bpffs_root: PathBuf,
    /// Whose sockets are balanced.
    pub sockets: Sockets,
    /// How packet programs get onto interfaces.
    pub attaching: Attaching,
    /// How local pods are told from other clients.
    pub detectors: PerFamily<LocalDetector>,
    /// The packet mark bit that asks for masquerading.
    pub masquerade_mark: u32,
    /// Masquerade every client of a cluster IP.
    pub masquerade_all: bool,
    /// Node ports are wanted on loopback addresses, which only sockets can reach.
    pub loopback_node_ports: bool,
    /// Packets between interfaces of this node leave the host's stack out.
    pub accelerate: bool,
    /// Elements of the maps.
    pub sizes: Sizes,
    /// Seconds after which an idle established TCP connection is forgotten.
    pub tcp_idle_seconds: u64,
}

#[cfg(test)]
impl Settings {
    /// For tests that change one thing or another.
    pub(super) fn for_tests(sockets: Sockets) -> Self {
        Self {
            cgroup_root: "/".into(),
            bpffs_root: "/".into(),
            sockets,
            attaching: Attaching::default(),
            detectors: PerFamily::default(),
            masquerade_mark: 0x4000,
            masquerade_all: false,
            loopback_node_ports: false,
            accelerate: false,
            sizes: Sizes::of_this_node(&super::sizes::Wanted::default(), false),
            tcp_idle_seconds: 60,
        }
    }
}
