//! A ruleset laid out as that of kube-proxy's iptables mode, legacy backend.
//!
//! One rule in `KUBE-SERVICES` per service port, which the first packet of a
//! connection walks past until its own comes; a chain per service port, a
//! chain per endpoint; node ports at the end.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::lane::MEASURED;
use super::site::CLUSTER_CIDR;
use crate::bench::objects::{
    TCP_PORT, TCP_TARGET, UDP_PORT, UDP_TARGET, filler_address, filler_endpoints, filler_name,
};
use crate::lab::Surroundings;

/// Name of the lane.
pub(super) const LANE: &str = "kube-proxy iptables layout";

/// Chains that are there however many services there are.
const NAT_HEAD: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-PROXY-CANARY - [0:0]
";
const NAT_RULES: &str = "\
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
";
/// The canaries are there for kube-proxy to notice that its rules were flushed. That of mangle has no rules, and still
/// brings that table's hooks.
const FILTER: &str = "\
*mangle
:KUBE-PROXY-CANARY - [0:0]
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
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -m comment --comment \"block incoming localnet connections\" -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
";

/// Replaces the node's ruleset by one for so many services and the measured ones.
pub(super) fn load(tools: &Surroundings, services: usize) -> Result<()> {
    super::lane::load(tools, &text(services), "layout.iptables", "iptables-legacy-restore", &["--wait", "30"])
}

fn text(services: usize) -> String {
    let mut layout = Layout::default();
    for index in 0..services {
        let [first, second, _] = filler_endpoints(index);
        layout.service(&filler_name(index), filler_address(index), &[first, second], None);
    }
    for measured in &MEASURED {
        layout.service(measured.name, measured.cluster_ip, &measured.endpoints, measured.node_ports);
    }
    layout.text()
}

/// Parts of the ruleset that grow with the services.
#[derive(Default)]
struct Layout {
    declared: String,
    services: String,
    node_ports: String,
    rules: String,
    chains: usize,
}

macro_rules! line {
    ($text:expr, $($format:tt)+) => { super::add_line(&mut $text, format_args!($($format)+)) };
}

impl Layout {
    fn service(
        &mut self,
        name: &str,
        address: Ipv4Addr,
        endpoints: &[Ipv4Addr],
        node_ports: Option<[u16; 2]>,
    ) {
        let ports = [("tcp", TCP_PORT, TCP_TARGET, "web"), ("udp", UDP_PORT, UDP_TARGET, "dns")];
        for (number, (protocol, port, target, port_name)) in ports.into_iter().enumerate() {
            let comment = format!("bench/{name}:{port_name}");
            let chain = self.chain("SVC");
            line!(
                self.services,
                "-A KUBE-SERVICES -m comment --comment \"{comment} cluster IP\" -m {protocol} -p {protocol} -d {address} \
                 --dport {port} -j {chain}"
            );
            line!(
                self.rules,
                "-A {chain} -m comment --comment \"{comment} cluster IP\" -m {protocol} -p {protocol} -d {address} \
                 --dport {port} ! -s {CLUSTER_CIDR} -j KUBE-MARK-MASQ"
            );
            if let Some(node_port) = node_ports.and_then(|ports| ports.get(number).copied()) {
                self.node_port(&chain, &comment, protocol, node_port);
            }
            self.pool(&chain, &comment, protocol, endpoints, target);
        }
    }

    fn node_port(&mut self, service: &str, comment: &str, protocol: &str, port: u16) {
        let external = self.chain("EXT");
        line!(
            self.node_ports,
            "-A KUBE-NODEPORTS -m comment --comment {comment} -m {protocol} -p {protocol} --dport {port} -j {external}"
        );
        line!(
            self.rules,
            "-A {external} -m comment --comment \"masquerade traffic for {comment} external destinations\" \
             -j KUBE-MARK-MASQ"
        );
        line!(self.rules, "-A {external} -j {service}");
    }

