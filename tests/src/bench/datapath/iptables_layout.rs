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
const FILTER: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
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
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
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
                "-A KUBE-SERVICES -d {address}/32 -p {protocol} -m comment --comment \"{comment} cluster IP\" \
                 -m {protocol} --dport {port} -j {chain}"
            );
            line!(
                self.rules,
                "-A {chain} ! -s {CLUSTER_CIDR} -d {address}/32 -p {protocol} -m comment --comment \
                 \"{comment} cluster IP\" -m {protocol} --dport {port} -j KUBE-MARK-MASQ"
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
            "-A KUBE-NODEPORTS -p {protocol} -m comment --comment {comment} -m {protocol} --dport {port} -j {external}"
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
            line!(self.rules, "-A {chain} -s {endpoint}/32 -m comment --comment {comment} -j KUBE-MARK-MASQ");
            line!(
                self.rules,
                "-A {chain} -p {protocol} -m comment --comment {comment} -m {protocol} -j DNAT \
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
    use super::text;

    #[test]
    fn a_service_port_has_a_rule_and_chains_and_endpoints_are_equally_likely() {
        let text = text(10);
        assert_eq!(text.matches("-A KUBE-SERVICES -d ").count(), 2 * 13);
        assert_eq!(text.matches("--probability 0.5000000000 ").count(), 2 * 13);
        assert_eq!(text.matches("--to-destination").count(), 4 * 13);
        assert_eq!(text.matches("-A KUBE-NODEPORTS ").count(), 4);
    }
}
