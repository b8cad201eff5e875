//! From checked documents to [`Settings`]. Nothing fails here but what only the system can tell: validation has
//! already refused every value that cannot be converted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::address::{parse_cidr, parse_host_port, parse_ip};
use super::document::{self, KubeProxyConfiguration};
use super::duration::GoDuration;
use super::error::ConfigError;
use super::local_mode::LocalMode;
use super::mode::{ModeSection, WrittenMode};
use super::settings::{
    Acceleration, Client, Conntrack, Ebpf, LocalhostNodePorts, LogFormat, Logging, NodePortAddresses,
    Servers, Settings, SocketLb,
};
use super::shunt_document::ShuntConfiguration;
use crate::domain::IpFamily;
use crate::kernel::ebpf::Attaching;

/// Ranges that hold every address.
const ALL_ADDRESSES: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// Converts documents that have passed validation. `master` is a flag only.
pub(super) fn settings(
    document: &KubeProxyConfiguration,
    shunt: &ShuntConfiguration,
    master: Option<String>,
) -> Result<Settings, ConfigError> {
    let mode = WrittenMode::parse(&document.mode).unwrap_or(WrittenMode::Unset);
    let section = ModeSection::of(document, mode);
    Ok(Settings {
        node_name: node_name(&document.hostname_override)?,
        mode: mode.mode(),
        bind_address: parse_ip(&document.bind_address).filter(|address| !address.is_unspecified()),
        masquerade_bit: u8::try_from(section.masquerade_bit).unwrap_or_default() & 31,
        masquerade_all: section.masquerade_all,
        local_mode: local_mode(document),
        node_port_addresses: node_port_addresses(document, mode),
        localhost_node_ports: localhost_node_ports(document),
        sync_period: section.sync_period.to_std(),
        min_sync_period: section.min_sync_period.to_std(),
        conntrack: conntrack(&document.conntrack),
        servers: servers(document),
        client: client(&document.client_connection, master),
        oom_score_adj: document.oom_score_adj.and_then(|score| i16::try_from(score).ok()).unwrap_or(-999),
        logging: logging(document),
        service_metrics: usize::try_from(shunt.service_metrics).unwrap_or_default(),
        manifests: path(&shunt.manifests),
        ebpf: ebpf(shunt),
    })
}

/// The name that was given, or the host name; trimmed and in lower case, as Kubernetes names nodes.
fn node_name(given: &str) -> Result<String, ConfigError> {
    let name = given.trim().to_lowercase();
    match (given.is_empty(), name.is_empty()) {
        (true, _) => host_name(),
        (false, true) => Err(ConfigError::EmptyHostnameOverride),
        (false, false) => Ok(name),
    }
}

fn host_name() -> Result<String, ConfigError> {
    let host = nix::unistd::gethostname().map_err(|errno| ConfigError::Hostname(errno.into()))?;
    let name = host.to_string_lossy().trim().to_lowercase();
    if name.is_empty() {
        let empty = std::io::Error::new(std::io::ErrorKind::InvalidData, "the host name is empty");
        return Err(ConfigError::Hostname(empty));
    }
    Ok(name)
}

fn local_mode(document: &KubeProxyConfiguration) -> LocalMode {
    let local = &document.detect_local;
    match document.detect_local_mode.as_str() {
        "NodeCIDR" => LocalMode::NodeCidr,
        "BridgeInterface" => LocalMode::BridgeInterface(local.bridge_interface.clone()),
        "InterfaceNamePrefix" => LocalMode::InterfaceNamePrefix(local.interface_name_prefix.clone()),
        _ => LocalMode::ClusterCidr(document.cluster_cidr.split(',').filter_map(parse_cidr).collect()),
    }
}

/// Where nothing is said, a file written for kube-proxy keeps its meaning: its iptables and ipvs modes (and no mode is
/// iptables) accept node ports on all addresses, its nftables mode on the primary ones.
fn node_port_addresses(document: &KubeProxyConfiguration, mode: WrittenMode) -> NodePortAddresses {
    let written = document.node_port_addresses.as_deref().unwrap_or_default();
    let accepted_all = matches!(mode, WrittenMode::Unset | WrittenMode::Iptables | WrittenMode::Ipvs);
    if written.is_empty() && accepted_all {
        return NodePortAddresses::Cidrs(
            ALL_ADDRESSES.iter().filter_map(|range| parse_cidr(range)).collect(),
        );
    }
    let ranges: Vec<_> = written.iter().filter_map(|range| parse_cidr(range)).collect();
    if ranges.is_empty() { NodePortAddresses::Primary } else { NodePortAddresses::Cidrs(ranges) }
}

