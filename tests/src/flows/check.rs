//! One flow of a step, bound to the machines that carry it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use super::case::{Config, Distribution, Flow, Kind};
use super::objects::{elements, port, sloppy_address, text};
use super::placement::{Placement, sources};
use super::probe::{Probe, Sessions};
use super::topology::{Role, Topology};
use crate::Mode;
use crate::lab::{Attempt, Dial, Protocol, Reply};
use crate::mode::{Connection, Source};

const ANSWER_PATIENCE: Duration = Duration::from_secs(1);
const DROP_PATIENCE: Duration = Duration::from_millis(700);
const REJECT_LIMIT: Duration = Duration::from_secs(1);
/// Between namespaces of one machine an ICMPv6 error comes back while
/// connect() still holds its socket, and is taken notice of only when the
/// first segment is sent again, a second later.
const REJECT_LIMIT_TCP6: Duration = Duration::from_millis(2500);
/// Conversations per endpoint, so that each is very likely to be seen.
pub(crate) const ATTEMPTS_PER_ENDPOINT: usize = 8;
/// A client goes on this long for endpoints not seen yet. With chance 1/n
/// each, one of n endpoints is missed with e^-24.
const PATIENCE_PER_ENDPOINT: usize = 24;
const ENOUGH_ATTEMPTS: usize = 400;

/// A flow with everything needed to send and judge it.
#[derive(Debug)]
pub(crate) struct Check {
    pub flow: Flow,
    pub name: String,
    /// Where it starts.
    pub role: Role,
    /// Where its destination address is.
    pub destination_role: Role,
    pub endpoints: BTreeSet<SocketAddr>,
    pub distribution: Distribution,
    /// The destination is a port that the agent may hold itself.
    pub belongs_to_agent: bool,
    /// Endpoints that are pods of this node, or the node itself.
    local_endpoints: BTreeSet<IpAddr>,
    mode: Mode,
    masquerade_all: bool,
}

/// What checks depend on besides flow and services.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions<'a> {
    pub placement: &'a Placement,
    pub ports_of_agent: &'a BTreeSet<u16>,
    pub mode: Mode,
    pub config: &'a Config,
}

impl Check {
    pub(crate) fn new(flow: &Flow, services: &[Value], conditions: &Conditions<'_>) -> Self {
        let Conditions { placement, ports_of_agent, mode, config } = *conditions;
        let named = flow.expect.distribution;
        let sticky = has_client_affinity(flow, services);
        let destination_role = placement.role_of(flow.to);
        let endpoints = flow.expect.endpoints.iter().map(SocketAddr::ip);
        let is_local = |address: &IpAddr| matches!(placement.role_of(*address), Role::Node | Role::Pod);
        Self {
            local_endpoints: endpoints.filter(is_local).collect(),
            mode,
            masquerade_all: config.masquerade_all,
            name: flow.name.clone().unwrap_or_else(|| format!("to {}", flow.destination())),
            role: placement.start_of(flow),
            destination_role,
            endpoints: flow.expect.endpoints.iter().copied().collect(),
            distribution: named.unwrap_or(if sticky { Distribution::Sticky } else { Distribution::All }),
            belongs_to_agent: destination_role == Role::Node && ports_of_agent.contains(&flow.port),
            flow: flow.clone(),
        }
    }

    /// Starts sending.
    pub(crate) fn start(&self, topology: &Topology, sessions: &Sessions) -> Reply<Vec<Attempt>> {
        let worker = &topology.machine(self.role).worker;
        worker.spawn(self.probe().run(sessions.clone()))
    }

    /// The source address that an endpoint has to see; `None` where it does not matter.
    pub(crate) fn source(&self, client: IpAddr, endpoint: IpAddr) -> Option<Source> {
        Some(self.mode.source(&Connection {
            protocol: self.flow.protocol,
            masqueraded_by_kube_proxy: self.flow.expect.masquerade?,
            masquerade_all: self.masquerade_all,
            client_is_here: matches!(self.role, Role::Node | Role::Pod),
            endpoint_is_here: self.local_endpoints.contains(&endpoint),
            to_itself: client == endpoint,
        }))
    }

