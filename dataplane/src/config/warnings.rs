//! What is accepted for kube-proxy's sake and has no effect here: one warning each, saying why.

use super::document::{KubeProxyConfiguration, Winkernel};
use super::duration::GoDuration;
use super::mode::{Mode, WrittenMode};
use super::settings::{Acceleration, Ebpf};
use crate::cli::Args;

const WINDOWS: &str = "it is for Windows";
const IPVS: &str = "there is no IPVS here: services are balanced by nftables";
const MACHINE: &str = "shunt does not report the machine";
const PACE: &str = "the agent sends a handful of requests and slows down when the server asks it to";
const STREAMS: &str = "logs are one stream, written line by line";

/// A setting without effect.
struct Inert {
    /// Its path in the document, empty if it is a flag only.
    field: &'static str,
    /// Its flag, empty if it is a field only.
    flag: &'static str,
    why: &'static str,
    /// Whether the document has anything but the default.
    is_set: fn(&KubeProxyConfiguration) -> bool,
}

const fn inert(
    field: &'static str,
    flag: &'static str,
    why: &'static str,
    is_set: fn(&KubeProxyConfiguration) -> bool,
) -> Inert {
    Inert { field, flag, why, is_set }
}

const INERT: [Inert; 23] = [
    inert("featureGates", "feature-gates", "shunt has no feature gates", |d| !d.feature_gates.is_empty()),
    inert("showHiddenMetricsForVersion", "show-hidden-metrics-for-version", "shunt hides no metrics", |d| {
        !d.show_hidden_metrics_for_version.is_empty()
    }),
    inert("portRange", "proxy-port-range", "no proxy mode uses it any more", |d| !d.port_range.is_empty()),
    inert("ipvs.scheduler", "ipvs-scheduler", IPVS, |d| !d.ipvs.scheduler.is_empty()),
    inert("ipvs.excludeCIDRs", "ipvs-exclude-cidrs", IPVS, |d| {
        d.ipvs.exclude_cidrs.as_ref().is_some_and(|ranges| !ranges.is_empty())
    }),
    inert("ipvs.strictARP", "ipvs-strict-arp", "shunt adds no service address to an interface", |d| {
        d.ipvs.strict_arp
    }),
    inert("ipvs.tcpTimeout", "ipvs-tcp-timeout", IPVS, |d| d.ipvs.tcp_timeout != GoDuration::ZERO),
    inert("ipvs.tcpFinTimeout", "ipvs-tcpfin-timeout", IPVS, |d| d.ipvs.tcp_fin_timeout != GoDuration::ZERO),
    inert("ipvs.udpTimeout", "ipvs-udp-timeout", IPVS, |d| d.ipvs.udp_timeout != GoDuration::ZERO),
    inert("winkernel", "", WINDOWS, |d| d.winkernel != Winkernel::default()),
    inert("windowsRunAsService", "", WINDOWS, |d| d.windows_run_as_service),
    inert("clientConnection.contentType", "kube-api-content-type", "requests are always JSON", |d| {
        !["application/vnd.kubernetes.protobuf", "application/json"]
            .contains(&d.client_connection.content_type.as_str())
    }),
    inert("clientConnection.qps", "kube-api-qps", PACE, |d| ![0.0, 5.0].contains(&d.client_connection.qps)),
    inert("clientConnection.burst", "kube-api-burst", PACE, |d| {
        ![0, 10].contains(&d.client_connection.burst)
    }),
    inert(
        "configSyncPeriod",
        "config-sync-period",
        "watches are resumed where they broke off, not repeated",
        |d| d.config_sync_period != GoDuration::from_secs(15 * 60),
    ),
    inert("clientConnection.acceptContentTypes", "", "answers are always JSON", |d| {
        !["", "application/json"].contains(&d.client_connection.accept_content_types.as_str())
    }),
    inert("logging.flushFrequency", "log-flush-frequency", "logs are not buffered", |d| {
        d.logging.flush_frequency.duration != GoDuration::from_secs(5)
    }),
    inert("logging.options.json.splitStream", "log-json-split-stream", STREAMS, |d| {
        d.logging.options.json.split_stream
    }),
    inert("logging.options.text.splitStream", "log-text-split-stream", STREAMS, |d| {
        d.logging.options.text.split_stream
    }),
    inert("logging.options.json.infoBufferSize", "log-json-info-buffer-size", STREAMS, |d| {
        !d.logging.options.json.info_buffer_size.is_zero()
    }),
    inert("logging.options.text.infoBufferSize", "log-text-info-buffer-size", STREAMS, |d| {
        !d.logging.options.text.info_buffer_size.is_zero()
    }),
    inert("", "boot-id-file", MACHINE, |_| false),
    inert("", "machine-id-file", MACHINE, |_| false),
];