/// Like kube-proxy's iptables mode, and for both families: loopback addresses are node addresses too, unless somebody
/// chose others. A family without a range of its own has all its addresses.
fn localhost_node_ports(document: &KubeProxyConfiguration) -> LocalhostNodePorts {
    let named = document.iptables.localhost_node_ports.unwrap_or(true);
    let written = document.node_port_addresses.as_deref().unwrap_or_default();
    let ranges: Vec<_> = written.iter().filter_map(|range| parse_cidr(range)).collect();
    let holds = |address: IpAddr| {
        let family = IpFamily::of(address);
        let mut own = ranges.iter().filter(|range| IpFamily::of(range.addr()) == family).peekable();
        let is_chosen = if own.peek().is_none() {
            // The word `primary` is no range.
            written.len() == ranges.len()
        } else {
            own.any(|range| range.contains(&address))
        };
        named && is_chosen
    };
    LocalhostNodePorts {
        ipv4: holds(Ipv4Addr::LOCALHOST.into()),
        ipv6: holds(Ipv6Addr::LOCALHOST.into()),
        named,
    }
}

fn conntrack(section: &document::Conntrack) -> Conntrack {
    let count = |value: Option<i32>| u32::try_from(value.unwrap_or_default()).unwrap_or_default();
    Conntrack {
        max_per_core: count(section.max_per_core),
        min: count(section.min),
        tcp_established_timeout: section.tcp_established_timeout.and_then(GoDuration::positive),
        tcp_close_wait_timeout: section.tcp_close_wait_timeout.and_then(GoDuration::positive),
        udp_timeout: section.udp_timeout.positive(),
        udp_stream_timeout: section.udp_stream_timeout.positive(),
        tcp_be_liberal: section.tcp_be_liberal,
    }
}

fn servers(document: &KubeProxyConfiguration) -> Servers {
    let address = |text: &str| -> Option<SocketAddr> { parse_host_port(text).ok() };
    Servers {
        healthz: address(&document.healthz_bind_address),
        metrics: address(&document.metrics_bind_address),
        bind_hard_fail: document.bind_address_hard_fail,
        profiling: document.enable_profiling,
    }
}

fn client(section: &document::ClientConnection, master: Option<String>) -> Client {
    Client { kubeconfig: path(&section.kubeconfig), master }
}

fn logging(document: &KubeProxyConfiguration) -> Logging {
    let logging = &document.logging;
    let module = |module: &super::VModule| (module.file_pattern.clone(), module.verbosity);
    Logging {
        format: if logging.format == "json" { LogFormat::Json } else { LogFormat::Text },
        verbosity: logging.verbosity,
        vmodule: logging.vmodule.iter().map(module).collect(),
    }
}

fn ebpf(shunt: &ShuntConfiguration) -> Ebpf {
    Ebpf {
        cgroup_root: PathBuf::from(&shunt.cgroup_root),
        bpffs_root: PathBuf::from(&shunt.bpffs_root),
        socket_lb: match shunt.socket_lb.0.as_str() {
            "host" => SocketLb::Host,
            "off" => SocketLb::Off,
            _ => SocketLb::All,
        },
        maps: shunt.maps.settings(),
        acceleration: match shunt.acceleration.0.as_str() {
            "tc" => Acceleration::Tc,
            "xdp" => Acceleration::Xdp,
            _ => Acceleration::Off,
        },
        attaching: attaching(shunt),
    }
}

fn attaching(shunt: &ShuntConfiguration) -> Attaching {
    let default = Attaching::default();
    Attaching {
        order: shunt.interface_order.parse().unwrap_or(default.order),
        only_filters: shunt.interface_hook == "clsact",
        filter_priority: u16::try_from(shunt.filter_priority)
            .ok()
            .filter(|priority| *priority > 0)
            .unwrap_or(default.filter_priority),
    }
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}
