//! What `plan` takes from the configuration, and how it sees the node it runs on.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::PerFamily;
use crate::domain::{IpFamily, Node};

/// The part of the configuration that decides which frontends there are and where they lead.
#[derive(Clone, Debug)]
pub struct PlanSettings {
    /// Name of this node (`--hostname-override` or the host's name): endpoints with this `nodeName` are local. Known
    /// also while the Node object is not.
    pub node_name: Arc<str>,
    /// `--bind-address`: replaces the node's primary address of its family, unless it is unspecified (`0.0.0.0`).
    pub bind_address: Option<IpAddr>,
    /// `nodePortAddresses`.
    pub node_port_addresses: NodePortAddresses,
    /// Node ports on this node's loopback addresses.
    pub loopback_node_ports: PerFamily<LoopbackNodePorts>,
    /// Load balancer addresses of a family for which no source range is given, while the other family's are
    /// restricted: closed (true, the default) or open to everybody (false, as kube-proxy has it).
    pub strict_source_ranges: bool,
}

impl PlanSettings {
    /// Defaults for a node of that name.
    pub fn new(node_name: impl Into<Arc<str>>) -> Self {
        Self {
            node_name: node_name.into(),
            bind_address: None,
            node_port_addresses: NodePortAddresses::Primary,
            loopback_node_ports: PerFamily::default(),
            strict_source_ranges: true,
        }
    }
}

/// On which addresses of this node node ports are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// `primary`: the node's primary address of each family.
    Primary,
    /// Every address of an interface inside these ranges. A family without a range of its own has all its addresses.
    /// Loopback addresses are another matter ([`LoopbackNodePorts`]).
    Cidrs(Vec<IpNet>),
}

/// Whether a loopback address of this node (127.0.0.1, ::1) accepts node ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoopbackNodePorts {
    /// Only inside a range that is itself a loopback range.
    #[default]
    IfNamed,
    /// Whatever the ranges say.
    Always,
    /// Not even then.
    Never,
}

/// This node, as far as the choice of endpoints and addresses depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeView<'a> {
    /// Name of the node.
    pub name: &'a str,
    /// Its zone, if it has one.
    pub zone: Option<&'a str>,
    /// Its primary addresses.
    pub primary: PerFamily<Option<IpAddr>>,
}

impl<'a> NodeView<'a> {
    /// The node as configuration and its object (if there is one) describe it.
    pub fn new(settings: &'a PlanSettings, node: Option<&'a Node>) -> Self {
        Self {
            name: &settings.node_name,
            zone: node.and_then(|node| node.zone.as_deref()),
            primary: PerFamily::from_fn(|family| primary_address(settings, node, family)),
        }
    }
}

fn primary_address(settings: &PlanSettings, node: Option<&Node>, family: IpFamily) -> Option<IpAddr> {
    let of_family = |address: &IpAddr| IpFamily::of(*address) == family;
    let bound = settings.bind_address.filter(|address| !address.is_unspecified() && of_family(address));
    bound.or_else(|| node?.addresses.iter().copied().find(of_family))
}
