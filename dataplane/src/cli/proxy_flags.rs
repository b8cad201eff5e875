//! Flags about services and the proxy modes.

use clap::ArgAction::Set;

use super::flag_values::{BOOL, DURATION, LIST, NUMBER, go_bool};
use crate::config::GoDuration;

/// Local pods, node ports and masquerading.
#[derive(Clone, Debug, clap::Args)]
pub struct ProxyFlags {
    /// Pod ranges of the cluster, one or a comma-separated pair of both families
    #[arg(long, value_name = "CIDR", default_value = "")]
    pub cluster_cidr: String,
    /// How local pods are recognised: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix
    #[arg(long, value_name = "MODE", default_value = "")]
    pub detect_local_mode: String,
    /// Bridge of the pods, for mode BridgeInterface
    #[arg(long, value_name = "NAME", default_value = "")]
    pub pod_bridge_interface: String,
    /// Start of the names of pod interfaces, for mode InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub pod_interface_name_prefix: String,
    /// Ranges of the addresses that accept node ports, or the word primary
    #[arg(long, value_name = LIST, value_delimiter = ',', num_args = 1)]
    pub nodeport_addresses: Vec<String>,
    /// Masquerade everything sent to cluster IPs
    #[arg(long, value_name = BOOL, default_value = "false", action = Set, value_parser = go_bool)]
    pub masquerade_all: bool,
    /// Unused
    #[arg(long, value_name = "RANGE", default_value = "", hide = true)]
    pub proxy_port_range: String,
}

/// Named after the iptables mode, but for every mode except ipvs.
#[derive(Clone, Debug, clap::Args)]
pub struct IptablesFlags {
    /// Bit of the packet mark that asks for masquerading, 0 to 31, in every mode
    #[arg(long, value_name = NUMBER, default_value = "14")]
    pub iptables_masquerade_bit: i32,
    /// Accept node ports on 127.0.0.1
    #[arg(long, value_name = BOOL, default_value = "true", action = Set, value_parser = go_bool)]
    pub iptables_localhost_nodeports: bool,
    /// Time between two full syncs, in every mode except ipvs
    #[arg(long, value_name = DURATION, default_value = "30s")]
    pub iptables_sync_period: GoDuration,
    /// Least time between two syncs, in every mode except ipvs
    #[arg(long, value_name = DURATION, default_value = "1s")]
    pub iptables_min_sync_period: GoDuration,
}

/// The ipvs mode.
#[derive(Clone, Debug, clap::Args)]
pub struct IpvsFlags {
    /// Time between two full syncs
    #[arg(long, value_name = DURATION, default_value = "30s")]
    pub ipvs_sync_period: GoDuration,
    /// Least time between two syncs
    #[arg(long, value_name = DURATION, default_value = "1s")]
    pub ipvs_min_sync_period: GoDuration,
    /// Scheduler
    #[arg(long, value_name = "NAME", default_value = "")]
    pub ipvs_scheduler: String,
    /// Ranges whose virtual servers are left alone
    #[arg(long, value_name = LIST, value_delimiter = ',', num_args = 1)]
    pub ipvs_exclude_cidrs: Vec<String>,
    /// Set arp_ignore and arp_announce
    #[arg(long, value_name = BOOL, default_value = "false", action = Set, value_parser = go_bool)]
    pub ipvs_strict_arp: bool,
    /// Timeout of idle TCP connections
    #[arg(long, value_name = DURATION, default_value = "0s")]
    pub ipvs_tcp_timeout: GoDuration,
    /// Timeout of TCP connections after a FIN
    #[arg(long, value_name = DURATION, default_value = "0s")]
    pub ipvs_tcpfin_timeout: GoDuration,
    /// Timeout of UDP flows
    #[arg(long, value_name = DURATION, default_value = "0s")]
    pub ipvs_udp_timeout: GoDuration,
}