    /// How fast a refusal has to be.
    pub(crate) fn reject_limit(&self) -> Duration {
        if self.flow.protocol == Protocol::Tcp && self.flow.to.is_ipv6() {
            REJECT_LIMIT_TCP6
        } else {
            REJECT_LIMIT
        }
    }

    fn expects_only(&self, kind: Kind) -> bool {
        self.flow.expect.kinds == [kind]
    }

    pub(crate) fn expects_endpoints(&self) -> bool {
        self.expects_only(Kind::Endpoints)
    }

    fn probe(&self) -> Probe {
        let flow = &self.flow;
        let (min, max) = self.attempts();
        let clients = sources(flow);
        let waits_for_all = self.expects_endpoints() && self.distribution == Distribution::All;
        let answers = self.expects_endpoints() || self.expects_only(Kind::None);
        Probe {
            dial: Dial {
                unconnected: flow.unconnected,
                payload: flow.payload,
                reply_size: flow.reply_size,
                ..Dial::new(flow.protocol, flow.destination()).patience(self.patience())
            },
            sources: if clients.is_empty() { vec![None] } else { clients.into_iter().map(Some).collect() },
            min,
            max,
            expected: if waits_for_all { self.endpoints.clone() } else { BTreeSet::new() },
            concurrent: !answers && flow.session.is_none(),
            session: flow.session.clone(),
        }
    }

    fn patience(&self) -> Duration {
        let kinds = &self.flow.expect.kinds;
        if kinds.contains(&Kind::Drop) {
            DROP_PATIENCE
        } else if kinds.contains(&Kind::Reject) {
            self.reject_limit()
        } else {
            ANSWER_PATIENCE
        }
    }

    /// Conversations per client: at least, at most.
    fn attempts(&self) -> (usize, usize) {
        let count = self.endpoints.len();
        match (self.flow.attempts, &self.flow.session) {
            (Some(attempts), _) => (attempts, attempts),
            (None, Some(_)) => (1, 1),
            _ if !self.expects_endpoints() => (3, 3),
            _ if self.distribution != Distribution::All => (6, 6),
            _ if count <= 1 => (4, 4),
            _ => ((ATTEMPTS_PER_ENDPOINT * count).min(ENOUGH_ATTEMPTS), PATIENCE_PER_ENDPOINT * count),
        }
    }
}

impl Flow {
    /// Destination address and port.
    pub(crate) fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.to, self.port)
    }
}

/// Gives the checks of a step.
pub(crate) fn checks(flows: &[Flow], services: &[Value], conditions: &Conditions<'_>) -> Vec<Check> {
    flows.iter().map(|flow| Check::new(flow, services, conditions)).collect()
}

/// Whether the flow goes to a service with client affinity.
fn has_client_affinity(flow: &Flow, services: &[Value]) -> bool {
    let affine = services.iter().filter(|service| text(service, "/spec/sessionAffinity") == "ClientIP");
    affine.into_iter().any(|service| {
        let addresses = ["/spec/clusterIPs", "/spec/externalIPs"].into_iter();
        let listed = addresses.flat_map(|path| elements(service, path)).filter_map(Value::as_str);
        let ingress = elements(service, "/status/loadBalancer/ingress").map(|item| text(item, "/ip"));
        let own = listed.chain(ingress).any(|address| sloppy_address(address) == Some(flow.to));
        elements(service, "/spec/ports").any(|item| {
            let protocol = match text(item, "/protocol") {
                "UDP" => Protocol::Udp,
                "SCTP" => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            let direct = own && port(item, "/port") == Some(flow.port);
            protocol == flow.protocol && (direct || port(item, "/nodePort") == Some(flow.port))
        })
    })
}
