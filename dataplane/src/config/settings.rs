//! The effective, typed settings that the agent runs with.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::local_mode::LocalMode;
use super::mode::Mode;
use crate::domain::IpFamily;
use crate::kernel::ebpf::{Attaching, WantedSizes};

/// Everything the agent is told by flags and files, checked and converted.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Name of this node's Node object.
    pub node_name: String,
    /// Which dataplane to run.
    pub mode: Mode,
    /// The node address that overrides the first one of the Node object, and so decides the primary family; `None` if
    /// `bindAddress` is unspecified (`0.0.0.0`, `::`) and the Node object decides.
    pub bind_address: Option<IpAddr>,
    /// Bit of the packet mark that asks for masquerading, 0 to 31.
    pub masquerade_bit: u8,
    /// Masquerade everything sent to cluster IPs.
    pub masquerade_all: bool,
    /// How pods of this node are recognised.
    pub local_mode: LocalMode,
    /// Which node addresses accept node ports.
    pub node_port_addresses: NodePortAddresses,
    /// Which loopback addresses accept node ports, where the dataplane can.
    pub localhost_node_ports: LocalhostNodePorts,
    /// Time between two full syncs; health turns bad when a change waits for twice as long.
    pub sync_period: Duration,
    /// Least time between two syncs.
    pub min_sync_period: Duration,
    /// Kernel connection tracking.
    pub conntrack: Conntrack,
    /// Health and metrics servers.
    pub servers: Servers,
    /// How to reach the API server.
    pub client: Client,
    /// Score for the kernel's out-of-memory killer, -1000 to 1000.
    pub oom_score_adj: i16,
    /// Logs.
    pub logging: Logging,
    /// How many Services may have metrics of their own.
    pub service_metrics: usize,
    /// Read objects from this directory instead of an API server.
    pub manifests: Option<PathBuf>,
    /// Settings of the eBPF dataplane.
    pub ebpf: Ebpf,
}

impl Settings {
    /// The packet mark that asks for masquerading: the bit as a number, host byte order.
    pub const fn masquerade_mark(&self) -> u32 {
        1 << self.masquerade_bit
    }

    /// The primary family, if `bindAddress` decides it.
    pub fn primary_family(&self) -> Option<IpFamily> {
        self.bind_address.map(IpFamily::of)
    }
}

/// `nodePortAddresses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The node's primary addresses, one a family; also when nothing is configured, as in kube-proxy's nftables mode.
    Primary,
    /// All local addresses inside these ranges; never empty.
    Cidrs(Vec<IpNet>),
}

/// `iptables.localhostNodePorts`, as far as `nodePortAddresses` leaves loopback addresses in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalhostNodePorts {
    /// 127.0.0.1 is among the addresses: there are none to choose from, or a range holds it.
    pub ipv4: bool,
    /// ::1 likewise.
    pub ipv6: bool,
    /// The setting itself: without it not even a range that names loopback addresses brings them in.
    pub named: bool,
}

/// `conntrack`. `None` leaves the kernel's value alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// Entries for each CPU; 0 leaves the limit alone, whatever `min` says.
    pub max_per_core: u32,
    /// Least number of entries.
    pub min: u32,
    /// Life of an idle established TCP connection.
    pub tcp_established_timeout: Option<Duration>,
    /// Life of an entry in CLOSE_WAIT.
    pub tcp_close_wait_timeout: Option<Duration>,
    /// Life of an unreplied UDP entry.
    pub udp_timeout: Option<Duration>,
    /// Life of an assured UDP entry.
    pub udp_stream_timeout: Option<Duration>,
    /// Take out-of-window TCP segments for valid; false leaves the kernel's value alone.
    pub tcp_be_liberal: bool,
}

/// The servers for health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// Health server, `None` for none.
    pub healthz: Option<SocketAddr>,
    /// Metrics server, `None` for none.
    pub metrics: Option<SocketAddr>,
    /// A failure to bind one of them ends the agent; otherwise it tries again every 5 seconds.
    pub bind_hard_fail: bool,
    /// Serve profiles on the metrics server.
    pub profiling: bool,
}

/// How to reach the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Path of a kubeconfig file; without one (and without `master`) in-cluster credentials are used.
    pub kubeconfig: Option<PathBuf>,
    /// URL that replaces the one of the kubeconfig.
    pub master: Option<String>,
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// How a line looks.
    pub format: LogFormat,
    /// klog's `-v`.
    pub verbosity: u32,
    /// File patterns with verbosities of their own; the first that matches counts.
    pub vmodule: Vec<(String, u32)>,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings of the eBPF dataplane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ebpf {
    /// The cgroup v2 directory whose processes get socket load balancing.
    pub cgroup_root: PathBuf,
    /// Where the BPF file system is mounted.
    pub bpffs_root: PathBuf,
    /// Whose sockets are balanced at connect time.
    pub socket_lb: SocketLb,
    /// How packets between clients and backends on this node go.
    pub acceleration: Acceleration,
    /// How packet programs get onto interfaces.
    pub attaching: Attaching,
    /// How much the maps can hold.
    pub maps: WantedSizes,
}

/// Whose sockets are balanced at connect time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SocketLb {
    /// Those of the host and of pods.
    All,
    /// Only those of the host's network namespace.
    Host,
    /// None: packets are translated one by one.
    Off,
}

/// How packets between clients and backends behind interfaces of this node go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Acceleration {
    /// Through the network stack.
    Off,
    /// Past it, from one interface to the other, by tc programs.
    Tc,
    /// As with `Tc`: no XDP programs are there.
    Xdp,
}
