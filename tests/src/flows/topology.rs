//! The machines of a case.
//!
//! ```text
//!   pod --- node --- ext [--- far]
//! ```
//!
//! `node` is the machine under test, with its addresses and the agent. `pod`
//! is all of its pods, `ext` everything else: outside clients, other nodes and
//! their pods; `far`, behind `ext`, is clients with a small path MTU, where a
//! case has such clients. In `pod`, `ext` and `far` every address is local (AnyIP), so that any
//! address can be a client or an endpoint without being configured; yet all
//! they send leaves through the link to the node, even towards an address that
//! is "their own". So replies always return through the node, a hairpin
//! works, and a packet the agent left alone is answered, visibly untranslated.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use ipnet::IpNet;

use super::case::Case;
use super::far::FAR_LINK_NUMBER;
use super::objects::{elements, sloppy_address, text};
use super::placement::Placement;
use crate::lab::{
    Family, NODE_SYSCTLS, Namespace, PEER_SYSCTLS, Responder, Surroundings, Worker, ip, unique_name,
    write_sysctls,
};

/// Gateway addresses inside the links; no case uses them.
pub(crate) const GATEWAY_V4: &str = "169.254.254.1";
/// See [`GATEWAY_V4`].
pub(crate) const GATEWAY_V6: &str = "fe80::1";
/// The node's interface to the outside.
pub(crate) const UPLINK: &str = "up0";
/// The interface of `pod` and of `ext`.
pub(crate) const PEER_LINK: &str = "eth0";
const DEFAULT_POD_LINK: &str = "pod0";
/// Routing table of `pod` and `ext` that sends everything to the node.
pub(crate) const OUTPUT_TABLE: u32 = 100;
/// Pod addresses where the case's local detection names none.
const DEFAULT_POD_CIDRS: [&str; 2] = ["10.0.0.0/8", "fd00::/8"];

/// Where something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Node,
    Pod,
    Ext,
    Far,
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [Self::Node, Self::Pod, Self::Ext, Self::Far];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Pod => "pod",
            Self::Ext => "ext",
            Self::Far => "far",
        }
    }

    /// Address of the machine itself, for ICMP errors it may send.
    fn own_address(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Pod, Family::V4) => "192.0.0.7",
            (Self::Pod, Family::V6) => "2001:2:0:ffff::7",
            (Self::Node | Self::Ext, Family::V4) => "192.0.0.8",
            (Self::Node | Self::Ext, Family::V6) => "2001:2:0:ffff::8",
            (Self::Far, Family::V4) => "192.0.0.9",
            (Self::Far, Family::V6) => "2001:2:0:ffff::9",
        }
    }
}

/// One machine. Fields are dropped in order: sockets before the namespace.
#[derive(Debug)]
pub(crate) struct Machine {
    pub worker: Worker,
    pub responder: Responder,
    pub namespace: Arc<Namespace>,
}

/// The machines of one case.
#[derive(Debug)]
pub(crate) struct Topology {
    pub surroundings: Surroundings,
    pub node: Machine,
    pub pod: Machine,
    pub ext: Machine,
    /// Only in cases that have clients there.
    pub far: Option<Machine>,
    pub placement: Placement,
}

