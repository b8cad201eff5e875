//! A ruleset laid out as that of kube-proxy's nftables mode, to compare with where no kube-proxy is at hand.
//!
//! One table; verdict maps from (address, protocol, port) to a chain per
//! service port, which picks an endpoint from an anonymous map. Cluster IPs,
//! node ports and the masquerading of marked packets are there; firewalls,
//! affinity and services without endpoints have their maps and hooks, empty.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::lane::{MEASURED, Measured};
use super::site::{CLUSTER_CIDR, NODE_ADDRESS};
use crate::bench::objects::{
    TCP_PORT, TCP_TARGET, UDP_PORT, UDP_TARGET, filler_address, filler_endpoints, filler_name,
};
use crate::lab::Surroundings;

/// Name of the lane.
pub(super) const LANE: &str = "kube-proxy nftables layout";

const HEAD: &str = "\
add table ip kube-proxy
delete table ip kube-proxy
table ip kube-proxy {
  set cluster-ips { type ipv4_addr; }
  set nodeport-ips { type ipv4_addr; }
  set hairpin-connections { type ipv4_addr . ipv4_addr . inet_proto . inet_service; }
  map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
  map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map service-nodeports { type inet_proto . inet_service : verdict; }
  chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
  chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain nodeport-endpoints-check { ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }
  chain cluster-ips-check { ip daddr @cluster-ips reject; ip daddr 10.96.0.0/12 drop; }
  chain mark-for-masquerade { mark set mark or 0x4000; }
  chain masquerading {
    ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random
    mark and 0x4000 == 0 return
    mark set mark xor 0x4000
    masquerade fully-random
  }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }
  chain filter-prerouting-pre-dnat {
    type filter hook prerouting priority -110;
    ct state new jump firewall-check
  }
  chain filter-output-pre-dnat {
    type filter hook output priority -110;
    ct state new jump firewall-check
  }
  chain filter-input {
    type filter hook input priority 0;
    ct state new jump nodeport-endpoints-check
    ct state new jump service-endpoints-check
  }
  chain filter-forward {
    type filter hook forward priority 0;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
  chain filter-output {
    type filter hook output priority 0;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
  chain nat-prerouting { type nat hook prerouting priority -100; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority 100; jump masquerading; }
}
";

/// Replaces the node's ruleset by one for so many services and the measured ones.
pub(super) fn load(tools: &Surroundings, services: usize) -> Result<()> {
    super::lane::load(tools, &text(services), "layout.nft", "nft", &["-f"])
}

fn text(services: usize) -> String {
    let mut layout = Layout::default();
    for index in 0..services {
        let [first, second, _] = filler_endpoints(index);
        layout.service(&filler_name(index), filler_address(index), &[first, second], None, Choice::First);
    }
    for Measured { name, cluster_ip, node_ports, endpoints } in &MEASURED {
        layout.service(name, *cluster_ip, endpoints, *node_ports, Choice::Random);
    }
    layout.text()
}

/// How a service port picks an endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// At random, as kube-proxy has it: by a map of its own.
    Random,
    /// For services that are only there to be many: no packet meets their chains, and the time to load so many maps grows
    /// with the square of their number (55 s for 20,000).
    First,
}

/// Parts of the ruleset that grow with the services.
#[derive(Default)]
struct Layout {
    chains: String,
    cluster_ips: Vec<String>,
    service_ips: Vec<String>,
    node_ports: Vec<String>,
    hairpins: Vec<String>,
}

impl Layout {
    fn service(
        &mut self,
        name: &str,
        address: Ipv4Addr,
        endpoints: &[Ipv4Addr],
        node_ports: Option<[u16; 2]>,
        choice: Choice,
    ) {
        self.cluster_ips.push(address.to_string());
        let ports = [("tcp", TCP_PORT, TCP_TARGET), ("udp", UDP_PORT, UDP_TARGET)];
        for (number, (protocol, port, target)) in ports.into_iter().enumerate() {
            let chain = format!("ABCDEFGH-bench/{name}/{protocol}/p{port}");
            self.service_ips.push(format!("{address} . {protocol} . {port} : goto service-{chain}"));
            let pool: Vec<_> =
                endpoints.iter().enumerate().map(|(i, pod)| format!("{i} : {pod} . {target}")).collect();
            let hairpin = |pod: &Ipv4Addr| format!("{pod} . {pod} . {protocol} . {target}");
            self.hairpins.extend(endpoints.iter().map(hairpin));
            let choice = match (choice, endpoints.first()) {
                (Choice::First, Some(pod)) => format!("{pod}:{target}"),
                _ => format!("numgen random mod {} map {{ {} }}", pool.len(), pool.join(", ")),
            };
            let rules = format!(
                "chain service-{chain} {{\n    ip daddr {address} {protocol} dport {port} ip saddr != {CLUSTER_CIDR} \
                 jump mark-for-masquerade\n    meta l4proto {protocol} dnat ip to {choice}\n  }}"
            );
            self.chain(&rules);
            if let Some(port) = node_ports.and_then(|ports| ports.get(number).copied()) {
                self.node_ports.push(format!("{protocol} . {port} : goto external-{chain}"));
                let rules = format!(
                    "chain external-{chain} {{\n    jump mark-for-masquerade\n    goto service-{chain}\n  }}"
                );
                self.chain(&rules);
            }
        }
    }

    fn chain(&mut self, text: &str) {
        self.chains.push_str("  ");
        self.chains.push_str(text);
        self.chains.push('\n');
    }

    fn text(&self) -> String {
        let mut text = format!("{HEAD}table ip kube-proxy {{\n{}}}\n", self.chains);
        let node = [NODE_ADDRESS.to_string()];
        let elements = [
            ("cluster-ips", &self.cluster_ips[..]),
            ("nodeport-ips", &node[..]),
            ("service-ips", &self.service_ips[..]),
            ("service-nodeports", &self.node_ports[..]),
            ("hairpin-connections", &self.hairpins[..]),
        ];
        for (set, elements) in elements {
            let elements = elements.join(", ");
            super::add_line(&mut text, format_args!("add element ip kube-proxy {set} {{ {elements} }}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn every_service_port_has_a_chain_and_an_element() {
        let text = text(10);
        assert_eq!(text.matches("chain service-ABCDEFGH").count(), 2 * 13);
        assert_eq!(text.matches("goto service-ABCDEFGH").count(), 2 * 13 + 4);
        assert_eq!(text.matches("chain external-").count(), 4);
        assert!(text.contains("tcp . 30081 : goto external-ABCDEFGH-bench/z-remote/tcp/p80"));
    }
}
