//! kube-proxy's defaults, from the file and from the flags.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::{load_flags, load_lines};
use crate::config::{
    Acceleration, Conntrack, GoDuration, KubeProxyConfiguration, LocalMode, LocalhostNodePorts, LogFormat,
    Mode, NodePortAddresses, Settings, SocketLb, write,
};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What the defaults of an empty file and of no flags have in common: everything.
fn assert_defaults(settings: &Settings) {
    assert_eq!(settings.mode, Mode::Nftables);
    assert_eq!(settings.bind_address, None);
    assert_eq!(settings.primary_family(), None);
    assert_eq!((settings.masquerade_bit, settings.masquerade_mark()), (14, 0x4000));
    assert!(!settings.masquerade_all);
    assert_eq!(settings.local_mode, LocalMode::ClusterCidr(vec![]));
    let everywhere = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    assert_eq!(settings.node_port_addresses, NodePortAddresses::Cidrs(everywhere));
    assert_eq!(settings.localhost_node_ports, LocalhostNodePorts { ipv4: true, ipv6: true, named: true });
    assert_eq!(settings.sync_period, MINUTE / 2);
    assert_eq!(settings.min_sync_period, Duration::from_secs(1));
    assert_eq!(settings.oom_score_adj, -999);
    assert_eq!(settings.manifests, None);
    let conntrack = Conntrack {
        max_per_core: 32768,
        min: 131_072,
        tcp_established_timeout: Some(24 * HOUR),
        tcp_close_wait_timeout: Some(HOUR),
        udp_timeout: None,
        udp_stream_timeout: None,
        tcp_be_liberal: false,
    };
    assert_eq!(settings.conntrack, conntrack);
}

fn assert_process_defaults(settings: &Settings) {
    let servers = &settings.servers;
    assert_eq!(servers.healthz, Some(address("0.0.0.0:10256")));
    assert_eq!(servers.metrics, Some(address("127.0.0.1:10249")));
    assert!(!servers.bind_hard_fail && !servers.profiling);
    let client = &settings.client;
    assert_eq!((client.kubeconfig.as_deref(), client.master.as_deref()), (None, None));
    assert_eq!((settings.logging.format, settings.logging.verbosity), (LogFormat::Text, 0));
    assert!(settings.logging.vmodule.is_empty());
    let ebpf = &settings.ebpf;
    assert_eq!((ebpf.socket_lb, ebpf.acceleration), (SocketLb::All, Acceleration::Off));
    assert_eq!(ebpf.cgroup_root, Path::new("/sys/fs/cgroup"));
    assert_eq!(ebpf.bpffs_root, Path::new("/sys/fs/bpf"));
}

#[test]
fn a_file_with_only_a_head_has_the_defaults() {
    let loaded = load_lines("").unwrap();
    assert_defaults(&loaded.settings);
    assert_process_defaults(&loaded.settings);
}

#[test]
fn no_flags_have_the_defaults() {
    let loaded = load_flags(&[]).unwrap();
    assert_defaults(&loaded.settings);
    assert_process_defaults(&loaded.settings);
}

#[test]
fn flags_and_file_agree_on_all_but_the_ipvs_minimum() {
    let mut flags = load_flags(&[]).unwrap().document;
    assert_eq!(flags.ipvs.min_sync_period, GoDuration::from_secs(1));
    flags.ipvs.min_sync_period = GoDuration::ZERO;
    assert_eq!(flags, load_lines("").unwrap().document);
}

#[test]
fn the_default_document_is_written_as_kube_proxy_writes_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("written");
    write(&path, &KubeProxyConfiguration::with_defaults()).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), include_str!("defaults.yaml"));
}

#[test]
fn an_ipv6_bind_address_moves_the_servers_to_ipv6() {
    let settings = load_lines("bindAddress: fd00::7\n").unwrap().settings;
    assert_eq!(settings.bind_address, Some("fd00::7".parse().unwrap()));
    assert_eq!(settings.servers.healthz, Some(address("[::]:10256")));
    assert_eq!(settings.servers.metrics, Some(address("[::1]:10249")));
}

#[test]
fn an_unspecified_bind_address_decides_nothing() {
    for text in ["0.0.0.0", "'::'"] {
        let settings = load_lines(&format!("bindAddress: {text}\n")).unwrap().settings;
        assert_eq!(settings.bind_address, None, "{text}");
    }
}

#[test]
fn an_address_without_port_gets_the_usual_one() {
    let settings =
        load_lines("healthzBindAddress: 10.0.0.1\nmetricsBindAddress: fd00::1\n").unwrap().settings;
    assert_eq!(settings.servers.healthz, Some(address("10.0.0.1:10256")));
    assert_eq!(settings.servers.metrics, Some(address("[fd00::1]:10249")));
}

#[test]
fn zero_conntrack_values_leave_the_kernel_alone() {
    let lines = "conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}\n";
    let conntrack = load_lines(lines).unwrap().settings.conntrack;
    assert_eq!((conntrack.max_per_core, conntrack.min), (0, 0));
    assert_eq!((conntrack.tcp_established_timeout, conntrack.tcp_close_wait_timeout), (None, None));
}

#[test]
fn loopback_addresses_accept_node_ports_unless_ranges_or_the_switch_leave_them_out() {
    let both = |lines: &str| {
        let LocalhostNodePorts { ipv4, ipv6, named } =
            load_lines(lines).unwrap().settings.localhost_node_ports;
        (ipv4, ipv6, named)
    };
    assert_eq!(both("mode: ebpf\n"), (true, true, true));
    assert_eq!(both("mode: ebpf\nnodePortAddresses: [primary]\n"), (false, false, true));
    assert_eq!(both("nodePortAddresses: [0.0.0.0/0, fd00::/8]\n"), (true, false, true));
    assert_eq!(both("nodePortAddresses: [127.0.0.0/8]\n"), (true, true, true), "IPv6 has all its addresses");
    assert_eq!(both("nodePortAddresses: [10.0.0.0/8, '::1/128']\n"), (false, true, true));
    let off = "iptables: {localhostNodePorts: false}\n";
    assert_eq!(both(off), (false, false, false));
    assert_eq!(both(&format!("{off}nodePortAddresses: [127.0.0.0/8]\n")), (false, false, false));
}

#[test]
fn a_negative_qps_is_accepted() {
    load_lines("clientConnection: {qps: -1}\n").unwrap();
}

#[test]
fn the_node_name_is_the_host_name_in_lower_case() {
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap().to_lowercase();
    assert_eq!(load_flags(&[]).unwrap().settings.node_name, host);
    let given = load_lines("hostnameOverride: ' Node-A '\n").unwrap();
    assert_eq!(given.settings.node_name, "node-a");
}
