//! Why a client ends up where it does: the answer behind `shunt explain`.
//!
//! Pure: answers from the objects and the table, without asking the kernel. Also the oracle for what a dataplane has to
//! do with the first packet of a connection.

mod endpoint;
mod render;

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::{
    Frontend, FrontendAddress, FrontendKind, FrontendSpec, NodeView, Planner, Policy, Table, Target,
};
use crate::domain::{Cluster, IpFamily, Protocol, ServicePort, TrafficPolicy};

pub use endpoint::{EndpointAnswer, Standing};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Client {
    /// Local detection takes it for a pod of this node.
    Pod,
    /// This node itself: the source is an address of an interface of it.
    Node,
    /// Anybody else.
    Outside,
}

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Source address.
    pub from: IpAddr,
    /// What the source address (or the interface) makes of the client.
    pub client: Client,
    /// Destination.
    pub to: SocketAddr,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// The settings that decide about source addresses, but not about frontends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceHandling {
    /// `masqueradeAll`.
    pub masquerade_all: bool,
    /// There is a local detector for the family of the question.
    pub pods_told_apart: bool,
}

/// Where a connection goes and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Source address.
    pub from: IpAddr,
    /// What kind of client that is.
    pub client: Client,
    /// Destination.
    pub to: SocketAddr,
    /// Transport protocol, lower case.
    pub protocol: &'static str,
    /// The frontend that is addressed, if there is one.
    pub frontend: Option<FrontendAnswer>,
    /// What happens.
    pub verdict: Verdict,
    /// Every endpoint of the Service port, chosen or not; sorted by address and port.
    pub endpoints: Vec<EndpointAnswer>,
    /// EndpointSlices of the Service, of this family, without the port: `namespace/name`.
    pub slices_without_port: Vec<String>,
}

/// The frontend that is addressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendAnswer {
    /// As displayed everywhere: `172.30.0.41:80/tcp`.
    pub name: String,
    /// The Service port: `namespace/name:port/protocol`.
    pub service_port: String,
    /// Which field of the Service it comes from.
    pub kind: FrontendKind,
    /// Who is told apart.
    pub policy: Policy,
    /// Which endpoints this client may get.
    pub scope: Scope,
    /// Seconds of client affinity.
    pub affinity_seconds: Option<u32>,
    /// The ranges sources must be in, if they are restricted.
    pub source_ranges: Option<Vec<String>>,
}

/// Which endpoints a client may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// All endpoints, narrowed by topology hints.
    Cluster,
    /// Endpoints of this node.
    Local,
}

/// What happens to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "action", content = "why")]
pub enum Verdict {
    /// It goes to one of the eligible endpoints.
    Forward(Source),
    /// It is refused.
    Reject(RejectReason),
    /// It is dropped silently.
    Drop(DropReason),
    /// It is none of our business.
    Untouched(UntouchedReason),
}

/// Which source address the endpoint sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The client's (a node address, if the client is the endpoint itself).
    Kept,
    /// A node address: masqueradeAll is set.
    MasqueradeAll,
    /// A node address: the client is not a pod of this node, so the reply might miss the node.
    NotAPod,
    /// A node address: the endpoint may be on another node.
    ExternalTraffic,
    /// A node address: the node talks to an external address.
    FromNode,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RejectReason {
    /// No endpoint anywhere can serve.
    NoEndpoints,
    /// The cluster IP has no such port.
    NoSuchPort,
}

/// Why a connection is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DropReason {
    /// The traffic policy is Local, and no endpoint of this node can serve.
    NoLocalEndpoints,
    /// The client is outside the source ranges.
    SourceRanges,
    /// No Service has this address of the service CIDRs.
    UnallocatedClusterIp,
}

/// Why a connection is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum UntouchedReason {
    /// No Service has this address and port.
    NoSuchFrontend,
    /// The port is a node port, but node ports are not accepted on this address.
    NodePortElsewhere,
    /// The kernel refused the frontend.
    RefusedByKernel,
}

/// Explains what becomes of a connection.
pub fn explain(
    planner: &Planner,
    cluster: &Cluster,
    sources: SourceHandling,
    question: &Question,
) -> Explanation {
    let table = planner.table();
    let mut answer = Explanation {
        from: question.from,
        client: question.client,
        to: question.to,
        protocol: question.protocol.lower(),
        frontend: None,
        verdict: without_frontend(planner, question),
        endpoints: Vec::new(),
        slices_without_port: Vec::new(),
    };
    if let Some((frontend, spec)) = addressed(table, question) {
        let scope = scope(spec, cluster, sources, question.client);
        answer.verdict = verdict(spec, sources, question);
        answer.frontend = Some(frontend_answer(&frontend, spec, scope));
        if let Some(port) = service_port(spec, cluster) {
            let settings = planner.settings();
            let node = NodeView::new(settings, cluster.node());
            let slices: Vec<_> = cluster.slices(&spec.owner.service).collect();
            answer.endpoints =
                endpoint::answers(&slices, frontend.family(), port, &node, (scope, question.from));
            answer.slices_without_port = endpoint::slices_without(&slices, frontend.family(), port);
        }
    }
    answer
}

