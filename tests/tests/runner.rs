//! The case runner itself: a right ruleset passes, each kind of damage shows.
//!
//! The agent here is a few lines of nft(8), written by hand for one case.

#![expect(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use shunt_tests::Mode;
use shunt_tests::flows::{AgentProgram, Backend, Case, Options, cases_of, run};

const CASE: &str = r#"{
 "name": "runner",
 "config": {"localDetect": {"mode": "ClusterCIDR", "clusterCIDR": "10.0.0.0/8"}},
 "node": {"ips": ["192.168.0.2"]},
 "steps": [{
  "services": [{"metadata": {"name": "web", "namespace": "ns"}, "spec": {"type": "NodePort", "clusterIP": "172.30.0.41",
    "ports": [{"port": 80, "nodePort": 30001}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "sctp", "port": 7, "protocol": "SCTP"}]}}],
  "endpointSlices": [{"metadata": {"name": "web-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
    "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": "test-node"}, {"addresses": ["10.1.0.2"], "nodeName": "other"}],
    "ports": [{"port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "sctp", "port": 7, "protocol": "SCTP"}]}],
  "flows": [
   {"name": "pod to cluster IP", "from": "10.0.0.2", "to": "172.30.0.41", "port": 80,
    "expect": {"kind": "endpoints", "endpoints": ["10.1.0.1:8080", "10.1.0.2:8080"], "masquerade": false}},
   {"name": "outside to node port", "from": "203.0.113.5", "to": "192.168.0.2", "port": 30001,
    "expect": {"kind": "endpoints", "endpoints": ["10.1.0.1:8080", "10.1.0.2:8080"], "masquerade": true}},
   {"name": "node to cluster IP", "to": "172.30.0.41", "port": 80,
    "expect": {"kind": "endpoints", "endpoints": ["10.1.0.1:8080", "10.1.0.2:8080"]}},
   {"name": "endpoint to itself", "from": "10.1.0.1", "to": "172.30.0.41", "port": 53, "protocol": "UDP", "payload": 3000, "replySize": 3000,
    "expect": {"kind": "endpoints", "endpoints": ["10.1.0.1:5353"], "masquerade": true}},
   {"name": "sctp", "from": "10.0.0.2", "to": "172.30.0.41", "port": 7, "protocol": "SCTP",
    "expect": {"kind": "endpoints", "endpoints": ["10.1.0.2:7"], "masquerade": false}},
   {"name": "refused", "from": "10.0.0.2", "to": "172.30.0.41", "port": 81, "expect": {"kind": "reject"}},
   {"name": "refused over udp", "from": "10.0.0.2", "to": "172.30.0.41", "port": 81, "protocol": "UDP", "expect": {"kind": "reject"}},
   {"name": "refused on the node", "to": "172.30.0.41", "port": 81, "expect": {"kind": "reject"}},
   {"name": "silent", "from": "10.0.0.2", "to": "172.30.0.42", "port": 80, "expect": {"kind": "drop"}},
   {"name": "left alone", "from": "10.0.0.2", "to": "192.168.0.2", "port": 30002, "expect": {"kind": "none"}}]}]}"#;

/// The rules for [`CASE`] and the runner's barrier of its first step.
const RULES: &str = "
table ip reference {
  chain services {
    ip daddr 198.18.0.1 tcp dport 20000 dnat to 198.19.0.1:9
    ip daddr 172.30.0.41 tcp dport 80 goto web
    ip daddr 192.168.0.2 tcp dport 30001 goto outside-web
    ip daddr 172.30.0.41 udp dport 53 dnat to 10.1.0.1:5353
    ip daddr 172.30.0.41 sctp dport 7 dnat to 10.1.0.2:7
  }
  chain outside-web { meta mark set 0x4000
    goto web
  }
  chain web {
    meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.1.0.1 . 8080, 1 : 10.1.0.2 . 8080 }
  }
  chain pre { type nat hook prerouting priority -100; jump services; }
  chain out { type nat hook output priority -100; jump services; }
  chain post { type nat hook postrouting priority 100
    meta mark 0x4000 masquerade
    ip saddr 10.1.0.1 ip daddr 10.1.0.1 masquerade
  }
  chain refuse { ip daddr 172.30.0.41 tcp dport 81 reject
    ip daddr 172.30.0.41 udp dport 81 reject
    ip daddr 172.30.0.42 drop
  }
  chain forwarded { type filter hook forward priority -1; jump refuse; }
  chain sent { type filter hook output priority -1; jump refuse; }
}";

