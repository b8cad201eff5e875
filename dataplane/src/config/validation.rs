//! Which values kube-proxy allows. Works on a document with defaults, and gives every error, not only the first.

use std::fmt::Display;

use super::address::{parse_cidr, parse_host_port, parse_ip};
use super::document::{Conntrack, Ipvs, KubeProxyConfiguration};
use super::duration::GoDuration;
use super::error::FieldError;
use super::mode::{ModeSection, WrittenMode};
use super::shunt_document::ShuntConfiguration;
use crate::kernel::ebpf::Order as InterfaceOrder;

/// Values of `detectLocalMode`; empty stands for the first.
const LOCAL_MODES: [&str; 4] = ["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"];

/// Gathers what is wrong.
#[derive(Default)]
pub(super) struct Findings(Vec<FieldError>);

impl Findings {
    /// All that was found, in the order of the checks.
    pub(super) fn into_errors(self) -> Vec<FieldError> {
        self.0
    }

    /// Notes that the value of a field is not allowed.
    pub(super) fn add(&mut self, path: impl Into<String>, value: impl Display, reason: impl Into<String>) {
        self.0.push(FieldError { path: path.into(), value: value.to_string(), reason: reason.into() });
    }

    /// Notes it unless `ok`.
    pub(super) fn require(&mut self, ok: bool, path: &str, value: impl Display, reason: &str) {
        if !ok {
            self.add(path, value, reason);
        }
    }

    fn not_negative(&mut self, path: &str, value: GoDuration) {
        self.require(value >= GoDuration::ZERO, path, value, "must be greater than or equal to 0");
    }

    fn masquerade_bit(&mut self, path: &str, bit: Option<i32>) {
        if let Some(bit) = bit {
            self.require((0..=31).contains(&bit), path, bit, "must be within the range [0, 31]");
        }
    }

    fn host_port(&mut self, path: &str, text: &str) {
        // Empty means: no server.
        if text.is_empty() {
            return;
        }
        for reason in parse_host_port(text).err().into_iter().flatten() {
            self.add(path, text, reason);
        }
    }

    /// Notes it unless it is one of `allowed`.
    pub(super) fn one_of(&mut self, path: &str, value: &str, allowed: &[&str]) {
        if !allowed.contains(&value) {
            self.add(path, value, format!("must be one of {}", allowed.join(", ")));
        }
    }
}

/// Checks a KubeProxyConfiguration that has its defaults.
pub(super) fn validate(document: &KubeProxyConfiguration) -> Vec<FieldError> {
    let mut found = Findings::default();
    feature_gates(&mut found, document);
    modes(&mut found, document);
    conntrack(&mut found, &document.conntrack);
    found.require(
        document.client_connection.burst >= 0,
        "clientConnection.burst",
        document.client_connection.burst,
        "must be greater than or equal to 0",
    );
    let score = document.oom_score_adj.unwrap_or_default();
    found.require(
        (-1000..=1000).contains(&score),
        "oomScoreAdj",
        score,
        "must be within the range [-1000, 1000]",
    );
    let period = document.config_sync_period;
    found.require(period > GoDuration::ZERO, "configSyncPeriod", period, "must be greater than 0");
    let address = &document.bind_address;
    found.require(parse_ip(address).is_some(), "bindAddress", address, "must be an IP address");
    found.host_port("healthzBindAddress", &document.healthz_bind_address);
    found.host_port("metricsBindAddress", &document.metrics_bind_address);
    node_port_addresses(&mut found, document.node_port_addresses.as_deref().unwrap_or_default());
    local_detection(&mut found, document);
    super::logging_validation::validate(&mut found, &document.logging);
    found.into_errors()
}

/// Checks a ShuntConfiguration that has its defaults.
pub(super) fn validate_shunt(document: &ShuntConfiguration) -> Vec<FieldError> {
    let mut found = Findings::default();
    found.one_of("socketLB", &document.socket_lb.0, &["all", "host", "off"]);
    found.one_of("acceleration", &document.acceleration.0, &["off", "tc", "xdp"]);
    found.one_of("interfaceHook", &document.interface_hook, &["auto", "clsact"]);
    let order = &document.interface_order;
    if let Err(reason) = order.parse::<InterfaceOrder>() {
        found.add("interfaceOrder", order, reason.to_string());
    }
    let priority = document.filter_priority;
    found.require(u16::try_from(priority).is_ok(), "filterPriority", priority, "must be 0 to 65535");
    let metrics = document.service_metrics;
    found.require(metrics >= 0, "serviceMetrics", metrics, "must be 0 or more");
    document.maps.validate(&mut found);
    found.into_errors()
}

/// The set of gates changes with every release of Kubernetes, and none changes what shunt does: only the form of their
/// names is checked, and the caller warns.
fn feature_gates(found: &mut Findings, document: &KubeProxyConfiguration) {
    for (name, value) in &document.feature_gates {
        let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric());
        found.require(is_name, &format!("featureGates[{name}]"), value, "not the name of a feature gate");
    }
}

