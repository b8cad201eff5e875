//! Every rule about values, alone and together.

use super::{HEAD, SHUNT_HEAD, invalid_paths, load_flags, load_lines, load_text};
use crate::config::Mode;

/// Lines that are just outside of what is allowed, with the path of the error.
const REFUSED: [(&str, &str); 48] = [
    ("iptables: {masqueradeBit: 32}", "iptables.masqueradeBit"),
    ("iptables: {masqueradeBit: -1}", "iptables.masqueradeBit"),
    ("mode: nftables\niptables: {masqueradeBit: 32}", "iptables.masqueradeBit"),
    ("mode: nftables\nnftables: {masqueradeBit: 32}", "nftables.masqueradeBit"),
    ("nftables: {masqueradeBit: -1}", "nftables.masqueradeBit"),
    ("mode: nftables\nnftables: {syncPeriod: -1s}", "nftables.syncPeriod"),
    ("mode: nftables\nnftables: {minSyncPeriod: -1s}", "nftables.minSyncPeriod"),
    ("mode: nftables\nnftables: {minSyncPeriod: 31s}", "nftables.syncPeriod"),
    ("mode: iptables\niptables: {minSyncPeriod: 31s}", "iptables.syncPeriod"),
    ("mode: ipvs\nipvs: {minSyncPeriod: 31s}", "ipvs.syncPeriod"),
    ("mode: ipvs\nipvs: {tcpTimeout: -1s}", "ipvs.tcpTimeout"),
    ("mode: ipvs\nipvs: {tcpFinTimeout: -1s}", "ipvs.tcpFinTimeout"),
    ("mode: ipvs\nipvs: {udpTimeout: -1s}", "ipvs.udpTimeout"),
    ("mode: ipvs\nipvs: {excludeCIDRs: [10.0.0.0/8, 10.0.0.0]}", "ipvs.excludeCIDRs[1]"),
    ("mode: userspace", "mode"),
    ("mode: IPTables", "mode"),
    ("conntrack: {maxPerCore: -1}", "conntrack.maxPerCore"),
    ("conntrack: {min: -1}", "conntrack.min"),
    ("conntrack: {tcpEstablishedTimeout: -1s}", "conntrack.tcpEstablishedTimeout"),
    ("conntrack: {tcpCloseWaitTimeout: -1s}", "conntrack.tcpCloseWaitTimeout"),
    ("conntrack: {udpTimeout: -1s}", "conntrack.udpTimeout"),
    ("conntrack: {udpStreamTimeout: -1s}", "conntrack.udpStreamTimeout"),
    ("clientConnection: {burst: -1}", "clientConnection.burst"),
    ("oomScoreAdj: -1001", "oomScoreAdj"),
    ("oomScoreAdj: 1001", "oomScoreAdj"),
    ("configSyncPeriod: -1s", "configSyncPeriod"),
    ("bindAddress: localhost", "bindAddress"),
    ("bindAddress: 10.0.0.1:80", "bindAddress"),
    ("healthzBindAddress: localhost:10256", "healthzBindAddress"),
    ("healthzBindAddress: 0.0.0.0:0", "healthzBindAddress"),
    ("healthzBindAddress: 0.0.0.0:65536", "healthzBindAddress"),
    ("metricsBindAddress: nonsense", "metricsBindAddress"),
    ("metricsBindAddress: ':10249'", "metricsBindAddress"),
    ("nodePortAddresses: [10.0.0.1]", "nodePortAddresses[0]"),
    ("nodePortAddresses: [10.0.0.0/8, primary]", "nodePortAddresses[1]"),
    ("nodePortAddresses: [primary, 10.0.0.0/8]", "nodePortAddresses[0]"),
    ("detectLocalMode: clustercidr", "detectLocalMode"),
    ("detectLocalMode: BridgeInterface", "detectLocal.bridgeInterface"),
    ("detectLocalMode: InterfaceNamePrefix", "detectLocal.interfaceNamePrefix"),
    ("clusterCIDR: 10.0.0.0", "clusterCIDR"),
    ("clusterCIDR: 10.0.0.0/8,11.0.0.0/8", "clusterCIDR"),
    ("clusterCIDR: 'fd00::/64,fd01::/64'", "clusterCIDR"),
    ("clusterCIDR: '10.0.0.0/8,fd00::/64,11.0.0.0/8'", "clusterCIDR"),
    ("featureGates: {no-gate: true}", "featureGates[no-gate]"),
    ("logging: {format: xml}", "logging.format"),
    ("logging: {verbosity: 2147483648}", "logging.verbosity"),
    ("logging: {format: json, vmodule: [{filePattern: a, verbosity: 1}]}", "logging.vmodule"),
    ("logging: {vmodule: [{filePattern: a=b, verbosity: 1}]}", "logging.vmodule[0].filePattern"),
];

