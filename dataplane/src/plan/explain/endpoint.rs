//! Why each endpoint of a Service port is eligible or not.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::Serialize;

use super::Scope;
use crate::domain::{EndpointSlice, IpFamily, ServicePort};
use crate::plan::NodeView;
use crate::plan::endpoints::{self, Candidate, Topology};

/// One endpoint and its standing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointAnswer {
    /// Address and port.
    pub endpoint: SocketAddr,
    /// The EndpointSlice that lists it: `namespace/name`.
    pub slice: String,
    /// The node it runs on, if that is known.
    pub node: Option<String>,
    /// Runs on this node.
    pub local: bool,
    /// Whether this client may get it, and why not.
    pub standing: Standing,
    /// It is the client itself, so it sees a node address as source.
    pub is_client: bool,
}

/// Whether an endpoint may be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// It is ready.
    Eligible,
    /// It terminates, but still serves, and no ready endpoint is there.
    EligibleWhileTerminating,
    /// It is not ready.
    NotReady,
    /// It terminates and serves no more.
    TerminatingNotServing,
    /// It still serves, but terminates while ready endpoints are there.
    TerminatingWhileOthersAreReady,
    /// The policy is Local and it is not on this node.
    OnAnotherNode,
    /// Topology hints give it to other nodes.
    HintedForNodes(Vec<String>),
    /// Topology hints give it to other zones.
    HintedForZones(Vec<String>),
    /// Another entry for the same address and port is believed instead.
    Duplicate,
}

impl Standing {
    /// It may be chosen.
    pub const fn is_eligible(&self) -> bool {
        matches!(self, Self::Eligible | Self::EligibleWhileTerminating)
    }
}

/// All endpoints of a port with their standing, for a client with that scope and address.
pub(super) fn answers(
    slices: &[&EndpointSlice],
    family: IpFamily,
    port: &ServicePort,
    node: &NodeView<'_>,
    (scope, client): (Scope, IpAddr),
) -> Vec<EndpointAnswer> {
    let entries = endpoints::entries(slices, family, port, node.name);
    let mut candidates = entries.clone();
    candidates.dedup_by_key(|candidate| candidate.socket);
    let jury = Jury { candidates: &candidates, topology: Topology::of(&candidates, node), scope, node };
    let mut previous = None;
    let answer = |entry: &Candidate<'_>| {
        let duplicate = previous.replace(entry.socket) == Some(entry.socket);
        EndpointAnswer {
            endpoint: entry.socket,
            slice: entry.slice.to_string(),
            node: entry.endpoint.node.as_deref().map(str::to_owned),
            local: entry.local,
            standing: if duplicate { Standing::Duplicate } else { jury.standing(entry) },
            is_client: entry.socket.ip() == client,
        }
    };
    entries.iter().map(answer).collect()
}

/// The slices of a family that lack a port.
pub(super) fn slices_without(slices: &[&EndpointSlice], family: IpFamily, port: &ServicePort) -> Vec<String> {
    let lacks = |slice: &&&EndpointSlice| {
        let mut ports = slice.ports.iter();
        slice.family == family && !ports.any(|p| p.name == port.name && p.protocol == port.protocol)
    };
    slices.iter().filter(lacks).map(|slice| slice.name.to_string()).collect()
}

struct Jury<'a> {
    candidates: &'a [Candidate<'a>],
    topology: Topology,
    scope: Scope,
    node: &'a NodeView<'a>,
}

impl Jury<'_> {
    fn standing(&self, candidate: &Candidate<'_>) -> Standing {
        let endpoint = candidate.endpoint;
        if self.scope == Scope::Local && !candidate.local {
            return Standing::OnAnotherNode;
        }
        match (endpoint.ready, endpoint.terminating, endpoint.serving) {
            (true, _, _) if self.scope == Scope::Cluster => self.by_hints(candidate),
            (true, _, _) => Standing::Eligible,
            (false, true, true) if self.any_ready() => Standing::TerminatingWhileOthersAreReady,
            (false, true, true) => Standing::EligibleWhileTerminating,
            (false, true, false) => Standing::TerminatingNotServing,
            (false, false, _) => Standing::NotReady,
        }
    }

    fn any_ready(&self) -> bool {
        let in_scope = |candidate: &Candidate<'_>| self.scope == Scope::Cluster || candidate.local;
        self.candidates.iter().any(|candidate| candidate.endpoint.ready && in_scope(candidate))
    }

    fn by_hints(&self, candidate: &Candidate<'_>) -> Standing {
        if self.topology.admits(candidate, self.node) {
            return Standing::Eligible;
        }
        let hints = candidate.endpoint.hints.as_deref();
        let names = |names: &[Arc<str>]| names.iter().map(ToString::to_string).collect();
        match self.topology {
            Topology::SameNode => {
                Standing::HintedForNodes(hints.map(|h| names(&h.nodes)).unwrap_or_default())
            }
            Topology::SameZone | Topology::Everywhere => {
                Standing::HintedForZones(hints.map(|h| names(&h.zones)).unwrap_or_default())
            }
        }
    }
}
