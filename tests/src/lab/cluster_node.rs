//! Nodes of a [`Cluster`](super::Cluster) and their pods.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;

use super::cluster::{Host, address_line};
use super::ip::ip_outside;
use super::{Family, NODE_SYSCTLS, PEER_SYSCTLS, Surroundings, write_sysctls};

/// The bridge that pods of kind [`PodLink::Bridge`] share.
const POD_BRIDGE: &str = "cni0";

/// How a pod is connected to its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodLink {
    /// A veth pair of its own and a host route, as Calico does.
    Routed,
    /// A port of a bridge on the node, as the reference bridge plugin does.
    Bridge,
}

/// A machine that runs an agent and pods.
#[derive(Debug)]
pub struct Node {
    name: String,
    unique: String,
    // Before the host: its programs end before the namespace goes.
    surroundings: Surroundings,
    host: Host,
}

/// A pod: a machine with one address per IP version.
#[derive(Debug)]
pub struct Pod {
    host: Host,
}

impl Pod {
    /// The machine.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The pod's first address.
    pub fn address(&self) -> Result<IpAddr> {
        self.host.address()
    }
}

impl Node {
    pub(crate) fn new(unique: &str, name: &str, host: Host) -> Result<Self> {
        write_sysctls(host.namespace(), NODE_SYSCTLS)?;
        let surroundings = Surroundings::create(&format!("{unique}-{name}"), host.namespace())?;
        surroundings.adopt(host.worker())?;
        Ok(Self { name: name.to_owned(), unique: unique.to_owned(), surroundings, host })
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Where programs of the node run.
    pub fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// Makes the bridge for pods, with the node's own addresses on it.
    pub fn add_bridge(&self, gateways: &[IpNet]) -> Result<()> {
        let mut lines = vec![
            format!("link add {POD_BRIDGE} type bridge forward_delay 0 mcast_snooping 0"),
            format!("link set {POD_BRIDGE} up"),
        ];
        lines.extend(gateways.iter().map(|gateway| address_line(*gateway, POD_BRIDGE)));
        self.host.ip(&lines)?;
        write_sysctls(self.host.namespace(), NODE_SYSCTLS)
    }

    /// Makes a pod. On a bridge the gateways are the bridge's addresses, and
    /// the prefix lengths of `addresses` those of the bridged network.
    pub fn pod(&self, name: &str, link: PodLink, addresses: &[IpNet], gateways: &[IpAddr]) -> Result<Pod> {
        let plain = addresses.iter().map(IpNet::addr).collect();
        let host = Host::bare(&self.unique, name, plain)?;
        self.surroundings.adopt(host.worker())?;
        ip_outside(&[format!(
            "link add {name} netns {} type veth peer name eth0 netns {}",
            self.host.namespace().name(),
            host.namespace().name()
        )])?;
        write_sysctls(host.namespace(), PEER_SYSCTLS)?;
        match link {
            PodLink::Bridge => self.connect_bridged(name, &host, addresses, gateways)?,
            PodLink::Routed => self.connect_routed(name, &host, addresses)?,
        }
        Ok(Pod { host })
    }

    fn connect_bridged(
        &self,
        name: &str,
        pod: &Host,
        addresses: &[IpNet],
        gateways: &[IpAddr],
    ) -> Result<()> {
        // Hairpin: a pod that reaches itself through a service comes back out
        // of the port it went in.
        self.host.ip(&[
            format!("link set {name} master {POD_BRIDGE} up"),
            format!("link set {name} type bridge_slave hairpin on"),
        ])?;
        let mut lines = vec!["link set eth0 up".to_owned()];
        lines.extend(addresses.iter().map(|address| address_line(*address, "eth0")));
        lines.extend(gateways.iter().map(|gateway| format!("route add default via {gateway} dev eth0")));
        pod.ip(&lines)
    }

    fn connect_routed(&self, name: &str, pod: &Host, addresses: &[IpNet]) -> Result<()> {
        let (near, far) = (hardware_address(self.host(), name)?, hardware_address(pod, "eth0")?);
        let mut inside = vec!["link set eth0 up".to_owned()];
        let mut outside = vec![format!("link set {name} up")];
        for address in addresses.iter().map(IpNet::addr) {
            let family = Family::of(address);
            let single = IpNet::new(address, family.host_prefix()).context("a prefix length")?;
            let gateway = if address.is_ipv4() { "169.254.1.1" } else { "fe80::1" };
            inside.push(address_line(single, "eth0"));
            inside.push(format!("neigh replace {gateway} lladdr {near} dev eth0 nud permanent"));
            inside.push(format!("route add default via {gateway} dev eth0 onlink"));
            outside.push(format!("neigh replace {address} lladdr {far} dev {name} nud permanent"));
            outside.push(format!("route add {single} dev {name}"));
        }
        pod.ip(&inside)?;
        self.host.ip(&outside)
    }
}

/// By way of ip(8): `/sys` shows the devices of the namespace it was mounted in.
fn hardware_address(host: &Host, device: &str) -> Result<String> {
    let namespace = host.namespace().name();
    let output = std::process::Command::new("ip")
        .args(["-n", namespace, "-json", "link", "show", "dev", device])
        .output()
        .context("cannot run ip")?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("cannot read the state of {device} in {namespace}"))?;
    let address = links.pointer("/0/address").and_then(serde_json::Value::as_str);
    Ok(address.with_context(|| format!("no hardware address on {device}"))?.to_owned())
}
