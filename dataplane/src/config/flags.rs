//! Flags: the document that they make without a file, and what they change about a file.

use super::address::with_port;
use super::document::KubeProxyConfiguration;
use super::error::ConfigError;
use super::logging_document::{FlushFrequency, LoggingConfiguration, VModule};
use super::shunt_document::ShuntConfiguration;
use crate::cli::Args;
use crate::cli::args::LogFlags;

/// The document that the flags alone make. Every flag has kube-proxy's default, so it is complete; an empty or zero
/// flag is taken at its word here, where a file would get the default.
pub(super) fn document(args: &Args) -> KubeProxyConfiguration {
    let mut document = KubeProxyConfiguration::with_defaults();
    agent(&mut document, args);
    proxy(&mut document, args);
    modes(&mut document, args);
    conntrack(&mut document, args);
    document
}

fn agent(document: &mut KubeProxyConfiguration, args: &Args) {
    document.feature_gates.clone_from(&args.process.feature_gates.0);
    let (api, client) = (&args.api, &mut document.client_connection);
    client.kubeconfig.clone_from(&api.kubeconfig);
    client.content_type.clone_from(&api.kube_api_content_type);
    client.qps = api.kube_api_qps;
    client.burst = api.kube_api_burst;
    document.config_sync_period = api.config_sync_period;
    let servers = &args.servers;
    document.bind_address = servers.bind_address.to_string();
    document.bind_address_hard_fail = servers.bind_address_hard_fail;
    document.healthz_bind_address = server(&servers.healthz_bind_address, servers.healthz_port);
    document.metrics_bind_address = server(&servers.metrics_bind_address, servers.metrics_port);
    document.enable_profiling = servers.profiling;
    document.show_hidden_metrics_for_version.clone_from(&servers.show_hidden_metrics_for_version);
    document.oom_score_adj = Some(args.host.oom_score_adj);
}

/// The port comes from a flag of its own where the address has none; port 0 means no server.
fn server(address: &str, port: u16) -> String {
    if port == 0 { String::new() } else { with_port(address, port) }
}

fn proxy(document: &mut KubeProxyConfiguration, args: &Args) {
    let proxy = &args.proxy;
    document.cluster_cidr.clone_from(&proxy.cluster_cidr);
    document.detect_local_mode.clone_from(&proxy.detect_local_mode);
    document.detect_local.bridge_interface.clone_from(&proxy.pod_bridge_interface);
    document.detect_local.interface_name_prefix.clone_from(&proxy.pod_interface_name_prefix);
    document.node_port_addresses = list(&proxy.nodeport_addresses);
    document.port_range.clone_from(&proxy.proxy_port_range);
}

/// kube-proxy has no flags for nftables mode: there, `--masquerade-all` and the `--iptables-*` flags count.
fn modes(document: &mut KubeProxyConfiguration, args: &Args) {
    let all = args.proxy.masquerade_all;
    let flags = &args.iptables;
    let iptables = &mut document.iptables;
    iptables.masquerade_all = all;
    iptables.masquerade_bit = Some(flags.iptables_masquerade_bit);
    iptables.localhost_node_ports = Some(flags.iptables_localhost_nodeports);
    iptables.sync_period = flags.iptables_sync_period;
    iptables.min_sync_period = flags.iptables_min_sync_period;
    let nftables = &mut document.nftables;
    nftables.masquerade_all = all;
    nftables.masquerade_bit = Some(flags.iptables_masquerade_bit);
    nftables.sync_period = flags.iptables_sync_period;
    nftables.min_sync_period = flags.iptables_min_sync_period;
    let (flags, ipvs) = (&args.ipvs, &mut document.ipvs);
    ipvs.sync_period = flags.ipvs_sync_period;
    ipvs.min_sync_period = flags.ipvs_min_sync_period;
    ipvs.scheduler.clone_from(&flags.ipvs_scheduler);
    ipvs.exclude_cidrs = list(&flags.ipvs_exclude_cidrs);
    ipvs.strict_arp = flags.ipvs_strict_arp;
    ipvs.tcp_timeout = flags.ipvs_tcp_timeout;
    ipvs.tcp_fin_timeout = flags.ipvs_tcpfin_timeout;
    ipvs.udp_timeout = flags.ipvs_udp_timeout;
}