fn case() -> Case {
    cases_of(CASE, Backend::Nftables).expect("the case can be read").remove(0)
}

/// Runs the case with rules of which `from` was replaced by `to`, and returns
/// what went wrong by name of the flow.
fn problems(from: &str, to: &str) -> Vec<(String, String)> {
    assert!(from.is_empty() || RULES.contains(from), "nothing to replace");
    let rules = if from.is_empty() { RULES.to_owned() } else { RULES.replace(from, to) };
    let script = format!("nft -f - <<'END' && exec sleep 1000\n{rules}\nEND\n");
    let program = AgentProgram::Other(["sh", "-c", &script].map(Into::into).to_vec());
    let options =
        Options { step_patience: std::time::Duration::ZERO, ..Options::new(program, Mode::Nftables) };
    let failures = run(&case(), &options).expect("the case can be carried out");
    let name = |flow: &str| flow.split(':').next().unwrap_or_default().to_owned();
    failures.iter().map(|failure| (name(&failure.flow), failure.seen.join("; "))).collect()
}

fn one_problem(from: &str, to: &str) -> (String, String) {
    let mut problems = problems(from, to);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

#[test]
fn a_right_ruleset_passes() {
    assert_eq!(problems("", ""), []);
}

#[test]
fn a_wrong_endpoint_is_reported() {
    let (flow, seen) = one_problem("dnat to 10.1.0.1:5353", "dnat to 10.1.0.2:5353");
    assert_eq!(flow, "endpoint to itself");
    assert!(seen.contains("answered by 10.1.0.2:5353"), "{seen}");
}

#[test]
fn an_endpoint_that_is_never_chosen_is_reported() {
    let found = problems("1 : 10.1.0.2 . 8080", "1 : 10.1.0.1 . 8080");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|(_, seen)| seen == "10.1.0.2:8080 never answered in 48 attempts"), "{found:?}");
}

#[test]
fn masquerading_too_little_and_too_much_is_reported() {
    let (flow, seen) = one_problem("meta mark set 0x4000", "counter");
    assert_eq!(flow, "outside to node port");
    assert!(seen.contains("not masqueraded"), "{seen}");
    let found = problems("meta mark 0x4000 masquerade", "masquerade");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|(_, seen)| seen.contains("instead of 10.0.0.2 (masqueraded)")), "{found:?}");
}

#[test]
fn a_drop_in_place_of_a_reject_is_reported_and_the_other_way_round() {
    let (flow, seen) = one_problem("udp dport 81 reject", "udp dport 81 drop");
    assert_eq!((flow.as_str(), seen.as_str()), ("refused over udp", "dropped (no answer)"));
    let (flow, seen) = one_problem("172.30.0.42 drop", "172.30.0.42 reject");
    assert_eq!(flow, "silent");
    assert!(seen.contains("rejected"), "{seen}");
}

#[test]
fn a_packet_that_was_not_translated_is_reported() {
    let (flow, seen) = one_problem("ip daddr 172.30.0.41 sctp dport 7 dnat to 10.1.0.2:7", "");
    assert_eq!(flow, "sctp");
    assert_eq!(seen, "not translated: arrived at ext as 172.30.0.41:7");
}

#[test]
fn touching_what_should_be_left_alone_is_reported() {
    let (flow, _) = one_problem(
        "udp dport 53 dnat to 10.1.0.1:5353",
        "udp dport 53 dnat to 10.1.0.1:5353\nip daddr 192.168.0.2 tcp dport 30002 goto web",
    );
    assert_eq!(flow, "left alone");
}

#[test]
fn an_agent_that_ends_fails_the_case_and_its_last_words_are_shown() {
    let end = AgentProgram::Other(["sh", "-c", "echo last words; exit 3"].map(Into::into).to_vec());
    let error = format!("{:#}", run(&case(), &Options::new(end, Mode::Nftables)).expect_err("it ended"));
    assert!(error.contains("ended by itself") && error.contains("last words"), "{error}");
}
