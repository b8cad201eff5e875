//! What has no effect is answered once, with a reason.

use super::{HEAD, load_flags, load_lines, load_text};

const NFTABLES: &str = "--proxy-mode=nftables";

fn of_flags(flags: &[&str]) -> Vec<String> {
    load_flags(&[&[NFTABLES], flags].concat()).unwrap().warnings
}

fn of_lines(lines: &str) -> Vec<String> {
    load_lines(&format!("mode: nftables\n{lines}")).unwrap().warnings
}

#[test]
fn each_flag_without_effect_gives_one_warning_that_names_it() {
    for flag in [
        "--feature-gates=SomeGate=true",
        "--show-hidden-metrics-for-version=1.35",
        "--proxy-port-range=1-2",
        "--ipvs-scheduler=rr",
        "--ipvs-exclude-cidrs=10.0.0.0/8",
        "--ipvs-strict-arp",
        "--ipvs-tcp-timeout=1s",
        "--ipvs-tcpfin-timeout=1s",
        "--ipvs-udp-timeout=1s",
        "--ipvs-sync-period=1s",
        "--ipvs-min-sync-period=1s",
        "--kube-api-content-type=application/cbor",
        "--log-flush-frequency=1s",
        "--log-json-split-stream",
        "--log-text-split-stream",
        "--log-json-info-buffer-size=1Ki",
        "--log-text-info-buffer-size=1Ki",
        "--boot-id-file=/b",
        "--machine-id-file=/m",
        "--healthz-port=1",
        "--metrics-port=1",
    ] {
        let warnings = of_flags(&[flag]);
        let name = flag.split_once('=').map_or(flag, |(name, _)| name);
        assert_eq!(warnings.len(), 1, "{flag}: {warnings:?}");
        assert!(warnings[0].starts_with(&format!("{name} ")), "{flag}: {warnings:?}");
    }
}

#[test]
fn each_field_without_effect_gives_one_warning_that_names_it() {
    for (line, path) in [
        ("featureGates: {SomeGate: false}", "featureGates"),
        ("showHiddenMetricsForVersion: '1.35'", "showHiddenMetricsForVersion"),
        ("portRange: 1-2", "portRange"),
        ("ipvs: {scheduler: rr}", "ipvs.scheduler"),
        ("ipvs: {excludeCIDRs: [10.0.0.0/8]}", "ipvs.excludeCIDRs"),
        ("ipvs: {strictARP: true}", "ipvs.strictARP"),
        ("ipvs: {tcpTimeout: 1s}", "ipvs.tcpTimeout"),
        ("ipvs: {tcpFinTimeout: 1s}", "ipvs.tcpFinTimeout"),
        ("ipvs: {udpTimeout: 1s}", "ipvs.udpTimeout"),
        ("winkernel: {enableDSR: true}", "winkernel"),
        ("windowsRunAsService: true", "windowsRunAsService"),
        ("clientConnection: {contentType: application/cbor}", "clientConnection.contentType"),
        ("clientConnection: {acceptContentTypes: text/xml}", "clientConnection.acceptContentTypes"),
        ("logging: {flushFrequency: 1s}", "logging.flushFrequency"),
        ("logging: {options: {json: {splitStream: true}}}", "logging.options.json.splitStream"),
        ("logging: {options: {text: {splitStream: true}}}", "logging.options.text.splitStream"),
        ("logging: {options: {json: {infoBufferSize: 1}}}", "logging.options.json.infoBufferSize"),
        ("logging: {options: {text: {infoBufferSize: 1M}}}", "logging.options.text.infoBufferSize"),
    ] {
        let warnings = of_lines(line);
        assert_eq!(warnings.len(), 1, "{line}: {warnings:?}");
        assert!(warnings[0].starts_with(&format!("{path} has no effect: ")), "{line}: {warnings:?}");
    }
}

#[test]
fn the_defaults_give_no_warning_in_nftables_mode() {
    assert_eq!(of_flags(&[]), Vec::<String>::new());
    assert_eq!(of_lines(""), Vec::<String>::new());
}

#[test]
fn modes_that_are_not_ours_are_taken_as_nftables_with_a_warning() {
    for mode in ["iptables", "ipvs"] {
        let lines = format!("mode: {mode}\nnodePortAddresses: [primary]\n");
        let warnings = load_lines(&lines).unwrap().warnings;
        assert_eq!(
            warnings,
            [format!("mode {mode:?} is taken as \"nftables\": shunt has no such dataplane")]
        );
    }
}

#[test]
fn limits_that_nothing_keeps_to_are_announced_when_they_were_changed() {
    let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
                clientConnection: {qps: 50, burst: 100}\nconfigSyncPeriod: 1m\n";
    let warnings = load_text(text, &[]).unwrap().warnings;
    for field in ["clientConnection.qps", "clientConnection.burst", "configSyncPeriod"] {
        assert_eq!(warnings.iter().filter(|warning| warning.starts_with(field)).count(), 1, "{warnings:?}");
    }
}

#[test]
fn flags_that_a_file_overrules_are_named_in_one_warning() {
    let text = format!("{HEAD}mode: nftables\n");
    let flags =
        ["--masquerade-all", "--ipvs-scheduler=rr", "-v=2", "--hostname-override=n", "--cgroup-root=/c"];
    let warnings = load_text(&text, &flags).unwrap().warnings;
    assert_eq!(
        warnings,
        ["--config is given: --ipvs-scheduler, --masquerade-all are ignored, the file counts"]
    );
    let warnings = load_text(&text, &["--profiling"]).unwrap().warnings;
    assert_eq!(warnings, ["--config is given: --profiling is ignored, the file counts"]);
}

#[test]
fn acceleration_that_cannot_be_had_is_announced() {
    let warnings = |mode: &str, how: &str| {
        let flags = [format!("--proxy-mode={mode}"), format!("--acceleration={how}")];
        load_flags(&flags.each_ref().map(String::as_str)).unwrap().warnings
    };
    for how in ["tc", "xdp"] {
        assert_eq!(warnings("nftables", how), ["acceleration has no effect: it is for mode ebpf"]);
    }
    for mode in ["ebpf", "auto"] {
        assert_eq!(warnings(mode, "tc"), [""; 0]);
        assert_eq!(
            warnings(mode, "xdp"),
            ["acceleration: xdp is taken as tc: this build has no XDP programs"]
        );
    }
}