impl Topology {
    /// Builds machines and links for a case.
    pub(crate) fn build(case: &Case) -> Result<Self> {
        let unique = unique_name();
        let pod_link = pod_link(case);
        let machine = |role: Role| Machine::new(&unique, role.name());
        let (node, pod, ext) = (machine(Role::Node)?, machine(Role::Pod)?, machine(Role::Ext)?);
        let far = (!case.low_mtu_clients.is_empty()).then(|| machine(Role::Far)).transpose()?;
        let surroundings = Surroundings::create(&unique, &node.namespace)?;
        surroundings.adopt(&node.worker)?;
        surroundings.adopt(&pod.worker)?;
        let placement = Placement::new(
            pod_link.clone(),
            node_addresses(case),
            addresses_balanced_by_the_node(case),
            pod_cidrs(case),
        )
        .with_far_clients(case.low_mtu_clients.keys().copied().collect());
        let topology = Self { surroundings, node, pod, ext, far, placement };
        topology.link(&pod_link)?;
        topology.configure_node(&pod_link)?;
        topology.configure_peer(Role::Pod)?;
        if let Some(far) = &topology.far {
            // First: once every address is local, no gateway can be added.
            topology.link_far(far, &case.low_mtu_clients)?;
            topology.configure_peer(Role::Far)?;
        }
        topology.configure_peer(Role::Ext)?;
        Ok(topology)
    }

    pub(crate) fn machine(&self, role: Role) -> &Machine {
        match role {
            Role::Node => &self.node,
            Role::Pod => &self.pod,
            // Without such clients nothing is ever sent from there.
            Role::Far => self.far.as_ref().unwrap_or(&self.ext),
            Role::Ext => &self.ext,
        }
    }

    fn link(&self, pod_link: &str) -> Result<()> {
        let pair = |number: u32, near: &str, peer: &Machine| {
            format!(
                "link add {near} address {} type veth peer name {PEER_LINK} address {} netns {}",
                mac(number, 1),
                mac(number, 2),
                peer.namespace.name(),
            )
        };
        ip(&self.node.namespace, None, &[pair(0, pod_link, &self.pod), pair(1, UPLINK, &self.ext)])?;
        write_sysctls(&self.node.namespace, NODE_SYSCTLS)?;
        write_sysctls(&self.pod.namespace, PEER_SYSCTLS)?;
        write_sysctls(&self.ext.namespace, PEER_SYSCTLS)
    }

    fn configure_node(&self, pod_link: &str) -> Result<()> {
        let mut lines = gateway_lines(pod_link, &mac(0, 2));
        lines.extend(gateway_lines(UPLINK, &mac(1, 2)));
        let own = self.placement.node_addresses().iter().map(|address| (address, UPLINK));
        let balanced = self.placement.balanced_addresses().iter().map(|address| (address, "lo"));
        lines.extend(own.chain(balanced).map(|(address, device)| address_line(*address, device)));
        lines.push(format!("-4 route add default via {GATEWAY_V4} dev {UPLINK} onlink"));
        lines.push(format!("-6 route add default via {GATEWAY_V6} dev {UPLINK} onlink"));
        by_family(&self.node.namespace, lines)
    }

    fn configure_peer(&self, role: Role) -> Result<()> {
        let number = match role {
            Role::Node | Role::Pod => 0,
            Role::Ext => 1,
            Role::Far => FAR_LINK_NUMBER,
        };
        let mut lines = gateway_lines(PEER_LINK, &mac(number, 1));
        for family in Family::BOTH {
            let (flag, everything, gateway) = match family {
                Family::V4 => ("-4", "0.0.0.0/0", GATEWAY_V4),
                Family::V6 => ("-6", "::/0", GATEWAY_V6),
            };
            let own: IpAddr = role.own_address(family).parse()?;
            lines.push(address_line(own, PEER_LINK));
            lines.push(format!(
                "{flag} route add default via {gateway} dev {PEER_LINK} onlink table {OUTPUT_TABLE}"
            ));
            lines.push(format!("{flag} route add local {everything} dev lo table local"));
            lines.push(format!("{flag} rule add pref 10 iif lo lookup {OUTPUT_TABLE}"));
            lines.push(format!("{flag} rule add pref 20 lookup local"));
            lines.push(format!("{flag} rule del pref 0"));
        }
        by_family(&self.machine(role).namespace, lines)
    }
}

impl Machine {
    fn new(unique: &str, name: &str) -> Result<Self> {
        let namespace = Arc::new(Namespace::create(unique, name)?);
        Ok(Self { worker: Worker::start(&namespace)?, responder: Responder::default(), namespace })
    }
}