fn conntrack(document: &mut KubeProxyConfiguration, args: &Args) {
    let (flags, conntrack) = (&args.conntrack, &mut document.conntrack);
    conntrack.max_per_core = Some(flags.conntrack_max_per_core);
    conntrack.min = Some(flags.conntrack_min);
    conntrack.tcp_established_timeout = Some(flags.conntrack_tcp_timeout_established);
    conntrack.tcp_close_wait_timeout = Some(flags.conntrack_tcp_timeout_close_wait);
    conntrack.tcp_be_liberal = flags.conntrack_tcp_be_liberal;
    conntrack.udp_timeout = flags.conntrack_udp_timeout;
    conntrack.udp_stream_timeout = flags.conntrack_udp_timeout_stream;
}

fn list(values: &[String]) -> Option<Vec<String>> {
    let values: Vec<_> =
        values.iter().map(|value| value.trim().to_owned()).filter(|v| !v.is_empty()).collect();
    (!values.is_empty()).then_some(values)
}

/// What flags change whether or not there is a file: logs, the node's name, and our own.
pub(super) fn override_with(
    args: &Args,
    document: &mut KubeProxyConfiguration,
    shunt: &mut ShuntConfiguration,
) -> Result<(), ConfigError> {
    logging(&mut document.logging, args);
    let name = &args.api.hostname_override;
    if !name.is_empty() {
        let name = name.trim();
        if name.is_empty() {
            return Err(ConfigError::EmptyHostnameOverride);
        }
        document.hostname_override = name.to_lowercase();
    }
    let own = &args.own;
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    for (flag, field, value) in [
        ("proxy-mode", &mut document.mode, own.proxy_mode.clone()),
        ("cgroup-root", &mut shunt.cgroup_root, text(&own.cgroup_root)),
        ("bpffs-root", &mut shunt.bpffs_root, text(&own.bpffs_root)),
        ("socket-lb", &mut shunt.socket_lb.0, value_name(&own.socket_lb)),
        ("acceleration", &mut shunt.acceleration.0, value_name(&own.acceleration)),
        ("manifests", &mut shunt.manifests, own.manifests.clone()),
    ] {
        if args.is_given(flag) {
            *field = value;
        }
    }
    Ok(())
}

fn value_name(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Given logging flags win; patterns of the flag come before those of the file, so that they match first.
fn logging(logging: &mut LoggingConfiguration, args: &Args) {
    let LogFlags { logging_format, verbosity, vmodule, log_flush_frequency, .. } = &args.logs;
    if args.is_given("logging-format") {
        logging.format.clone_from(logging_format);
    }
    if args.is_given("v") {
        logging.verbosity = *verbosity;
    }
    let pattern = |(pattern, verbosity): &(String, u32)| VModule {
        file_pattern: pattern.clone(),
        verbosity: *verbosity,
    };
    logging.vmodule.splice(0..0, vmodule.0.iter().map(pattern));
    if args.is_given("log-flush-frequency") {
        logging.flush_frequency = FlushFrequency { duration: *log_flush_frequency, as_text: true };
    }
    log_streams(logging, args);
}

fn log_streams(logging: &mut LoggingConfiguration, args: &Args) {
    let (flags, options) = (&args.logs, &mut logging.options);
    for (flag, field, value) in [
        ("log-json-split-stream", &mut options.json.split_stream, flags.log_json_split_stream),
        ("log-text-split-stream", &mut options.text.split_stream, flags.log_text_split_stream),
    ] {
        if args.is_given(flag) {
            *field = value;
        }
    }
    for (flag, field, value) in [
        ("log-json-info-buffer-size", &mut options.json.info_buffer_size, &flags.log_json_info_buffer_size),
        ("log-text-info-buffer-size", &mut options.text.info_buffer_size, &flags.log_text_info_buffer_size),
    ] {
        if args.is_given(flag) {
            field.clone_from(value);
        }
    }
}
