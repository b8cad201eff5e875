//! What flags do alone, and which of them win over a file.

use std::path::Path;
use std::time::Duration;

use super::{HEAD, SHUNT_HEAD, load_flags, load_text};
use crate::config::{Acceleration, LocalMode, LogFormat, Mode, NodePortAddresses, SocketLb};

const FILE: &str = "mode: iptables\nhostnameOverride: from-file\noomScoreAdj: 7\nclusterCIDR: 10.0.0.0/8\n\
    logging: {format: json, verbosity: 1, vmodule: []}\n";

#[test]
fn every_flag_about_the_proxy_works() {
    let loaded = load_flags(&[
        "--cluster-cidr=10.0.0.0/8,fd00::/8",
        "--nodeport-addresses=192.168.0.0/16,",
        "--nodeport-addresses",
        "fd00::/8",
        "--masquerade-all",
        "--iptables-masquerade-bit=5",
        "--iptables-localhost-nodeports=false",
        "--iptables-sync-period=1m",
        "--iptables-min-sync-period=0",
        "--proxy-mode=nftables",
    ])
    .unwrap();
    let settings = loaded.settings;
    let cidrs = |texts: [&str; 2]| texts.map(|text| text.parse().unwrap()).to_vec();
    assert_eq!(settings.local_mode, LocalMode::ClusterCidr(cidrs(["10.0.0.0/8", "fd00::/8"])));
    let expected = NodePortAddresses::Cidrs(cidrs(["192.168.0.0/16", "fd00::/8"]));
    assert_eq!(settings.node_port_addresses, expected);
    assert!(settings.masquerade_all && !settings.localhost_node_ports.named);
    assert_eq!((settings.masquerade_mark(), settings.mode), (1 << 5, Mode::Nftables));
    assert_eq!(settings.sync_period, Duration::from_mins(1));
    assert_eq!(settings.min_sync_period, Duration::ZERO);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn every_flag_about_local_detection_works() {
    let mode = |flags: &[&str]| load_flags(flags).unwrap().settings.local_mode;
    assert_eq!(mode(&["--detect-local-mode=NodeCIDR"]), LocalMode::NodeCidr);
    let bridge = mode(&["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cbr0"]);
    assert_eq!(bridge, LocalMode::BridgeInterface("cbr0".into()));
    let prefix = mode(&["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=veth"]);
    assert_eq!(prefix, LocalMode::InterfaceNamePrefix("veth".into()));
}

#[test]
fn every_flag_about_the_process_works() {
    let loaded = load_flags(&[
        "--kubeconfig=/k",
        "--master=https://1.2.3.4",
        "--kube-api-content-type=application/json",
        "--kube-api-qps=50.5",
        "--kube-api-burst=100",
        "--config-sync-period=1h",
        "--hostname-override= Node-B ",
        "--bind-address=fd00::2",
        "--bind-address-hard-fail",
        "--profiling=true",
        "--oom-score-adj=-500",
    ])
    .unwrap();
    let (settings, document) = (loaded.settings, loaded.document);
    let client = &settings.client;
    assert_eq!(client.kubeconfig.as_deref(), Some(Path::new("/k")));
    assert_eq!(client.master.as_deref(), Some("https://1.2.3.4"));
    let client = &document.client_connection;
    assert_eq!((client.qps.to_string().as_str(), client.burst), ("50.5", 100));
    assert_eq!(client.content_type, "application/json");
    assert_eq!(document.config_sync_period.to_std(), Duration::from_hours(1));
    assert_eq!(settings.node_name, "node-b");
    assert_eq!(settings.bind_address, Some("fd00::2".parse().unwrap()));
    assert!(settings.servers.bind_hard_fail && settings.servers.profiling);
    assert_eq!(settings.oom_score_adj, -500);
}

#[test]
fn every_flag_about_connection_tracking_works() {
    let conntrack = load_flags(&[
        "--conntrack-max-per-core=1",
        "--conntrack-min=2",
        "--conntrack-tcp-timeout-established=3s",
        "--conntrack-tcp-timeout-close-wait=4s",
        "--conntrack-tcp-be-liberal",
        "--conntrack-udp-timeout=5s",
        "--conntrack-udp-timeout-stream=6s",
    ])
    .unwrap()
    .settings
    .conntrack;
    assert_eq!((conntrack.max_per_core, conntrack.min, conntrack.tcp_be_liberal), (1, 2, true));
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(conntrack.tcp_established_timeout, seconds(3));
    assert_eq!(conntrack.tcp_close_wait_timeout, seconds(4));
    assert_eq!((conntrack.udp_timeout, conntrack.udp_stream_timeout), (seconds(5), seconds(6)));
}

#[test]
fn servers_are_moved_and_switched_off_by_flags() {
    let servers = |flags: &[&str]| {
        let servers = load_flags(flags).unwrap().settings.servers;
        [servers.healthz, servers.metrics].map(|address| address.map(|address| address.to_string()))
    };
    let some = |text: &str| Some(text.to_owned());
    let moved = servers(&["--healthz-bind-address=1.2.3.4", "--metrics-bind-address=[::]:99"]);
    assert_eq!(moved, [some("1.2.3.4:10256"), some("[::]:99")]);
    assert_eq!(servers(&["--healthz-bind-address=", "--metrics-bind-address", ""]), [None, None]);
    assert_eq!(servers(&["--healthz-port=0", "--metrics-port=0"]), [None, None]);
    let ports = servers(&["--healthz-port=1", "--healthz-bind-address=1.2.3.4", "--metrics-port=2"]);
    assert_eq!(ports, [some("1.2.3.4:1"), some("127.0.0.1:10249")]);
}

#[test]
fn ipvs_takes_its_own_periods() {
    let flags =
        ["--proxy-mode=ipvs", "--ipvs-sync-period=9s", "--ipvs-min-sync-period=0", "--masquerade-all"];
    let settings = load_flags(&flags).unwrap().settings;
    assert_eq!((settings.sync_period, settings.min_sync_period), (Duration::from_secs(9), Duration::ZERO));
    assert_eq!((settings.mode, settings.masquerade_all), (Mode::Nftables, true));
}

#[test]
fn a_file_wins_over_ordinary_flags() {
    let flags = ["--oom-score-adj=5", "--cluster-cidr=11.0.0.0/8", "--masquerade-all", "--kubeconfig=/k"];
    let settings = load_text(&format!("{HEAD}{FILE}"), &flags).unwrap().settings;
    assert_eq!((settings.oom_score_adj, settings.masquerade_all), (7, false));
    assert_eq!(settings.local_mode, LocalMode::ClusterCidr(vec!["10.0.0.0/8".parse().unwrap()]));
    assert_eq!((settings.client.kubeconfig, settings.node_name), (None, "from-file".into()));
}

#[test]
fn the_node_name_and_the_master_win_over_a_file() {
    let flags = ["--hostname-override", "From-Flag", "--master=https://m"];
    let settings = load_text(&format!("{HEAD}{FILE}"), &flags).unwrap().settings;
    assert_eq!(
        (settings.node_name.as_str(), settings.client.master.as_deref()),
        ("from-flag", Some("https://m"))
    );
}

#[test]
fn given_logging_flags_win_over_a_file_and_others_do_not() {
    let text = format!("{HEAD}logging: {{verbosity: 1, vmodule: [{{filePattern: b, verbosity: 2}}]}}\n");
    let logging = load_text(&text, &["-v=7", "--vmodule=a*=3,c=4"]).unwrap().settings.logging;
    assert_eq!(logging.verbosity, 7);
    let patterns: Vec<_> =
        logging.vmodule.iter().map(|(pattern, level)| (pattern.as_str(), *level)).collect();
    assert_eq!(patterns, [("a*", 3), ("c", 4), ("b", 2)]);
    let logging = load_text(&format!("{HEAD}{FILE}"), &[]).unwrap().settings.logging;
    assert_eq!((logging.format, logging.verbosity), (LogFormat::Json, 1));
    let logging = load_text(&format!("{HEAD}{FILE}"), &["--logging-format=text"]).unwrap().settings.logging;
    assert_eq!((logging.format, logging.verbosity), (LogFormat::Text, 1));
}

#[test]
fn given_own_flags_win_over_both_documents() {
    let ours =
        "socketLB: host\nacceleration: tc\ncgroupRoot: /file/cg\nbpffsRoot: /file/bpf\nmanifests: /file/m\n";
    let text = format!("{HEAD}{FILE}{SHUNT_HEAD}{ours}");
    let flags = [
        "--proxy-mode=nftables",
        "--socket-lb=off",
        "--acceleration=xdp",
        "--cgroup-root=/cg",
        "--bpffs-root=/bpf",
        "--manifests=/m",
    ];
    let loaded = load_text(&text, &flags).unwrap();
    let (settings, ebpf) = (&loaded.settings, &loaded.settings.ebpf);
    assert_eq!((settings.mode, loaded.document.mode.as_str()), (Mode::Nftables, "nftables"));
    assert_eq!((ebpf.socket_lb, ebpf.acceleration), (SocketLb::Off, Acceleration::Xdp));
    assert_eq!(
        (ebpf.cgroup_root.as_path(), ebpf.bpffs_root.as_path()),
        (Path::new("/cg"), Path::new("/bpf"))
    );
    assert_eq!(settings.manifests.as_deref(), Some(Path::new("/m")));
    assert_eq!(loaded.shunt.acceleration.0, "xdp");
    let file = load_text(&text, &[]).unwrap().settings;
    assert_eq!(
        (file.ebpf.socket_lb, file.manifests.as_deref()),
        (SocketLb::Host, Some(Path::new("/file/m")))
    );
}