/// Runs lines that may begin with `-4` or `-6`; ip(8) in batch mode takes the
/// version only as an option of the whole batch.
pub(crate) fn by_family(namespace: &Namespace, lines: Vec<String>) -> Result<()> {
    let mut batches: [(Option<Family>, &str, Vec<String>); 3] =
        [(None, "", vec![]), (Some(Family::V4), "-4 ", vec![]), (Some(Family::V6), "-6 ", vec![])];
    for line in lines {
        let batch = batches.iter_mut().rev().find(|(_, flag, _)| line.starts_with(flag));
        if let Some((_, flag, batch)) = batch {
            batch.push(line.trim_start_matches(*flag).to_owned());
        }
    }
    batches.iter().try_for_each(|(family, _, batch)| ip(namespace, *family, batch))
}

/// The ip(8) command that adds a single address, usable at once.
pub(crate) fn address_line(address: IpAddr, device: &str) -> String {
    let no_detection = if address.is_ipv6() { " nodad" } else { "" };
    format!("addr add {address}/{} dev {device}{no_detection}", Family::of(address).host_prefix())
}

/// Fixed hardware addresses: no neighbour discovery, so no lost first packet.
pub(crate) fn mac(link: u32, end: u32) -> String {
    format!("02:00:00:00:{link:02x}:{end:02x}")
}

pub(crate) fn gateway_lines(device: &str, mac: &str) -> Vec<String> {
    let mut lines = vec![format!("link set {device} addrgenmode none"), format!("link set {device} up")];
    lines.extend(
        [GATEWAY_V4, GATEWAY_V6]
            .map(|gateway| format!("neigh replace {gateway} lladdr {mac} dev {device} nud permanent")),
    );
    lines
}

/// Name of the node's interface to its pods: local detection may ask for one.
fn pod_link(case: &Case) -> String {
    let detect = &case.config.local_detect;
    if !detect.bridge_interface.is_empty() {
        detect.bridge_interface.clone()
    } else if !detect.interface_name_prefix.is_empty() {
        format!("{}0", detect.interface_name_prefix)
    } else {
        DEFAULT_POD_LINK.to_owned()
    }
}

fn node_addresses(case: &Case) -> BTreeSet<IpAddr> {
    let more = case.node.addresses.iter();
    let more = more.filter_map(|text| sloppy_address(text.split('/').next().unwrap_or_default()));
    case.node.ips.iter().copied().chain(more).collect()
}

/// Load balancer addresses the node talks to from that very address: then it
/// holds the address itself, as some load balancers arrange.
fn addresses_balanced_by_the_node(case: &Case) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    for step in &case.steps {
        let ingress: BTreeSet<_> = step
            .services
            .iter()
            .flat_map(|service| elements(service, "/status/loadBalancer/ingress"))
            .filter_map(|item| sloppy_address(text(item, "/ip")))
            .collect();
        let own = step.flows.iter().filter(|flow| flow.from == Some(flow.to)).map(|flow| flow.to);
        found.extend(own.filter(|address| ingress.contains(address)));
    }
    let own = node_addresses(case);
    found.retain(|address| !own.contains(address));
    found
}

fn pod_cidrs(case: &Case) -> Vec<IpNet> {
    let detected = case.config.local_detect.cluster_cidr.split(',');
    let named = detected.chain(case.node.pod_cidrs.iter().map(String::as_str));
    let mut cidrs: Vec<IpNet> = named.filter_map(|text| text.trim().parse().ok()).collect();
    for default in DEFAULT_POD_CIDRS.iter().filter_map(|text| text.parse::<IpNet>().ok()) {
        if !cidrs.iter().any(|cidr| cidr.addr().is_ipv4() == default.addr().is_ipv4()) {
            cidrs.push(default);
        }
    }
    cidrs
}