/// A flag that works, but should not be used any more.
const DEPRECATED: [(&str, &str); 2] =
    [("healthz-port", "--healthz-bind-address"), ("metrics-port", "--metrics-bind-address")];

/// Flags that count together with `--config`, besides the logging flags.
const WITH_CONFIG: [&str; 15] = [
    "config",
    "write-config-to",
    "cleanup",
    "init-only",
    "version",
    "master",
    "hostname-override",
    "proxy-mode",
    "cgroup-root",
    "bpffs-root",
    "socket-lb",
    "acceleration",
    "manifests",
    "boot-id-file",
    "machine-id-file",
];

/// All warnings about checked documents and the flags they come from.
pub(super) fn warnings(args: &Args, document: &KubeProxyConfiguration) -> Vec<String> {
    let mut warnings = Vec::new();
    let ignored = ignored_flags(args);
    if !ignored.is_empty() {
        warnings.push(format!("--config is given: {} ignored, the file counts", flag_list(&ignored)));
    }
    let counts = |flag: &str| args.is_given(flag) && !ignored.contains(&flag);
    warnings
        .extend(INERT.iter().filter_map(|setting| inert_warning(setting, document, counts(setting.flag))));
    for (flag, instead) in DEPRECATED.into_iter().filter(|(flag, _)| counts(flag)) {
        warnings.push(format!("--{flag} is deprecated: use {instead}"));
    }
    warnings.extend(mode_warnings(document, &counts));
    warnings
}

/// Given flags that do not count because there is a file.
fn ignored_flags(args: &Args) -> Vec<&str> {
    if args.config_file().is_none() {
        return Vec::new();
    }
    let is_logging = |flag: &str| flag == "v" || flag == "vmodule" || flag.starts_with("log");
    let counts = |flag: &&str| is_logging(flag) || WITH_CONFIG.contains(flag);
    args.given.iter().map(String::as_str).filter(|flag| !counts(flag)).collect()
}

fn flag_list(flags: &[&str]) -> String {
    let names: Vec<_> = flags.iter().map(|flag| format!("--{flag}")).collect();
    format!("{} {}", names.join(", "), if flags.len() == 1 { "is" } else { "are" })
}

fn inert_warning(setting: &Inert, document: &KubeProxyConfiguration, flag_given: bool) -> Option<String> {
    let why = setting.why;
    if flag_given {
        Some(format!("--{} has no effect: {why}", setting.flag))
    } else {
        (setting.is_set)(document).then(|| format!("{} has no effect: {why}", setting.field))
    }
}

/// Acceleration that cannot be had as it was asked for: nothing else may be lost by asking, so it is no error.
pub(super) fn acceleration(mode: Mode, ebpf: &Ebpf) -> Option<String> {
    match (ebpf.acceleration, mode) {
        (Acceleration::Off, _) | (Acceleration::Tc, Mode::Auto | Mode::Ebpf) => None,
        (_, Mode::Nftables) => Some("acceleration has no effect: it is for mode ebpf".to_owned()),
        (Acceleration::Xdp, _) => {
            Some("acceleration: xdp is taken as tc: this build has no XDP programs".to_owned())
        }
    }
}

fn mode_warnings(document: &KubeProxyConfiguration, counts: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let mode = WrittenMode::parse(&document.mode).unwrap_or(WrittenMode::Unset);
    if matches!(mode, WrittenMode::Iptables | WrittenMode::Ipvs) {
        warnings
            .push(format!("mode {:?} is taken as \"nftables\": shunt has no such dataplane", document.mode));
    }
    let (other, flags) = match mode {
        WrittenMode::Ipvs => ("in mode ipvs", ["iptables-sync-period", "iptables-min-sync-period"]),
        _ => ("outside of mode ipvs", ["ipvs-sync-period", "ipvs-min-sync-period"]),
    };
    for flag in flags.into_iter().filter(|flag| counts(flag)) {
        warnings.push(format!("--{flag} has no effect {other}"));
    }
    warnings
}