/// The frontend a packet addresses: that of the very address, else that of the node port.
fn addressed<'a>(table: &'a Table, question: &Question) -> Option<(Frontend, &'a FrontendSpec)> {
    let look_up = |frontend: Frontend| Some((frontend, &**table.frontends.get(&frontend)?));
    look_up(exact(question)).or_else(|| {
        let accepted = table.globals.node_port_addresses.contains(&question.to.ip());
        look_up(node_port(question)).filter(|_| accepted)
    })
}

const fn exact(question: &Question) -> Frontend {
    let address = FrontendAddress::Ip(question.to.ip());
    Frontend { address, port: question.to.port(), protocol: question.protocol }
}

const fn node_port(question: &Question) -> Frontend {
    let address = FrontendAddress::NodePort(IpFamily::of(question.to.ip()));
    Frontend { address, port: question.to.port(), protocol: question.protocol }
}

fn without_frontend(planner: &Planner, question: &Question) -> Verdict {
    let table = planner.table();
    let address = question.to.ip();
    let accepts_node_ports = table.globals.node_port_addresses.contains(&address);
    if planner.skipped().contains_key(&exact(question))
        || (accepts_node_ports && planner.skipped().contains_key(&node_port(question)))
    {
        Verdict::Untouched(UntouchedReason::RefusedByKernel)
    } else if is_cluster_ip(table, address) {
        Verdict::Reject(RejectReason::NoSuchPort)
    } else if table.globals.service_cidrs.iter().any(|cidr| cidr.contains(&address)) {
        Verdict::Drop(DropReason::UnallocatedClusterIp)
    } else if table.frontends.contains_key(&node_port(question)) {
        Verdict::Untouched(UntouchedReason::NodePortElsewhere)
    } else {
        Verdict::Untouched(UntouchedReason::NoSuchFrontend)
    }
}

fn is_cluster_ip(table: &Table, address: IpAddr) -> bool {
    let first = Frontend { address: FrontendAddress::Ip(address), port: 0, protocol: Protocol::Tcp };
    let mut ports =
        table.frontends.range(first..).take_while(|(frontend, _)| frontend.address == first.address);
    ports.any(|(_, spec)| spec.kind == FrontendKind::ClusterIp)
}

fn verdict(spec: &FrontendSpec, sources: SourceHandling, question: &Question) -> Verdict {
    let ranges = spec.source_ranges.as_deref();
    if ranges.is_some_and(|ranges| !ranges.iter().any(|range| range.contains(&question.from))) {
        return Verdict::Drop(DropReason::SourceRanges);
    }
    let (target, source) = destination(spec, sources, question.client);
    match target {
        Target::Pool(_) => Verdict::Forward(source),
        Target::Reject => Verdict::Reject(RejectReason::NoEndpoints),
        Target::Drop => Verdict::Drop(DropReason::NoLocalEndpoints),
    }
}

/// Where a frontend leads this kind of client, and with which source address.
fn destination(spec: &FrontendSpec, sources: SourceHandling, client: Client) -> (&Target, Source) {
    match (spec.policy, client) {
        (Policy::Internal, _) if sources.masquerade_all => (&spec.inside, Source::MasqueradeAll),
        (Policy::Internal, Client::Node | Client::Outside) if sources.pods_told_apart => {
            (&spec.inside, Source::NotAPod)
        }
        (Policy::Internal, _) => (&spec.inside, Source::Kept),
        (Policy::ExternalCluster, _) => (&spec.inside, Source::ExternalTraffic),
        (Policy::ExternalLocal, Client::Node) => (&spec.inside, Source::FromNode),
        (Policy::ExternalLocal, Client::Pod) if sources.pods_told_apart => (&spec.inside, Source::Kept),
        (Policy::ExternalLocal, Client::Pod | Client::Outside) => (&spec.outside, Source::Kept),
    }
}

fn scope(spec: &FrontendSpec, cluster: &Cluster, sources: SourceHandling, client: Client) -> Scope {
    let internal = cluster.service(&spec.owner.service).map(|service| service.internal_policy);
    match (spec.policy, client) {
        (Policy::Internal, _) if internal == Some(TrafficPolicy::Local) => Scope::Local,
        (Policy::Internal | Policy::ExternalCluster, _) | (Policy::ExternalLocal, Client::Node) => {
            Scope::Cluster
        }
        (Policy::ExternalLocal, Client::Pod) if sources.pods_told_apart => Scope::Cluster,
        (Policy::ExternalLocal, Client::Pod | Client::Outside) => Scope::Local,
    }
}

fn frontend_answer(frontend: &Frontend, spec: &FrontendSpec, scope: Scope) -> FrontendAnswer {
    let ranges = spec.source_ranges.as_deref();
    FrontendAnswer {
        name: frontend.to_string(),
        service_port: spec.owner.to_string(),
        kind: spec.kind,
        policy: spec.policy,
        scope,
        affinity_seconds: spec.affinity_seconds,
        source_ranges: ranges.map(|ranges| ranges.iter().map(ToString::to_string).collect()),
    }
}

fn service_port<'a>(spec: &FrontendSpec, cluster: &'a Cluster) -> Option<&'a ServicePort> {
    let service = cluster.service(&spec.owner.service)?;
    service.ports.iter().find(|port| port.name == spec.owner.port && port.protocol == spec.owner.protocol)
}
