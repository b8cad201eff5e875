//! Files and their documents: which are there, what is written back, and what becomes of pod ranges.

use std::path::Path;

use super::{HEAD, SHUNT_HEAD, args, load_flags, load_lines, load_text};
use crate::config::{
    Acceleration, ConfigError, GoDuration, KubeProxyConfiguration, LocalMode, Settings, SocketLb, load, write,
};
use crate::domain::{IpFamily, LocalDetector, Node};
use crate::kernel::ebpf::{Attaching, Order};

#[test]
fn our_settings_come_from_a_second_document() {
    let own = "socketLB: host\nacceleration: xdp\ncgroupRoot: /cg\nbpffsRoot: /bpf\nmanifests: /etc/shunt\n";
    let ours_first = format!("{}{own}---\n{HEAD}", SHUNT_HEAD.trim_start_matches("---\n"));
    for text in [format!("{HEAD}{SHUNT_HEAD}{own}"), ours_first] {
        let settings = load_text(&text, &[]).unwrap().settings;
        let ebpf = settings.ebpf;
        assert_eq!((ebpf.socket_lb, ebpf.acceleration), (SocketLb::Host, Acceleration::Xdp));
        assert_eq!(
            (ebpf.cgroup_root.as_path(), ebpf.bpffs_root.as_path()),
            (Path::new("/cg"), Path::new("/bpf"))
        );
        assert_eq!(settings.manifests, Some("/etc/shunt".into()));
    }
}

#[test]
fn how_programs_get_onto_interfaces_is_read() {
    let attaching =
        |lines: &str| load_text(&format!("{HEAD}{SHUNT_HEAD}{lines}"), &[]).unwrap().settings.ebpf.attaching;
    assert_eq!(attaching("filterPriority: 0\ninterfaceOrder: ''\n"), Attaching::default());
    let expected = Attaching {
        order: Order::Before("cil_from_container".into()),
        only_filters: true,
        filter_priority: 7,
    };
    let lines = "filterPriority: 7\ninterfaceHook: clsact\ninterfaceOrder: before:cil_from_container\n";
    assert_eq!(attaching(lines), expected);
}

#[test]
fn the_word_off_needs_no_quotes() {
    for text in ["off", "'off'", "\"off\"", "null", "''"] {
        let lines = format!("{HEAD}{SHUNT_HEAD}acceleration: {text}\nsocketLB: off\n");
        let ebpf = load_text(&lines, &[]).unwrap_or_else(|error| panic!("{text}: {error}")).settings.ebpf;
        assert_eq!((ebpf.acceleration, ebpf.socket_lb), (Acceleration::Off, SocketLb::Off), "{text}");
    }
}

