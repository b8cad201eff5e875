//! Flags about the agent itself, its servers and the API server, and our own flags.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::ArgAction::Set;

use super::flag_values::{BOOL, DURATION, FeatureGates, NUMBER, go_bool, version_bool};
use crate::config::{Acceleration, GoDuration, SocketLb};

/// What the process does, and where its configuration comes from.
#[derive(Clone, Debug, clap::Args)]
pub struct ProcessFlags {
    /// Configuration file; with it, only logging flags, --hostname-override, --master and shunt's own flags count
    #[arg(long, value_name = "FILE", default_value = "")]
    pub config: String,
    /// Write the configuration to this file and exit
    #[arg(long, value_name = "FILE", default_value = "")]
    pub write_config_to: String,
    /// Remove everything that shunt and kube-proxy have left on this node and exit
    #[arg(long, value_name = BOOL, default_value = "false", action = Set, value_parser = go_bool)]
    pub cleanup: bool,
    /// Do what needs full privileges and exit; afterwards CAP_NET_ADMIN is enough
    #[arg(long, value_name = BOOL, default_value = "false", action = Set, value_parser = go_bool)]
    pub init_only: bool,
    /// Print the version and exit
    #[arg(long, value_name = BOOL, default_value = "false", action = Set, value_parser = version_bool)]
    pub version: bool,
    /// Feature gates of Kubernetes; shunt has none
    #[arg(long, value_name = "NAME=BOOL,...", default_value = "")]
    pub feature_gates: FeatureGates,
}

/// How to reach the API server, and which node this is.
#[derive(Clone, Debug, clap::Args)]
pub struct ApiFlags {
    /// Kubeconfig file
    #[arg(long, value_name = "FILE", default_value = "")]
    pub kubeconfig: String,
    /// URL of the API server; overrides the kubeconfig's
    #[arg(long, value_name = "URL", default_value = "")]
    pub master: String,
    /// Encoding of requests
    #[arg(long, value_name = "TYPE", default_value = "application/vnd.kubernetes.protobuf")]
    pub kube_api_content_type: String,
    /// Requests a second
    #[arg(long, value_name = NUMBER, default_value = "5")]
    pub kube_api_qps: f64,
    /// Requests that may be sent at once
    #[arg(long, value_name = NUMBER, default_value = "10")]
    pub kube_api_burst: i32,
    /// How often everything is read again from the API server
    #[arg(long, value_name = DURATION, default_value = "15m0s")]
    pub config_sync_period: GoDuration,
    /// Name of this node; the host name if empty
    #[arg(long, value_name = "NAME", default_value = "")]
    pub hostname_override: String,
}

/// The health and metrics servers.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerFlags {
    /// Overrides the node's primary address; nothing is bound to it
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Make a failure to bind a port fatal
    #[arg(long, value_name = BOOL, default_value = "false", action = Set, value_parser = go_bool)]
    pub bind_address_hard_fail: bool,
    /// Address of the health server; empty disables it
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:10256")]
    pub healthz_bind_address: String,
    /// Address of the metrics server; empty disables it
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10249")]
    pub metrics_bind_address: String,
    /// Port of the health server; 0 disables it
    #[arg(long, value_name = NUMBER, default_value = "10256", hide = true)]
    pub healthz_port: u16,
    /// Port of the metrics server; 0 disables it
    #[arg(long, value_name = NUMBER, default_value = "10249", hide = true)]
    pub metrics_port: u16,
    /// Serve profiles on the metrics server
    #[arg(long, value_name = BOOL, default_value = "false", action = Set, value_parser = go_bool)]
    pub profiling: bool,
    /// Version whose hidden metrics to show
    #[arg(long, value_name = "VERSION", default_value = "")]
    pub show_hidden_metrics_for_version: String,
}

/// Flags that kube-proxy does not have. They also count with --config, and win over the file.
#[derive(Clone, Debug, clap::Args)]
pub struct OwnFlags {
    /// Dataplane: auto (ebpf where the kernel can), nftables or ebpf; iptables and ipvs are taken as nftables
    #[arg(long, value_name = "MODE", default_value = "")]
    pub proxy_mode: String,
    /// cgroup v2 directory whose processes get socket load balancing
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/cgroup", global = true)]
    pub cgroup_root: PathBuf,
    /// Mount point of the BPF file system
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf", global = true)]
    pub bpffs_root: PathBuf,
    /// Whose sockets are balanced at connect time
    #[arg(long, value_name = "WHOSE", default_value = "all")]
    pub socket_lb: SocketLb,
    /// How packets for backends on other nodes leave
    #[arg(long, value_name = "HOW", default_value = "off")]
    pub acceleration: Acceleration,
    /// Read Services and EndpointSlices from this directory instead of an API server
    #[arg(long, value_name = "DIR", default_value = "")]
    pub manifests: String,
}
