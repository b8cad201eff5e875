//! Rules as kube-proxy lays them out, for taking over from it and going back: IPv4, in modes iptables and nftables.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result, bail};

use super::StageNode;

/// A Service port as kube-proxy sees it.
#[derive(Debug, Clone)]
pub struct ProxiedPort {
    /// Cluster IP and port.
    pub at: SocketAddrV4,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The node port.
    pub node_port: u16,
    /// One or two endpoints.
    pub endpoints: Vec<SocketAddrV4>,
}

/// Which of kube-proxy's layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Mode iptables: a chain for each Service port and endpoint.
    Iptables,
    /// Mode nftables: verdict maps in a table of its own.
    Nftables,
}

const POD_CIDR: &str = "10.244.0.0/16";
const NAT_HEAD: &str = "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-POSTROUTING - [0:0]\n\
    :KUBE-MARK-MASQ - [0:0]\n";
const NAT_RULES: &str = "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
    -A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
    -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n\
    -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
    -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n-A KUBE-POSTROUTING -j MASQUERADE --random-fully\n\
    -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n";
const FILTER: &str = "*filter\n:KUBE-FORWARD - [0:0]\n\
    -A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n\
    -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
    -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n\
    -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n";

impl Layout {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Iptables, Self::Nftables];

    /// Programs the rules on a node, beside whatever is there.
    pub fn load(self, node: &StageNode, ports: &[ProxiedPort]) -> Result<()> {
        let file = node.node().surroundings().directory().join("kube-proxy.rules");
        let text = match self {
            Self::Iptables => iptables(ports)?,
            Self::Nftables => nftables(node.machine().address()?, ports)?,
        };
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        let command = match self {
            Self::Iptables => format!("iptables-restore --noflush {}", file.display()),
            Self::Nftables => format!("nft -f {}", file.display()),
        };
        node.output("sh", &["-c", &command]).map(drop)
    }
}

fn iptables(ports: &[ProxiedPort]) -> Result<String> {
    let (mut chains, mut rules) = (NAT_HEAD.to_owned(), NAT_RULES.to_owned());
    for (number, port) in ports.iter().enumerate() {
        let ProxiedPort { at, protocol, node_port, endpoints } = port;
        let (service, external) = (format!("KUBE-SVC-{number:0>16}"), format!("KUBE-EXT-{number:0>16}"));
        let matched = format!("-d {}/32 -p {protocol} -m {protocol} --dport {}", at.ip(), at.port());
        writeln!(chains, ":{service} - [0:0]\n:{external} - [0:0]")?;
        writeln!(rules, "-A KUBE-SERVICES {matched} -j {service}")?;
        writeln!(rules, "-A KUBE-NODEPORTS -p {protocol} -m {protocol} --dport {node_port} -j {external}")?;
        writeln!(rules, "-A {external} -j KUBE-MARK-MASQ\n-A {external} -j {service}")?;
        writeln!(rules, "-A {service} ! -s {POD_CIDR} {matched} -j KUBE-MARK-MASQ")?;
        for (index, endpoint) in endpoints.iter().enumerate() {
            let chain = format!("KUBE-SEP-{number:0>8}{index:0>8}");
            let chance = if index + 1 < endpoints.len() {
                "-m statistic --mode random --probability 0.5 "
            } else {
                ""
            };
            writeln!(chains, ":{chain} - [0:0]")?;
            writeln!(rules, "-A {service} {chance}-j {chain}")?;
            writeln!(rules, "-A {chain} -s {}/32 -j KUBE-MARK-MASQ", endpoint.ip())?;
            writeln!(rules, "-A {chain} -p {protocol} -m {protocol} -j DNAT --to-destination {endpoint}")?;
        }
    }
    // The last rule of the chain, as kube-proxy has it.
    rules.push_str("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n");
    Ok(format!("{chains}{rules}COMMIT\n{FILTER}"))
}

fn nftables(node: std::net::IpAddr, ports: &[ProxiedPort]) -> Result<String> {
    let std::net::IpAddr::V4(node) = node else { bail!("the node's first address is not IPv4") };
    let (mut ips, mut node_ports, mut chains) = (String::new(), String::new(), String::new());
    for (number, port) in ports.iter().enumerate() {
        let ProxiedPort { at, protocol, node_port, endpoints } = port;
        let (ip, own) = (at.ip(), at.port());
        write!(ips, "{ip} . {protocol} . {own} : goto service-{number}, ")?;
        write!(node_ports, "{protocol} . {node_port} : goto external-{number}, ")?;
        let mut verdicts = String::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            write!(verdicts, "{index} : goto endpoint-{number}-{index}, ")?;
            chains.push_str(&endpoint_chain(&format!("endpoint-{number}-{index}"), protocol, *endpoint)?);
        }
        writeln!(
            chains,
            "chain service-{number} {{ ip daddr {ip} {protocol} dport {own} ip saddr != {POD_CIDR} jump \
             mark-for-masquerade\n numgen random mod {} vmap {{ {verdicts} }}\n }}\n\
             chain external-{number} {{ jump mark-for-masquerade\n goto service-{number}\n }}",
            endpoints.len()
        )?;
    }
    Ok(nftables_table(node, &ips, &node_ports, &chains))
}

fn endpoint_chain(name: &str, protocol: &str, endpoint: SocketAddrV4) -> Result<String> {
    let mut chain = String::new();
    writeln!(
        chain,
        "chain {name} {{ ip saddr {} jump mark-for-masquerade\n meta l4proto {protocol} dnat to {endpoint}\n }}",
        endpoint.ip()
    )?;
    Ok(chain)
}

fn nftables_table(node: Ipv4Addr, ips: &str, node_ports: &str, chains: &str) -> String {
    format!(
        "table ip kube-proxy {{
  chain mark-for-masquerade {{ meta mark set meta mark or 0x4000
  }}
  chain masquerading {{ meta mark and 0x4000 == 0 return
    meta mark set meta mark xor 0x4000
    masquerade fully-random
  }}
  {chains}
  map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict
    elements = {{ {ips} }}
  }}
  map service-nodeports {{ type inet_proto . inet_service : verdict
    elements = {{ {node_ports} }}
  }}
  chain services {{ ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr {node} meta l4proto . th dport vmap @service-nodeports
  }}
  chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services
  }}
  chain nat-output {{ type nat hook output priority -100; jump services
  }}
  chain nat-postrouting {{ type nat hook postrouting priority srcnat; jump masquerading
  }}
}}
"
    )
}