fn modes(found: &mut Findings, document: &KubeProxyConfiguration) {
    found.masquerade_bit("iptables.masqueradeBit", document.iptables.masquerade_bit);
    let mode = match WrittenMode::parse(&document.mode) {
        Ok(mode) => mode,
        Err(reason) => return found.add("mode", &document.mode, reason),
    };
    let section = ModeSection::of(document, mode);
    if section.name == "nftables" {
        found.masquerade_bit("nftables.masqueradeBit", document.nftables.masquerade_bit);
    }
    match mode {
        WrittenMode::Ipvs => ipvs(found, &document.ipvs),
        WrittenMode::Unset
        | WrittenMode::Auto
        | WrittenMode::Nftables
        | WrittenMode::Ebpf
        | WrittenMode::Iptables => {}
    }
    sync_periods(found, &section);
}

fn sync_periods(found: &mut Findings, section: &ModeSection) {
    let (sync, min) = (section.sync_period, section.min_sync_period);
    let [sync_path, min_path] =
        ["syncPeriod", "minSyncPeriod"].map(|field| format!("{}.{field}", section.name));
    found.not_negative(&min_path, min);
    if sync > GoDuration::ZERO {
        let reason = format!("must be greater than or equal to {min_path} ({min})");
        found.require(min <= sync, &sync_path, sync, &reason);
    } else {
        found.add(sync_path, sync, "must be greater than 0");
    }
}

fn ipvs(found: &mut Findings, section: &Ipvs) {
    found.not_negative("ipvs.tcpTimeout", section.tcp_timeout);
    found.not_negative("ipvs.tcpFinTimeout", section.tcp_fin_timeout);
    found.not_negative("ipvs.udpTimeout", section.udp_timeout);
    for (index, range) in section.exclude_cidrs.iter().flatten().enumerate() {
        found.require(
            parse_cidr(range).is_some(),
            &format!("ipvs.excludeCIDRs[{index}]"),
            range,
            "must be a valid CIDR",
        );
    }
}

fn conntrack(found: &mut Findings, section: &Conntrack) {
    let reason = "must be greater than or equal to 0";
    for (path, value) in [("conntrack.maxPerCore", section.max_per_core), ("conntrack.min", section.min)] {
        found.require(value.unwrap_or_default() >= 0, path, value.unwrap_or_default(), reason);
    }
    let established = section.tcp_established_timeout.unwrap_or_default();
    found.not_negative("conntrack.tcpEstablishedTimeout", established);
    found.not_negative("conntrack.tcpCloseWaitTimeout", section.tcp_close_wait_timeout.unwrap_or_default());
    found.not_negative("conntrack.udpTimeout", section.udp_timeout);
    found.not_negative("conntrack.udpStreamTimeout", section.udp_stream_timeout);
}

fn node_port_addresses(found: &mut Findings, addresses: &[String]) {
    for (index, address) in addresses.iter().enumerate() {
        let path = format!("nodePortAddresses[{index}]");
        if address == "primary" {
            found.require(addresses.len() == 1, &path, address, "cannot be combined with other entries");
        } else {
            found.require(
                parse_cidr(address).is_some(),
                &path,
                address,
                "must be a valid CIDR, or primary alone",
            );
        }
    }
}

fn local_detection(found: &mut Findings, document: &KubeProxyConfiguration) {
    let local = &document.detect_local;
    let empty = "must not be empty with this detectLocalMode";
    match document.detect_local_mode.as_str() {
        "" | "ClusterCIDR" => cluster_cidr(found, &document.cluster_cidr),
        "NodeCIDR" => {}
        "BridgeInterface" => {
            let name = &local.bridge_interface;
            found.require(!name.is_empty(), "detectLocal.bridgeInterface", name, empty);
        }
        "InterfaceNamePrefix" => {
            let name = &local.interface_name_prefix;
            found.require(!name.is_empty(), "detectLocal.interfaceNamePrefix", name, empty);
        }
        other => found.one_of("detectLocalMode", other, &LOCAL_MODES),
    }
}

/// Only looked at in mode ClusterCIDR, as in kube-proxy.
fn cluster_cidr(found: &mut Findings, text: &str) {
    if text.is_empty() {
        return;
    }
    let ranges: Vec<_> = text.split(',').map(parse_cidr).collect();
    for (part, range) in text.split(',').zip(&ranges) {
        let reason = "must be a valid CIDR (example: 10.100.0.0/16 or fde4:8dba:82e1::/48)";
        found.require(range.is_some(), "clusterCIDR", part, reason);
    }
    let reason = "must be one CIDR or a pair of both families (example: 10.100.0.0/16,fde4:8dba:82e1::/48)";
    let is_right_size = match ranges.as_slice() {
        [Some(first), Some(second)] => first.addr().is_ipv4() != second.addr().is_ipv4(),
        other => other.len() <= 2,
    };
    found.require(is_right_size, "clusterCIDR", text, reason);
}