/// Lines that are just inside of what is allowed.
const ACCEPTED: [&str; 24] = [
    "iptables: {masqueradeBit: 0}",
    "iptables: {masqueradeBit: 31}",
    "mode: iptables\nnftables: {masqueradeBit: 32}",
    "mode: nftables\nnftables: {minSyncPeriod: 30s}",
    "mode: nftables\nipvs: {tcpTimeout: -1s, excludeCIDRs: [nonsense]}",
    "mode: nftables\niptables: {syncPeriod: -1s}",
    "mode: ipvs\nipvs: {tcpTimeout: 1s, excludeCIDRs: [10.0.0.0/8]}",
    "mode: auto",
    "mode: nftables",
    "mode: iptables",
    "conntrack: {maxPerCore: 0, min: 0, udpTimeout: 30s, udpStreamTimeout: 5m}",
    "clientConnection: {burst: 1, qps: 0.5}",
    "oomScoreAdj: -1000",
    "oomScoreAdj: 1000",
    "bindAddress: 010.0.0.1",
    "metricsBindAddress: '[::1]:1'",
    "nodePortAddresses: [primary]",
    "nodePortAddresses: [10.0.0.0/8, 'fd00::/8', 192.168.0.0/16]",
    "clusterCIDR: 'fd00::/64,10.0.0.0/8'",
    "detectLocalMode: NodeCIDR\nclusterCIDR: nonsense",
    "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cbr0}",
    "featureGates: {SomeGate: true, AllAlpha: false}",
    "logging: {format: json, verbosity: 2147483647}",
    "portRange: 300-200",
];

#[test]
fn each_value_that_is_not_allowed_is_named_by_its_path() {
    for (lines, path) in REFUSED {
        assert_eq!(invalid_paths(load_lines(lines)), [path], "{lines}");
    }
}

#[test]
fn values_at_the_edge_of_what_is_allowed_pass() {
    for lines in ACCEPTED {
        load_lines(lines).unwrap_or_else(|error| panic!("{lines}: {error}"));
    }
}

#[test]
fn both_parts_of_an_address_can_be_wrong() {
    let paths = invalid_paths(load_lines("healthzBindAddress: host:port\n"));
    assert_eq!(paths, ["healthzBindAddress", "healthzBindAddress"]);
}

#[test]
fn all_errors_are_given_at_once_one_a_line() {
    let lines = "mode: userspace\noomScoreAdj: 5000\nnodePortAddresses: [a, b]\nconntrack: {min: -3}\n";
    let error = load_text(&format!("{HEAD}{lines}{SHUNT_HEAD}acceleration: warp\n"), &[]).unwrap_err();
    let message = error.to_string();
    let (head, errors) = message.split_once('\n').unwrap();
    assert!(head.starts_with("invalid configuration in ") && head.ends_with("config.conf:"), "{head}");
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(lines.len(), 6, "{errors}");
    assert_eq!(lines[1], "  conntrack.min: invalid value \"-3\": must be greater than or equal to 0");
    assert_eq!(lines[5], "  acceleration: invalid value \"warp\": must be one of off, tc, xdp");
}

#[test]
fn mode_ebpf_is_taken_from_files_and_flags() {
    assert_eq!(load_lines("mode: ebpf\n").unwrap().settings.mode, Mode::Ebpf);
    assert_eq!(load_flags(&["--proxy-mode=ebpf"]).unwrap().settings.mode, Mode::Ebpf);
}

#[test]
fn our_own_values_are_checked() {
    for (line, path) in [("socketLB: some", "socketLB"), ("acceleration: fast", "acceleration")] {
        assert_eq!(invalid_paths(load_text(&format!("{HEAD}{SHUNT_HEAD}{line}\n"), &[])), [path]);
    }
    for (line, path) in [
        ("interfaceHook: tc", "interfaceHook"),
        ("interfaceOrder: middle", "interfaceOrder"),
        ("filterPriority: 65536", "filterPriority"),
        ("filterPriority: -1", "filterPriority"),
    ] {
        assert_eq!(invalid_paths(load_text(&format!("{HEAD}{SHUNT_HEAD}{line}\n"), &[])), [path]);
    }
}

#[test]
fn flags_are_checked_by_the_same_rules_and_without_defaults_for_zero() {
    for (flag, path) in [
        ("--config-sync-period=0", "configSyncPeriod"),
        ("--iptables-sync-period=0s", "iptables.syncPeriod"),
        ("--iptables-masquerade-bit=32", "iptables.masqueradeBit"),
        ("--oom-score-adj=-2000", "oomScoreAdj"),
        ("--conntrack-min=-1", "conntrack.min"),
        ("--nodeport-addresses=10.0.0.1", "nodePortAddresses[0]"),
        ("--proxy-mode=best", "mode"),
        ("--detect-local-mode=Guess", "detectLocalMode"),
        ("--healthz-bind-address=here", "healthzBindAddress"),
        ("--logging-format=xml", "logging.format"),
    ] {
        let paths = invalid_paths(load_flags(&[flag]));
        assert!(paths.contains(&path.to_owned()), "{flag}: {paths:?}");
    }
    let message = load_flags(&["--proxy-mode=best"]).unwrap_err().to_string();
    assert!(message.starts_with("invalid configuration in the command line:\n  mode: "), "{message}");
}

#[test]
fn a_node_name_of_spaces_is_refused() {
    for result in [load_lines("hostnameOverride: '  '\n"), load_flags(&["--hostname-override=  "])] {
        assert_eq!(result.unwrap_err().to_string(), "hostnameOverride: the name is empty");
    }
}
