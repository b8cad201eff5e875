//! How command lines are read.

use clap::error::ErrorKind;

use super::args::{Args, Client, Command, Output, Source, Target};
use crate::domain::Protocol;

fn parse(words: &[&str]) -> Args {
    Args::parse_from(["shunt"].iter().chain(words)).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn refusal(words: &[&str]) -> clap::Error {
    Args::parse_from(["shunt"].iter().chain(words)).unwrap_err()
}

/// kube-proxy's flags on Linux with their defaults, and then our own.
const FLAGS: [(&str, &str); 64] = [
    ("acceleration", "off"),
    ("bind-address", "0.0.0.0"),
    ("bind-address-hard-fail", "false"),
    ("boot-id-file", "/proc/sys/kernel/random/boot_id"),
    ("bpffs-root", "/sys/fs/bpf"),
    ("cgroup-root", "/sys/fs/cgroup"),
    ("cleanup", "false"),
    ("cluster-cidr", ""),
    ("config", ""),
    ("config-sync-period", "15m0s"),
    ("conntrack-max-per-core", "32768"),
    ("conntrack-min", "131072"),
    ("conntrack-tcp-be-liberal", "false"),
    ("conntrack-tcp-timeout-close-wait", "1h0m0s"),
    ("conntrack-tcp-timeout-established", "24h0m0s"),
    ("conntrack-udp-timeout", "0s"),
    ("conntrack-udp-timeout-stream", "0s"),
    ("detect-local-mode", ""),
    ("feature-gates", ""),
    ("healthz-bind-address", "0.0.0.0:10256"),
    ("healthz-port", "10256"),
    ("hostname-override", ""),
    ("init-only", "false"),
    ("iptables-localhost-nodeports", "true"),
    ("iptables-masquerade-bit", "14"),
    ("iptables-min-sync-period", "1s"),
    ("iptables-sync-period", "30s"),
    ("ipvs-exclude-cidrs", ""),
    ("ipvs-min-sync-period", "1s"),
    ("ipvs-scheduler", ""),
    ("ipvs-strict-arp", "false"),
    ("ipvs-sync-period", "30s"),
    ("ipvs-tcp-timeout", "0s"),
    ("ipvs-tcpfin-timeout", "0s"),
    ("ipvs-udp-timeout", "0s"),
    ("kube-api-burst", "10"),
    ("kube-api-content-type", "application/vnd.kubernetes.protobuf"),
    ("kube-api-qps", "5"),
    ("kubeconfig", ""),
    ("log-flush-frequency", "5s"),
    ("log-json-info-buffer-size", "0"),
    ("log-json-split-stream", "false"),
    ("log-text-info-buffer-size", "0"),
    ("log-text-split-stream", "false"),
    ("logging-format", "text"),
    ("machine-id-file", "/etc/machine-id,/var/lib/dbus/machine-id"),
    ("manifests", ""),
    ("masquerade-all", "false"),
    ("master", ""),
    ("metrics-bind-address", "127.0.0.1:10249"),
    ("metrics-port", "10249"),
    ("nodeport-addresses", ""),
    ("oom-score-adj", "-999"),
    ("pod-bridge-interface", ""),
    ("pod-interface-name-prefix", ""),
    ("profiling", "false"),
    ("proxy-mode", ""),
    ("proxy-port-range", ""),
    ("show-hidden-metrics-for-version", ""),
    ("socket-lb", "all"),
    ("v", "0"),
    ("version", "false"),
    ("vmodule", ""),
    ("write-config-to", ""),
];

#[test]
fn all_flags_are_there_with_kube_proxys_defaults() {
    let args = parse(&[]);
    let flags: Vec<_> = args.flags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(flags, FLAGS);
    assert!(args.given.is_empty(), "{:?}", args.given);
}

#[test]
fn values_follow_an_equal_sign_or_a_space() {
    let args = parse(&["--config=/c", "--hostname-override", "n1", "--kube-api-qps=1.5"]);
    assert_eq!((args.process.config.as_str(), args.api.hostname_override.as_str()), ("/c", "n1"));
    assert_eq!(
        args.given.iter().map(String::as_str).collect::<Vec<_>>(),
        ["config", "hostname-override", "kube-api-qps"]
    );
    assert_eq!(args.flags.iter().find(|(name, _)| name == "kube-api-qps").unwrap().1, "1.5");
}

#[test]
fn booleans_stand_alone_or_follow_an_equal_sign() {
    for (word, expected) in [
        ("--cleanup", true),
        ("--cleanup=true", true),
        ("--cleanup=T", true),
        ("--cleanup=1", true),
        ("--cleanup=false", false),
        ("--cleanup=F", false),
    ] {
        let args = parse(&[word]);
        assert_eq!(args.process.cleanup, expected, "{word}");
        assert!(args.is_given("cleanup"), "{word}");
    }
    assert!(!parse(&["--iptables-localhost-nodeports=false"]).iptables.iptables_localhost_nodeports);
    assert!(parse(&["--version"]).process.version && parse(&["--version=raw"]).process.version);
    assert_eq!(refusal(&["--cleanup=yes"]).kind(), ErrorKind::ValueValidation);
    assert_eq!(refusal(&["--cleanup", "true"]).kind(), ErrorKind::InvalidSubcommand);
}

#[test]
fn verbosity_has_all_of_its_spellings() {
    for words in [&["-v", "2"][..], &["-v=2"], &["-v2"], &["--v=2"], &["--v", "2"]] {
        let args = parse(words);
        assert!(args.logs.verbosity == 2 && args.is_given("v"), "{words:?}");
    }
    assert_eq!(refusal(&["-v=lots"]).kind(), ErrorKind::ValueValidation);
}

#[test]
fn numbers_and_durations_may_be_negative() {
    for words in [&["--oom-score-adj", "-5"][..], &["--oom-score-adj=-5"]] {
        assert_eq!(parse(words).host.oom_score_adj, -5);
    }
    assert_eq!(parse(&["--ipvs-udp-timeout", "-1m"]).ipvs.ipvs_udp_timeout.nanos(), -60_000_000_000);
}

#[test]
fn underscores_in_names_are_dashes_and_values_are_left_alone() {
    let args = parse(&["--hostname_override=a_b", "--boot_id_file", "/x_y"]);
    assert_eq!((args.api.hostname_override.as_str(), args.host.boot_id_file.as_str()), ("a_b", "/x_y"));
}

#[test]
fn the_last_of_a_repeated_flag_counts_and_lists_add_up() {
    let args =
        parse(&["--oom-score-adj=1", "--oom-score-adj=2", "--cleanup", "--cleanup=false", "-v=1", "-v=3"]);
    assert_eq!((args.host.oom_score_adj, args.process.cleanup, args.logs.verbosity), (2, false, 3));
    let args = parse(&["--nodeport-addresses=a,b", "--nodeport-addresses", "c"]);
    assert_eq!(args.proxy.nodeport_addresses, ["a", "b", "c"]);
    assert_eq!(args.flags.iter().find(|(name, _)| name == "nodeport-addresses").unwrap().1, "a,b,c");
}

#[test]
fn gates_and_patterns_are_lists_of_pairs() {
    let args = parse(&["--feature-gates=A=true,B=false", "--vmodule=a*=1,b=2"]);
    let gates: Vec<_> = args.process.feature_gates.0.iter().map(|(name, on)| (name.as_str(), *on)).collect();
    assert_eq!(gates, [("A", true), ("B", false)]);
    assert_eq!(args.logs.vmodule.0, [("a*".to_owned(), 1), ("b".to_owned(), 2)]);
    for words in [["--feature-gates=A"], ["--feature-gates=A=maybe"], ["--vmodule=a"], ["--vmodule=a=b"]] {
        assert_eq!(refusal(&words).kind(), ErrorKind::ValueValidation, "{words:?}");
    }
}

#[test]
fn what_is_neither_flag_nor_subcommand_is_refused() {
    assert_eq!(refusal(&["something"]).kind(), ErrorKind::InvalidSubcommand);
    assert_eq!(refusal(&["--no-such-flag"]).kind(), ErrorKind::UnknownArgument);
    assert_eq!(refusal(&["--config"]).kind(), ErrorKind::InvalidValue);
    for word in ["--socket-lb=some", "--acceleration=warp"] {
        assert_eq!(refusal(&[word]).kind(), ErrorKind::InvalidValue, "{word}");
    }
    for word in
        ["--bind-address=here", "--config-sync-period=5", "--iptables-masquerade-bit=x", "--healthz-port=x"]
    {
        let error = refusal(&[word]);
        assert_eq!(error.kind(), ErrorKind::ValueValidation, "{word}");
        assert!(error.to_string().contains(word.split_once('=').unwrap().0), "{error}");
    }
}

#[test]
fn deprecated_flags_are_hidden_from_the_help() {
    let error = refusal(&["--help"]);
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::DisplayHelp, 0));
    let help = error.to_string();
    for hidden in ["--healthz-port", "--metrics-port", "--proxy-port-range"] {
        assert!(!help.contains(hidden), "{hidden}");
    }
    assert!(help.contains("--iptables-masquerade-bit") && help.contains("explain"), "{help}");
    assert!(!help.contains("[default: ]"), "{help}");
}