#[test]
fn empty_documents_and_comments_do_not_count() {
    let text = format!("# before\n---\n---\n{HEAD}mode: nftables\n...\n---\n# after\n");
    load_text(&text, &[]).unwrap();
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_not_matter() {
    let text = format!("\u{feff}{HEAD}mode: nftables\n{SHUNT_HEAD}socketLB: host\n").replace('\n', "\r\n");
    assert_eq!(load_text(&text, &[]).unwrap().settings.ebpf.socket_lb, SocketLb::Host);
}

#[test]
fn wrong_sets_of_documents_are_refused() {
    for (text, message) in [
        (String::new(), "no document of kind KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1)"),
        (
            SHUNT_HEAD.to_owned(),
            "no document of kind KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1)",
        ),
        (format!("{HEAD}---\n{HEAD}"), "more than one document of kind KubeProxyConfiguration"),
        (format!("{HEAD}{SHUNT_HEAD}{SHUNT_HEAD}"), "more than one document of kind ShuntConfiguration"),
        ("mode: ''\n".to_owned(), "the document has no apiVersion"),
        ("apiVersion: kubeproxy.config.k8s.io/v1alpha1\n".to_owned(), "the document has no kind"),
    ] {
        let error = load_text(&text, &[]).unwrap_err().to_string();
        assert!(error.ends_with(message), "{text}: {error}");
    }
}

#[test]
fn a_document_of_another_kind_is_refused_with_its_line() {
    let text = format!("{HEAD}---\n\napiVersion: v1\nkind: ConfigMap\n");
    let error = load_text(&text, &[]).unwrap_err();
    assert!(matches!(error, ConfigError::Syntax { line: 5, .. }), "{error}");
    assert!(error.to_string().contains("unknown document \"v1\" \"ConfigMap\""), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let error = load(&args(&["--config=/nowhere/config.conf"])).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the configuration file /nowhere/config.conf");
    let error = write(Path::new("/nowhere/out"), &KubeProxyConfiguration::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot write the configuration to /nowhere/out");
}

#[test]
fn a_document_with_everything_in_it_survives_being_written_and_read() {
    let everything = "bindAddress: 'fd00::1'\nfeatureGates: {SomeGate: true}\nmode: iptables\n\
        nodePortAddresses: [10.0.0.0/8, 'fd00::/8']\nipvs: {excludeCIDRs: [10.0.0.0/8], scheduler: rr, strictARP: true}\n\
        iptables: {localhostNodePorts: false, masqueradeBit: 0, minSyncPeriod: 1500ms}\n\
        logging: {flushFrequency: 7, vmodule: [{filePattern: 'a*', verbosity: 3}], options: {json: {infoBufferSize: 64Ki, splitStream: true}}}\n\
        hostnameOverride: '0123'\nclusterCIDR: '10.0.0.0/8,fd00::/8'\nwindowsRunAsService: true\n\
        winkernel: {sourceVip: '1.2.3.4'}\nclientConnection: {qps: 2.5, kubeconfig: 'a: b #c'}\n";
    let document = load_lines(everything).unwrap().document;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("written");
    write(&path, &document).unwrap();
    let read = load(&args(&["--config", path.to_str().unwrap()])).unwrap().document;
    assert_eq!(read, document);
    let json = serde_json::to_value(&document).unwrap();
    assert_eq!(json["apiVersion"], "kubeproxy.config.k8s.io/v1alpha1");
    assert_eq!(json["kind"], "KubeProxyConfiguration");
    assert_eq!(json["iptables"]["minSyncPeriod"], "1.5s");
    assert_eq!(json["logging"]["flushFrequency"], 7);
    assert_eq!(json["ipvs"]["strictARP"], true);
}

#[test]
fn zero_and_null_durations_get_the_default() {
    let document =
        load_lines("nftables: {syncPeriod: 0s, minSyncPeriod: null}\nconntrack: null\n").unwrap().document;
    assert_eq!(document.nftables.sync_period, GoDuration::from_secs(30));
    assert_eq!(document.nftables.min_sync_period, GoDuration::from_secs(1));
    assert_eq!(document.conntrack.min, Some(131_072));
}

fn with_mode(lines: &str) -> Settings {
    load_lines(lines).unwrap().settings
}

fn node(ranges: &[&str]) -> Node {
    Node { pod_cidrs: ranges.iter().map(|range| range.parse().unwrap()).collect(), ..Node::default() }
}

fn ranges(ranges: &[&str]) -> LocalDetector {
    LocalDetector::Cidrs(ranges.iter().map(|range| range.parse().unwrap()).collect())
}

#[test]
fn cluster_ranges_are_used_in_their_own_family() {
    let settings = with_mode("clusterCIDR: '10.244.1.1/16,fd00::/56'\n");
    let detector = |family| settings.local_detector(family, &node(&[])).unwrap();
    assert_eq!(detector(IpFamily::V4), ranges(&["10.244.0.0/16"]));
    assert_eq!(detector(IpFamily::V6), ranges(&["fd00::/56"]));
}

#[test]
fn without_ranges_of_a_family_nobody_is_local_there() {
    let settings = with_mode("clusterCIDR: 10.244.0.0/16\n");
    assert_eq!(settings.local_detector(IpFamily::V6, &node(&[])).unwrap(), LocalDetector::None);
    let nothing = load_flags(&[]).unwrap().settings;
    assert_eq!(nothing.local_detector(IpFamily::V4, &node(&[])).unwrap(), LocalDetector::None);
}

#[test]
fn pod_ranges_of_the_node_are_needed_in_mode_node_cidr() {
    let settings = with_mode("detectLocalMode: NodeCIDR\nhostnameOverride: n1\n");
    assert_eq!(settings.local_mode, LocalMode::NodeCidr);
    let node = node(&["10.244.3.0/24"]);
    assert_eq!(settings.local_detector(IpFamily::V4, &node).unwrap(), ranges(&["10.244.3.0/24"]));
    let error = settings.local_detector(IpFamily::V4, &Node::default()).unwrap_err();
    assert_eq!(error.to_string(), "detectLocalMode NodeCIDR: node \"n1\" has no spec.podCIDRs");
}

#[test]
fn interfaces_are_the_same_in_both_families() {
    let bridge = with_mode("detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cbr0}\n");
    let prefix =
        with_mode("detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}\n");
    for family in IpFamily::ALL {
        let of = |settings: &Settings| settings.local_detector(family, &node(&[])).unwrap();
        assert_eq!(of(&bridge), LocalDetector::BridgeInterface("cbr0".into()));
        assert_eq!(of(&prefix), LocalDetector::InterfaceNamePrefix("veth".into()));
        assert!(bridge.check_families(family, false, &node(&[])).unwrap().is_empty());
    }
}

#[test]
fn ranges_of_the_wrong_family_are_fatal_on_a_single_stack_and_a_warning_on_a_dual_stack() {
    let cluster = with_mode("clusterCIDR: 'fd00::/56'\n");
    let per_node = with_mode("detectLocalMode: NodeCIDR\n");
    let node = node(&["fd00::/64"]);
    for (settings, field) in [(&cluster, "clusterCIDR"), (&per_node, "spec.podCIDRs")] {
        let error = settings.check_families(IpFamily::V4, false, &node).unwrap_err();
        let expected = format!("the node is IPv4-only, but {field} has only ranges of the other family");
        assert_eq!(error.to_string(), expected);
        let [warning] = settings.check_families(IpFamily::V4, true, &node).unwrap().try_into().unwrap();
        assert!(warning.contains(field), "{warning}");
        assert!(settings.check_families(IpFamily::V6, false, &node).unwrap().is_empty());
    }
}

#[test]
fn tables_have_the_sizes_that_are_configured_and_others_follow_the_memory() {
    let with = |lines: &str| load_text(&format!("{HEAD}{SHUNT_HEAD}maps:\n{lines}"), &[]);
    let maps = load_text(HEAD, &[]).unwrap().settings.ebpf.maps;
    assert_eq!((maps.memory_millionths, maps.frontends), (10_000, None));
    let maps = with("  frontends: 1000\n  memoryRatio: 0.025\n").unwrap().settings.ebpf.maps;
    assert_eq!((maps.memory_millionths, maps.frontends.unwrap().get(), maps.flows), (25_000, 1000, None));
    for (lines, path) in [
        ("  flows: -1\n", "maps.flows"),
        ("  poolSlots: 67108865\n", "maps.poolSlots"),
        ("  memoryRatio: 0.9\n", "maps.memoryRatio"),
        ("  memoryRatio: -1\n", "maps.memoryRatio"),
        ("  frontend: 5\n", "frontend"),
    ] {
        let error = with(lines).unwrap_err().to_string();
        assert!(error.contains(path), "{lines}: {error}");
    }
}

#[test]
fn services_have_metrics_of_their_own_when_asked_for() {
    let with = |value: &str| load_text(&format!("{HEAD}{SHUNT_HEAD}serviceMetrics: {value}\n"), &[]);
    assert_eq!(load_text(HEAD, &[]).unwrap().settings.service_metrics, 0);
    assert_eq!(with("200").unwrap().settings.service_metrics, 200);
    assert!(with("-1").unwrap_err().to_string().contains("serviceMetrics"));
}
