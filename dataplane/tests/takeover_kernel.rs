//! Removing what kube-proxy left from a real kernel. Needs root, both iptables, `nft`, `ipset` and `ip`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod namespace;

use std::io::Write;
use std::process::{Command, Stdio};

use namespace::{in_namespace, run};
use shunt::kernel::takeover::{Leftover, detect, remove};

/// As kube-proxy, the kubelet, a CNI plug-in and an administrator would have written them together.
const RULES: &str = r#"*mangle
:KUBE-PROXY-CANARY - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
:KUBE-SEP-HUBCPCOYHV42ZUYX - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A POSTROUTING -m comment --comment "mind the \"-j KUBE-SERVICES\" here" -j ACCEPT
-A KUBE-SERVICES -m comment --comment "default/kubernetes:https cluster IP" -m tcp -p tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-NPX46M4PTMTKRN6Y -j KUBE-MARK-MASQ
-A KUBE-SVC-NPX46M4PTMTKRN6Y -m statistic --mode random --probability 0.5 -j KUBE-SEP-HUBCPCOYHV42ZUYX
-A KUBE-SEP-HUBCPCOYHV42ZUYX -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A INPUT -i lo -j ACCEPT
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -m comment --comment "block incoming localnet connections" -m mark --mark 0x8000 -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
"#;

fn restore(tool: &str, rules: &str) {
    let mut child = Command::new(tool).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{tool}");
}

/// Chains and rules, without comments of the tool and counters.
fn saved(tool: &str) -> Vec<String> {
    let kept = |line: &&str| line.starts_with(['*', ':', '-']);
    run(tool).lines().filter(kept).map(str::to_owned).collect()
}

/// What is left of `RULES` without kube-proxy's, as `tool` prints it.
fn check_only_others_are_left(tool: &str) {
    let left = saved(tool);
    let text = left.join("\n");
    for gone in ["KUBE-SERVICES -", "KUBE-SVC", "KUBE-SEP", "KUBE-POSTROUTING", "KUBE-PROXY", "KUBE-FORWARD"]
    {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
    for kept in [
        ":CNI-HOSTPORT-DNAT - [0:0]",
        "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        r#"-A POSTROUTING -m comment --comment "mind the \"-j KUBE-SERVICES\" here" -j ACCEPT"#,
        ":KUBE-FIREWALL - [0:0]",
        "-A INPUT -j KUBE-FIREWALL",
        "-A INPUT -i lo -j ACCEPT",
        "-A OUTPUT -j KUBE-FIREWALL",
    ] {
        assert!(left.iter().any(|line| line == kept), "{kept} not in {text}");
    }
    assert_eq!(left.iter().filter(|line| line.starts_with(":KUBE-KUBELET-CANARY")).count(), 2, "{text}");
    let rules = left.iter().filter(|line| line.starts_with('-')).count();
    assert_eq!(rules, 6, "{text}");
}

#[test]
fn chains_of_iptables_go_from_every_kind_of_table_and_others_stay() {
    for kind in ["iptables-legacy", "iptables-nft", "ip6tables-legacy", "ip6tables-nft"] {
        in_namespace(|| {
            restore(&format!("{kind}-restore"), RULES);
            let found = detect();
            assert_eq!(found.len(), 3, "{kind}: {found:?}");
            assert!(found.iter().all(|leftover| leftover.to_string().contains(kind)), "{kind}: {found:?}");
            assert_eq!(remove(&found).unwrap().len(), 3);
            check_only_others_are_left(&format!("{kind}-save"));
            assert_eq!(detect(), []);
            assert_eq!(remove(&found).unwrap(), Vec::<String>::new(), "a second time there is nothing to do");
        });
    }
}

#[test]
fn both_kinds_of_iptables_on_one_node_are_cleaned() {
    in_namespace(|| {
        restore("iptables-legacy-restore", RULES);
        restore("iptables-nft-restore", RULES);
        let found = detect();
        assert_eq!(found.len(), 6, "{found:?}");
        remove(&found).unwrap();
        check_only_others_are_left("iptables-legacy-save");
        check_only_others_are_left("iptables-nft-save");
    });
}

#[test]
fn tables_of_nftables_mode_go_and_other_tables_stay() {
    in_namespace(|| {
        for table in ["ip kube-proxy", "ip6 kube-proxy", "ip other", "inet kube-proxy"] {
            run(&format!("nft add table {table}"));
            run(&format!("nft add chain {table} c {{ type filter hook input priority 0 ; }}"));
        }
        let found = detect();
        let names: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["nftables table ip kube-proxy", "nftables table ip6 kube-proxy"]);
        let done = remove(&found).unwrap();
        assert_eq!(done.first().unwrap(), "removed nftables table ip kube-proxy");
        let tables = run("nft list tables");
        assert_eq!(tables.lines().collect::<Vec<_>>(), ["table ip other", "table inet kube-proxy"]);
        assert_eq!(detect(), []);
        assert_eq!(remove(&found).unwrap(), Vec::<String>::new());
    });
}

#[test]
fn sets_and_device_of_ipvs_mode_go_with_the_rules_that_name_them() {
    in_namespace(|| {
        // A dummy device on real nodes; of another type here, because not every kernel has that one.
        run("ip link add kube-ipvs0 type bridge");
        run("ipset create KUBE-CLUSTER-IP hash:ip,port");
        run("ipset create KUBE-6-LOOP-BACK hash:ip,port,ip family inet6");
        run("ipset create somebody-elses hash:ip");
        restore(
            "iptables-legacy-restore",
            "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n\
             -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
             -A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\nCOMMIT\n",
        );
        let mut found = detect();
        assert_eq!(found.len(), 4, "{found:?}");
        found.reverse();
        assert_eq!(remove(&found).unwrap().len(), 4, "in the right order, whatever the order given");
        assert_eq!(run("ipset list -n").trim(), "somebody-elses");
        assert!(!run("ip link").contains("kube-ipvs0"));
        assert_eq!(detect(), []);
    });
}

#[test]
fn one_failure_does_not_keep_the_rest() {
    in_namespace(|| {
        run("ipset create KUBE-CLUSTER-IP hash:ip,port");
        run("nft add table ip kube-proxy");
        // In use by somebody else's rule.
        restore(
            "iptables-legacy-restore",
            "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\nCOMMIT\n",
        );
        let error = remove(&detect()).unwrap_err();
        assert_eq!(error.removed, ["removed nftables table ip kube-proxy"]);
        assert!(matches!(error.failures.as_slice(), [(Leftover::Ipset { .. }, _)]), "{error}");
        assert!(
            error.to_string().contains("ipset KUBE-CLUSTER-IP: ipset destroy KUBE-CLUSTER-IP failed"),
            "{error}"
        );
    });
}

#[test]
fn a_clean_node_has_nothing_to_remove() {
    in_namespace(|| {
        assert_eq!(detect(), []);
        assert_eq!(remove(&[]).unwrap(), Vec::<String>::new());
        assert!(run("nft list ruleset").trim().is_empty(), "looking changes nothing");
    });
}
