//! Which machine an address is on, and the routes that make it so.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::Value;

use super::case::{Flow, NodeSpec};
use super::objects::{elements, sloppy_address, text};
use super::topology::{GATEWAY_V4, GATEWAY_V6, PEER_LINK, Role, Topology, address_line, by_family};
use crate::lab::Family;

/// Addresses and where they are.
#[derive(Debug)]
pub(crate) struct Placement {
    pod_link: String,
    node: BTreeSet<IpAddr>,
    balanced: BTreeSet<IpAddr>,
    pod_cidrs: Vec<IpNet>,
    far: BTreeSet<IpAddr>,
    local_endpoints: BTreeSet<IpAddr>,
    remote_endpoints: BTreeSet<IpAddr>,
    /// Addresses routed to the pods so far.
    routed: BTreeSet<IpAddr>,
    /// IPv6 addresses configured in `pod` and in `ext`.
    assigned_pod: BTreeSet<IpAddr>,
    assigned_ext: BTreeSet<IpAddr>,
}

impl Placement {
    pub(crate) fn new(
        pod_link: String,
        node: BTreeSet<IpAddr>,
        balanced: BTreeSet<IpAddr>,
        pod_cidrs: Vec<IpNet>,
    ) -> Self {
        Self {
            pod_link,
            node,
            balanced,
            pod_cidrs,
            far: BTreeSet::new(),
            local_endpoints: BTreeSet::new(),
            remote_endpoints: BTreeSet::new(),
            routed: BTreeSet::new(),
            assigned_pod: BTreeSet::new(),
            assigned_ext: BTreeSet::new(),
        }
    }

    /// The same with clients whose path has a small MTU.
    pub(crate) fn with_far_clients(self, far: BTreeSet<IpAddr>) -> Self {
        Self { far, ..self }
    }

    /// Addresses of the node's interface.
    pub(crate) fn node_addresses(&self) -> &BTreeSet<IpAddr> {
        &self.node
    }

    /// Load balancer addresses the node holds itself.
    pub(crate) fn balanced_addresses(&self) -> &BTreeSet<IpAddr> {
        &self.balanced
    }

    /// The machine that has an address. Endpoints are where their node name
    /// says; other addresses in a pod CIDR are pods of this node.
    pub(crate) fn role_of(&self, address: IpAddr) -> Role {
        if address.is_loopback() || self.node.contains(&address) || self.balanced.contains(&address) {
            Role::Node
        } else if self.far.contains(&address) {
            Role::Far
        } else if self.local_endpoints.contains(&address) {
            Role::Pod
        } else if self.remote_endpoints.contains(&address) {
            Role::Ext
        } else if self.routed.contains(&address) || self.is_pod_address(address) {
            Role::Pod
        } else {
            Role::Ext
        }
    }

    fn is_pod_address(&self, address: IpAddr) -> bool {
        self.pod_cidrs.iter().any(|cidr| cidr.contains(&address))
    }

    /// The machine a flow starts on.
    pub(crate) fn start_of(&self, flow: &Flow) -> Role {
        flow.from.map_or(Role::Node, |from| self.role_of(from))
    }

    /// An address of a pod that no case is likely to use.
    pub(crate) fn spare_pod(&self, family: Family) -> Result<IpAddr> {
        let cidr = self.pod_cidrs.iter().find(|cidr| Family::of(cidr.addr()) == family);
        let last = cidr.context("no pod CIDR of this IP version")?.broadcast();
        Ok(match last {
            IpAddr::V4(last) => IpAddr::V4(last.to_bits().saturating_sub(2).into()),
            IpAddr::V6(last) => IpAddr::V6(last.to_bits().saturating_sub(2).into()),
        })
    }