#[test]
fn subcommands_know_which_agent_to_ask() {
    let default = Client { metrics_address: "127.0.0.1:10249".parse().unwrap(), output: Output::Table };
    assert_eq!(parse(&["status"]).command, Some(Command::Status(default.clone())));
    let asked = parse(&["services", "-o", "json", "--metrics-address=[::1]:9"]).command;
    let client = Client { metrics_address: "[::1]:9".parse().unwrap(), output: Output::Json };
    assert_eq!(asked, Some(Command::Services(client)));
    for (words, own) in
        [(&["cleanup", "--bpffs-root=/b"][..], false), (&["cleanup", "--own", "--bpffs-root=/b"], true)]
    {
        let args = parse(words);
        assert_eq!(
            (args.command, args.own.bpffs_root.to_str()),
            (Some(Command::Cleanup { own }), Some("/b"))
        );
    }
    assert_eq!(parse(&[]).command, None);
}

#[test]
fn explain_takes_a_source_and_a_target() {
    let explain = |from: &str, to: &str| match parse(&["explain", from, to]).command {
        Some(Command::Explain { from, to, .. }) => (from, to),
        other => panic!("{other:?}"),
    };
    let target = |address: &str, protocol| Target { address: address.parse().unwrap(), protocol };
    let (from, to) = explain("10.244.0.5", "10.96.0.10:53/UDP");
    assert_eq!(from, Source::Address("10.244.0.5".parse().unwrap()));
    assert_eq!(to, target("10.96.0.10:53", Protocol::Udp));
    assert_eq!(explain("node", "[fd00::1]:80/tcp"), (Source::Node, target("[fd00::1]:80", Protocol::Tcp)));
    for words in
        [["pod", "1.2.3.4:5/tcp"], ["node", "1.2.3.4:5"], ["node", "1.2.3.4/tcp"], ["node", "1.2.3.4:5/icmp"]]
    {
        let error = refusal(&["explain", words[0], words[1]]);
        assert_eq!(error.kind(), ErrorKind::ValueValidation, "{words:?}");
    }
}