    fn pool(&mut self, service: &str, comment: &str, protocol: &str, endpoints: &[Ipv4Addr], port: u16) {
        for (number, endpoint) in endpoints.iter().enumerate() {
            let chain = self.chain("SEP");
            let left = endpoints.len() - number;
            let chance = match left {
                1 => String::new(),
                _ => format!("-m statistic --mode random --probability {:.10} ", 1.0 / as_float(left)),
            };
            line!(
                self.rules,
                "-A {service} -m comment --comment \"{comment} -> {endpoint}:{port}\" {chance}-j {chain}"
            );
            line!(self.rules, "-A {chain} -m comment --comment {comment} -s {endpoint} -j KUBE-MARK-MASQ");
            line!(
                self.rules,
                "-A {chain} -m comment --comment {comment} -m {protocol} -p {protocol} -j DNAT \
                 --to-destination {endpoint}:{port}"
            );
        }
    }

    /// A new chain, named like kube-proxy's: kind and 16 letters.
    fn chain(&mut self, kind: &str) -> String {
        self.chains += 1;
        let chain = format!("KUBE-{kind}-{:016}", self.chains);
        line!(self.declared, ":{chain} - [0:0]");
        chain
    }

    fn text(&self) -> String {
        let last = "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last \
                    rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n";
        let Self { declared, services, node_ports, rules, .. } = self;
        format!("{FILTER}{NAT_HEAD}{declared}{NAT_RULES}{services}{last}{node_ports}{rules}COMMIT\n")
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of endpoints")]
fn as_float(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn a_service_port_has_a_rule_and_chains_and_endpoints_are_equally_likely() {
        let text = text(10);
        assert_eq!(text.matches("cluster IP\" -m udp").count(), 2 * 13);
        assert_eq!(text.matches("--probability 0.5000000000 ").count(), 2 * 13);
        assert_eq!(text.matches("--to-destination").count(), 4 * 13);
        assert_eq!(text.matches("-A KUBE-NODEPORTS ").count(), 4);
    }

    /// Chains of a table with their rules.
    type Chains<'a> = BTreeMap<&'a str, Vec<&'a str>>;

    fn tables(text: &str) -> BTreeMap<&str, Chains<'_>> {
        let mut tables: BTreeMap<&str, Chains<'_>> = BTreeMap::new();
        let mut table = "";
        for line in text.lines().filter(|line| !line.starts_with('#') && *line != "COMMIT") {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            } else if let Some(chain) = line.strip_prefix(':') {
                let name = chain.split(' ').next().unwrap();
                let before = tables.entry(table).or_default().insert(name, Vec::new());
                assert_eq!(before, None, "{name} is declared twice");
            } else {
                let (chain, rule) = line.strip_prefix("-A ").unwrap().split_once(' ').unwrap();
                tables.get_mut(table).unwrap().get_mut(chain).expect("a chain that is declared").push(rule);
            }
        }
        tables
    }

    fn is_named(chain: &str) -> bool {
        ["KUBE-SVC-", "KUBE-EXT-", "KUBE-SEP-"].iter().any(|kind| chain.starts_with(kind))
    }

    /// The rules of a chain, each followed by those of the chain it leads to, if that has a name of its own.
    fn write_chain(chains: &Chains<'_>, chain: &str, depth: usize, text: &mut String) {
        for rule in &chains[chain] {
            let target = rule.split("-j ").nth(1).unwrap().split(' ').next().unwrap();
            let shown = if is_named(target) {
                rule.replace(target.get(9..).unwrap(), "*")
            } else {
                (*rule).to_owned()
            };
            writeln!(text, "{}{shown}", "  ".repeat(depth)).unwrap();
            if is_named(target) {
                write_chain(chains, target, depth + 1, text);
            }
        }
    }

    fn shape(text: &str) -> String {
        let mut shape = String::new();
        for (table, chains) in tables(text) {
            for chain in chains.keys().filter(|chain| !is_named(chain)) {
                writeln!(shape, "{table} {chain}").unwrap();
                write_chain(&chains, chain, 1, &mut shape);
            }
            writeln!(shape, "{table}: {} chains", chains.len()).unwrap();
        }
        shape
    }

    #[test]
    fn rules_are_those_of_kube_proxy() {
        let expected = include_str!("../../../data/bench/iptables.rules");
        let mut layout = Layout::default();
        let [first, second, _] = filler_endpoints(0);
        layout.service("first", filler_address(0), &[first, second], None);
        let [_, local, _] = &MEASURED;
        layout.service(local.name, local.cluster_ip, &local.endpoints, local.node_ports);
        assert_eq!(shape(&layout.text()), shape(expected));
    }
}