    fn learn_endpoints(&mut self, node: &NodeSpec, slices: &[Value]) {
        self.local_endpoints.clear();
        self.remote_endpoints.clear();
        for endpoint in slices.iter().flat_map(|slice| elements(slice, "/endpoints")) {
            let local = text(endpoint, "/nodeName") == node.name;
            let addresses = elements(endpoint, "/addresses").filter_map(Value::as_str);
            let addresses = addresses.filter_map(sloppy_address);
            if local { &mut self.local_endpoints } else { &mut self.remote_endpoints }.extend(addresses);
        }
        self.remote_endpoints.retain(|address| !self.local_endpoints.contains(address));
    }

    fn wanted_routes(&self, flows: &[Flow]) -> Result<BTreeSet<IpAddr>> {
        // Pods stay where they are when they are no longer endpoints.
        let mut wanted: BTreeSet<_> = self.local_endpoints.union(&self.routed).copied().collect();
        for family in Family::BOTH {
            wanted.insert(self.spare_pod(family)?);
        }
        wanted.extend(flows.iter().flat_map(sources));
        wanted.retain(|address| self.role_of(*address) == Role::Pod);
        Ok(wanted)
    }
}

impl Topology {
    /// Routes every pod address of a step to the pods.
    pub(crate) fn place(&mut self, node: &NodeSpec, slices: &[Value], flows: &[Flow]) -> Result<()> {
        self.placement.learn_endpoints(node, slices);
        let wanted = self.placement.wanted_routes(flows)?;
        let route = |verb: &str, address: &IpAddr| {
            let (flag, gateway) = if address.is_ipv4() { ("-4", GATEWAY_V4) } else { ("-6", GATEWAY_V6) };
            let prefix = Family::of(*address).host_prefix();
            let link = &self.placement.pod_link;
            format!("{flag} route {verb} {address}/{prefix} via {gateway} dev {link} onlink")
        };
        let mut lines: Vec<_> =
            self.placement.routed.difference(&wanted).map(|address| route("del", address)).collect();
        lines.extend(wanted.difference(&self.placement.routed).map(|address| route("add", address)));
        by_family(&self.node.namespace, lines)?;
        self.placement.routed = wanted;
        self.assign_ipv6_endpoints()
    }

    /// Makes IPv6 endpoints real addresses: ICMPv6 errors are sent only from
    /// an address that the machine has.
    fn assign_ipv6_endpoints(&mut self) -> Result<()> {
        let on_pods = self.placement.routed.iter();
        let on_pods = on_pods.filter(|address| self.placement.local_endpoints.contains(address));
        let pods: BTreeSet<_> = on_pods.chain(&self.placement.assigned_pod).copied().collect();
        let pods = pods.into_iter().filter(|address| self.placement.routed.contains(address));
        let pods: BTreeSet<_> = pods.filter(IpAddr::is_ipv6).collect();
        let remote = self.placement.remote_endpoints.iter().copied();
        let remote: BTreeSet<_> = remote.filter(IpAddr::is_ipv6).collect();
        assign(self, Role::Pod, &self.placement.assigned_pod, &pods)?;
        assign(self, Role::Ext, &self.placement.assigned_ext, &remote)?;
        self.placement.assigned_pod = pods;
        self.placement.assigned_ext = remote;
        Ok(())
    }
}

fn assign(
    topology: &Topology,
    role: Role,
    before: &BTreeSet<IpAddr>,
    wanted: &BTreeSet<IpAddr>,
) -> Result<()> {
    let gone = before.difference(wanted);
    let mut lines: Vec<_> = gone.map(|address| format!("addr del {address}/128 dev {PEER_LINK}")).collect();
    lines.extend(wanted.difference(before).map(|address| address_line(*address, PEER_LINK)));
    by_family(&topology.machine(role).namespace, lines)
}

/// The addresses a flow comes from.
pub(crate) fn sources(flow: &Flow) -> Vec<IpAddr> {
    let Some(first) = flow.from else { return Vec::new() };
    (0..flow.clients)
        .map(|number| match first {
            IpAddr::V4(first) => IpAddr::V4(first.to_bits().wrapping_add(number).into()),
            IpAddr::V6(first) => IpAddr::V6(first.to_bits().wrapping_add(number.into()).into()),
        })
        .collect()
}
