//! Files that others wrote for kube-proxy work as they are.

use std::time::Duration;

use super::load_text;
use crate::config::{KubeProxyConfiguration, LocalMode, Mode, NodePortAddresses};

const KUBEADM: &str = include_str!("kubeadm.yaml");

#[test]
fn an_untouched_kubeadm_config_map_loads() {
    let loaded = load_text(KUBEADM, &["--hostname-override=Node-1"]).unwrap();
    let settings = loaded.settings;
    assert_eq!((settings.node_name.as_str(), settings.mode), ("node-1", Mode::Nftables));
    assert_eq!(settings.local_mode, LocalMode::ClusterCidr(vec!["10.244.0.0/16".parse().unwrap()]));
    assert_eq!(settings.client.kubeconfig, Some("/var/lib/kube-proxy/kubeconfig.conf".into()));
    let mut defaults = KubeProxyConfiguration::with_defaults();
    defaults.cluster_cidr = "10.244.0.0/16".into();
    defaults.client_connection.kubeconfig = "/var/lib/kube-proxy/kubeconfig.conf".into();
    defaults.hostname_override = "node-1".into();
    assert_eq!(loaded.document, defaults);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn node_port_addresses_that_nobody_chose_are_those_of_the_mode_that_was_written() {
    let everywhere = NodePortAddresses::Cidrs(vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
    for (mode, expected) in [
        ("", everywhere.clone()),
        ("iptables", everywhere.clone()),
        ("ipvs", everywhere),
        ("nftables", NodePortAddresses::Primary),
        ("auto", NodePortAddresses::Primary),
    ] {
        let edited = KUBEADM.replacen("mode: \"\"", &format!("mode: \"{mode}\""), 1);
        let settings = load_text(&edited, &[]).unwrap().settings;
        assert_eq!(settings.node_port_addresses, expected, "mode {mode:?}");
    }
}

#[test]
fn an_untouched_file_keeps_what_it_says_about_iptables() {
    let edited = KUBEADM.replacen("masqueradeAll: false", "masqueradeAll: true", 1).replacen(
        "masqueradeBit: null",
        "masqueradeBit: 10",
        1,
    );
    let modes =
        [("mode: \"\"", Mode::Nftables), ("mode: iptables", Mode::Nftables), ("mode: auto", Mode::Auto)];
    for (mode, expected) in modes {
        let settings = load_text(&edited.replace("mode: \"\"", mode), &[]).unwrap().settings;
        assert!(settings.masquerade_all, "{mode}");
        assert_eq!((settings.masquerade_mark(), settings.mode), (0x400, expected), "{mode}");
    }
    let nftables = load_text(&edited.replace("mode: \"\"", "mode: nftables"), &[]).unwrap().settings;
    assert_eq!((nftables.masquerade_all, nftables.masquerade_bit), (false, 14));
}

#[test]
fn without_a_mode_a_touched_nftables_section_wins() {
    let edited = KUBEADM
        .replacen("masqueradeBit: null", "masqueradeBit: 10", 1)
        .replace("nftables:\n  masqueradeAll: false", "nftables:\n  masqueradeAll: true");
    let settings = load_text(&edited, &[]).unwrap().settings;
    assert_eq!((settings.masquerade_all, settings.masquerade_bit), (true, 14));
}

#[test]
fn ipvs_has_its_own_periods_and_the_mark_of_iptables() {
    let text = KUBEADM
        .replace("mode: \"\"", "mode: ipvs")
        .replacen("masqueradeBit: null", "masqueradeBit: 3", 1)
        .replace("minSyncPeriod: 0s\n  scheduler", "minSyncPeriod: 200ms\n  scheduler");
    let loaded = load_text(&text, &[]).unwrap();
    let settings = loaded.settings;
    assert_eq!((settings.mode, settings.masquerade_bit), (Mode::Nftables, 3));
    assert_eq!(settings.min_sync_period, Duration::from_millis(200));
    assert!(
        loaded.warnings[0].starts_with("mode \"ipvs\" is taken as \"nftables\""),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn a_file_in_block_style_with_quotes_everywhere_loads() {
    let text = r#"apiVersion: "kubeproxy.config.k8s.io/v1alpha1"
kind: "KubeProxyConfiguration"
mode: "nftables"
hostnameOverride: "node-a"
bindAddress: "0.0.0.0"
healthzBindAddress: "0.0.0.0:10256"
metricsBindAddress: "127.0.0.1:10249"
clientConnection:
  kubeconfig: "/tmp/kubeconfig"
detectLocalMode: "InterfaceNamePrefix"
clusterCIDR: ""
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: "veth"
nodePortAddresses: []
conntrack:
  maxPerCore: 0
  min: 0
  tcpEstablishedTimeout: "0s"
  tcpCloseWaitTimeout: "0s"
iptables:
  masqueradeAll: true
  minSyncPeriod: "100ms"
  syncPeriod: "30s"
  localhostNodePorts: true
nftables:
  masqueradeAll: true
  minSyncPeriod: "100ms"
  syncPeriod: "30s"
"#;
    let loaded = load_text(text, &[]).unwrap();
    let settings = loaded.settings;
    assert_eq!((settings.mode, settings.masquerade_all), (Mode::Nftables, true));
    assert_eq!(settings.min_sync_period, Duration::from_millis(100));
    assert_eq!(settings.local_mode, LocalMode::InterfaceNamePrefix("veth".into()));
    assert_eq!(settings.node_port_addresses, NodePortAddresses::Primary);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn json_is_read_too() {
    let text = r#"{"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "nodePortAddresses": ["10.0.0.0/8", "fd00::/8"], "iptables": {"syncPeriod": "1m"}}"#;
    let settings = load_text(text, &[]).unwrap().settings;
    assert_eq!(settings.sync_period, Duration::from_mins(1));
    let ranges = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
    assert_eq!(settings.node_port_addresses, NodePortAddresses::Cidrs(ranges));
}
