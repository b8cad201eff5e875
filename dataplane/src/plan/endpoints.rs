//! Which endpoints of a Service port may be chosen on this node.
//!
//! The choice is made twice, for traffic policy Cluster and for Local, independently of each other: ready endpoints,
//! or, where there are none, terminating ones that still serve.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

use super::{Backend, NodeView};
use crate::domain::{Endpoint, EndpointSlice, IpFamily, ServicePort, SliceName};

/// One endpoint of a Service port, before any choice.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Address and port.
    pub socket: SocketAddr,
    /// On this node.
    pub local: bool,
    /// Conditions and hints.
    pub endpoint: &'a Endpoint,
    /// Where it comes from.
    pub slice: &'a SliceName,
}

impl Candidate<'_> {
    /// Takes new connections where no ready endpoint does.
    pub const fn serves_while_terminating(&self) -> bool {
        self.endpoint.serving && self.endpoint.terminating
    }

    fn backend(&self) -> Backend {
        Backend { address: self.socket.ip(), port: self.socket.port(), local: self.local }
    }

    fn hinted_for_node(&self, node: &str) -> bool {
        self.endpoint.hints.as_ref().is_some_and(|hints| hints.nodes.iter().any(|hint| **hint == *node))
    }

    fn hinted_for_zone(&self, zone: &str) -> bool {
        self.endpoint.hints.as_ref().is_some_and(|hints| hints.zones.iter().any(|hint| **hint == *zone))
    }

    /// Which of two entries for the same address and port is believed, greatest first: a running pod may have got the
    /// address of one that is still terminating. The rest only makes the choice independent of the slices' order.
    fn credence(&self) -> (bool, bool, bool, bool) {
        (!self.endpoint.terminating, self.endpoint.ready, self.endpoint.serving, self.local)
    }
}

/// All entries for a Service port in one family, sorted by address and port, with the one that is believed first among
/// those for the same address and port.
pub fn entries<'a>(
    slices: &[&'a EndpointSlice],
    family: IpFamily,
    port: &ServicePort,
    node_name: &str,
) -> Vec<Candidate<'a>> {
    let mut entries = Vec::new();
    for slice in slices.iter().copied().filter(|slice| slice.family == family) {
        for number in ports_of(slice, port) {
            entries.extend(slice.endpoints.iter().filter(|endpoint| usable(endpoint.address, family)).map(
                |endpoint| Candidate {
                    socket: SocketAddr::new(endpoint.address, number),
                    local: endpoint.node.as_deref() == Some(node_name),
                    endpoint,
                    slice: &slice.name,
                },
            ));
        }
    }
    entries.sort_by_key(|entry| (entry.socket, Reverse(entry.credence())));
    entries
}

/// The entries without those that are not believed.
pub fn candidates<'a>(
    slices: &[&'a EndpointSlice],
    family: IpFamily,
    port: &ServicePort,
    node_name: &str,
) -> Vec<Candidate<'a>> {
    let mut entries = entries(slices, family, port, node_name);
    entries.dedup_by_key(|entry| entry.socket);
    entries
}

/// The port numbers that endpoints of this slice have for a Service port.
fn ports_of(slice: &EndpointSlice, port: &ServicePort) -> impl Iterator<Item = u16> {
    slice
        .ports
        .iter()
        .filter(|offered| offered.name == port.name && offered.protocol == port.protocol && offered.port != 0)
        .map(|offered| offered.port)
}

fn usable(address: IpAddr, family: IpFamily) -> bool {
    IpFamily::of(address) == family
}

/// How topology hints narrow the ready endpoints under policy Cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Not at all.
    Everywhere,
    /// To those hinted for this node's zone.
    SameZone,
    /// To those hinted for this node.
    SameNode,
}

impl Topology {
    /// Hints count only where every ready endpoint has some of the kind, and one of them names this node or zone.
    pub fn of(candidates: &[Candidate<'_>], node: &NodeView<'_>) -> Self {
        let ready = || candidates.iter().filter(|candidate| candidate.endpoint.ready);
        let hints = |candidate: &Candidate<'_>| {
            let hints = candidate.endpoint.hints.as_ref();
            hints.map_or((false, false), |hints| (!hints.nodes.is_empty(), !hints.zones.is_empty()))
        };
        if ready().all(|candidate| hints(candidate).0) && ready().any(|c| c.hinted_for_node(node.name)) {
            return Self::SameNode;
        }
        let in_zone = |zone| ready().any(|candidate| candidate.hinted_for_zone(zone));
        if ready().all(|candidate| hints(candidate).1) && node.zone.is_some_and(in_zone) {
            return Self::SameZone;
        }
        Self::Everywhere
    }

    /// Whether hints leave this candidate in.
    pub fn admits(self, candidate: &Candidate<'_>, node: &NodeView<'_>) -> bool {
        match self {
            Self::Everywhere => true,
            Self::SameZone => node.zone.is_some_and(|zone| candidate.hinted_for_zone(zone)),
            Self::SameNode => candidate.hinted_for_node(node.name),
        }
    }
}

/// The endpoints under policy Cluster, sorted.
pub fn cluster_set(candidates: &[Candidate<'_>], node: &NodeView<'_>) -> Vec<Backend> {
    let topology = Topology::of(candidates, node);
    ready_or_terminating(candidates, |candidate| topology.admits(candidate, node), |_| true)
}

/// The endpoints under policy Local, sorted. Hints do not matter here.
pub fn local_set(candidates: &[Candidate<'_>]) -> Vec<Backend> {
    let local = |candidate: &Candidate<'_>| candidate.local;
    ready_or_terminating(candidates, local, local)
}

fn ready_or_terminating(
    candidates: &[Candidate<'_>],
    admits_ready: impl Fn(&Candidate<'_>) -> bool,
    admits_terminating: impl Fn(&Candidate<'_>) -> bool,
) -> Vec<Backend> {
    let ready = |candidate: &&Candidate<'_>| candidate.endpoint.ready && admits_ready(candidate);
    let chosen: Vec<_> = candidates.iter().filter(ready).map(Candidate::backend).collect();
    if !chosen.is_empty() {
        return chosen;
    }
    let terminating = |c: &&Candidate<'_>| c.serves_while_terminating() && admits_terminating(c);
    candidates.iter().filter(terminating).map(Candidate::backend).collect()
}

/// Whether any node of the cluster could serve: without that, clients are refused; with it, a policy that leaves
/// nothing here makes silence.
pub fn any_usable(candidates: &[Candidate<'_>]) -> bool {
    candidates.iter().any(|candidate| candidate.endpoint.ready || candidate.serves_while_terminating())
}
