//! KubeProxyConfiguration, `kubeproxy.config.k8s.io/v1alpha1`: the document as it is written, field by field.
//!
//! A freshly read document holds zero values where nothing was written; `defaults` fills them in and `validation` checks
//! the result. Serialised, it is the v1alpha1 shape again. Unlike kube-proxy, which keeps one shared pair of sync periods
//! and dumps zeros for the modes that are not selected, each section keeps its own values.

use std::collections::BTreeMap;

use super::duration::GoDuration;
use super::logging_document::LoggingConfiguration;
use super::section::section;

/// `apiVersion` of the document.
pub(super) const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// `kind` of the document.
pub(super) const KIND: &str = "KubeProxyConfiguration";

section! {
    /// The whole document.
    pub struct KubeProxyConfiguration {
        /// Always `kubeproxy.config.k8s.io/v1alpha1`.
        pub api_version: String,
        /// The node address that overrides the first address of the Node object; nothing is bound to it.
        pub bind_address: String,
        /// Makes a failure to bind the health or metrics address fatal.
        pub bind_address_hard_fail: bool,
        /// How to reach the API server.
        pub client_connection: ClientConnection,
        /// Pod ranges of the cluster, one or a comma-separated pair of both families.
        #[serde(rename = "clusterCIDR")]
        pub cluster_cidr: String,
        /// How often everything is read again from the API server.
        pub config_sync_period: GoDuration,
        /// Connection tracking.
        pub conntrack: Conntrack,
        /// Arguments of some of the modes of `detect_local_mode`.
        pub detect_local: DetectLocal,
        /// How pods of this node are recognised.
        pub detect_local_mode: String,
        /// Serves profiles on the metrics address.
        pub enable_profiling: bool,
        /// Kubernetes feature gates.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub feature_gates: BTreeMap<String, bool>,
        /// `host:port` of the health server, empty for none.
        pub healthz_bind_address: String,
        /// Name of this node, empty for the host name.
        pub hostname_override: String,
        /// iptables mode.
        pub iptables: Iptables,
        /// IPVS mode.
        pub ipvs: Ipvs,
        /// Always `KubeProxyConfiguration`.
        pub kind: String,
        /// Logs.
        pub logging: LoggingConfiguration,
        /// `host:port` of the metrics server, empty for none.
        pub metrics_bind_address: String,
        /// Proxy mode.
        pub mode: String,
        /// nftables mode.
        pub nftables: Nftables,
        /// Ranges of the node addresses that accept node ports, or the word `primary`.
        pub node_port_addresses: Option<Vec<String>>,
        /// Score of the process for the kernel's out-of-memory killer.
        pub oom_score_adj: Option<i32>,
        /// Not used by any version of kube-proxy that is still supported.
        pub port_range: String,
        /// Which version's hidden metrics to show.
        pub show_hidden_metrics_for_version: String,
        /// Windows only.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub windows_run_as_service: bool,
        /// Windows only.
        pub winkernel: Winkernel,
    }
}

section! {
    /// `clientConnection`.
    pub struct ClientConnection {
        /// `Accept` header.
        pub accept_content_types: String,
        /// Requests above `qps` that may be sent at once.
        pub burst: i32,
        /// Encoding of requests.
        pub content_type: String,
        /// Path of a kubeconfig file, empty for in-cluster credentials.
        pub kubeconfig: String,
        /// Requests a second; negative for no limit.
        #[serde(serialize_with = "crate::config::section::go_float")]
        pub qps: f64,
    }
}

section! {
    /// `conntrack`. Zero durations leave the kernel's value alone.
    pub struct Conntrack {
        /// Entries for each CPU, 0 to leave the limit alone.
        pub max_per_core: Option<i32>,
        /// Least number of entries.
        pub min: Option<i32>,
        /// Takes out-of-window TCP segments for valid.
        pub tcp_be_liberal: bool,
        /// Life of an entry in CLOSE_WAIT.
        pub tcp_close_wait_timeout: Option<GoDuration>,
        /// Life of an idle established connection.
        pub tcp_established_timeout: Option<GoDuration>,
        /// Life of an assured UDP entry.
        pub udp_stream_timeout: GoDuration,
        /// Life of an unreplied UDP entry.
        pub udp_timeout: GoDuration,
    }
}

section! {
    /// `detectLocal`.
    pub struct DetectLocal {
        /// For mode `BridgeInterface`.
        pub bridge_interface: String,
        /// For mode `InterfaceNamePrefix`.
        pub interface_name_prefix: String,
    }
}

section! {
    /// `iptables`.
    pub struct Iptables {
        /// Node ports on 127.0.0.1.
        pub localhost_node_ports: Option<bool>,
        /// Masquerades everything sent to cluster IPs.
        pub masquerade_all: bool,
        /// Bit of the packet mark that asks for masquerading, 0 to 31.
        pub masquerade_bit: Option<i32>,
        /// Least time between two syncs.
        pub min_sync_period: GoDuration,
        /// Time between two full syncs.
        pub sync_period: GoDuration,
    }
}

section! {
    /// `ipvs`.
    pub struct Ipvs {
        /// Ranges whose virtual servers are left alone.
        #[serde(rename = "excludeCIDRs")]
        pub exclude_cidrs: Option<Vec<String>>,
        /// Least time between two syncs.
        pub min_sync_period: GoDuration,
        /// IPVS scheduler.
        pub scheduler: String,
        /// Sets arp_ignore and arp_announce.
        #[serde(rename = "strictARP")]
        pub strict_arp: bool,
        /// Time between two full syncs.
        pub sync_period: GoDuration,
        /// IPVS timeout after a FIN.
        pub tcp_fin_timeout: GoDuration,
        /// IPVS timeout of idle TCP.
        pub tcp_timeout: GoDuration,
        /// IPVS timeout of UDP.
        pub udp_timeout: GoDuration,
    }
}

section! {
    /// `nftables`.
    pub struct Nftables {
        /// Masquerades everything sent to cluster IPs.
        pub masquerade_all: bool,
        /// Bit of the packet mark that asks for masquerading, 0 to 31.
        pub masquerade_bit: Option<i32>,
        /// Least time between two syncs.
        pub min_sync_period: GoDuration,
        /// Time between two full syncs.
        pub sync_period: GoDuration,
    }
}

section! {
    /// `winkernel`: Windows only.
    pub struct Winkernel {
        /// Windows only.
        #[serde(rename = "enableDSR")]
        pub enable_dsr: bool,
        /// Windows only.
        pub forward_health_check_vip: bool,
        /// Windows only.
        pub network_name: String,
        /// Windows only.
        pub root_hns_endpoint_name: String,
        /// Windows only.
        pub source_vip: String,
    }
}
