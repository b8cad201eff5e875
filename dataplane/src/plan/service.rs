//! The frontends of one Service.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::endpoints::{self, Candidate};
use super::interner::{Claim, Interner};
use super::source_ranges::SourceRanges;
use super::{
    Backend, Frontend, FrontendAddress, FrontendKind, FrontendSpec, NodeView, PerFamily, PlanProblem, Policy,
    ProblemReason, Target,
};
use crate::domain::{
    EndpointSlice, IpFamily, Service, ServiceName, ServicePort, ServicePortName, TrafficPolicy,
};

/// All that follows from one Service, its slices and the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePlan {
    /// Its frontends, sorted, each once.
    pub frontends: Vec<Claim>,
    /// Its health check server, if it needs one.
    pub health_check: Option<Box<HealthCheck>>,
    /// What its author should know.
    pub problems: Vec<PlanProblem>,
    /// Numbers for metrics.
    pub counts: PerFamily<Counts>,
    /// Trigger times of its slices, nanoseconds since the epoch, sorted.
    pub trigger_times: Vec<TriggerTime>,
}

/// When something asked for the present content of an EndpointSlice: its family, nanoseconds since the epoch.
pub type TriggerTime = (IpFamily, i64);

/// Numbers for metrics, in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Service ports.
    pub ports: u32,
    /// Endpoints of these ports, in any condition.
    pub endpoints: u32,
    /// Service ports whose internal policy is Local, with endpoints, but none that is usable on this node.
    pub no_local_internal: u32,
    /// The same for the external policy.
    pub no_local_external: u32,
}

/// What a health check node port has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// TCP port of the health check server.
    pub port: u16,
    /// The Service it speaks for.
    pub service: ServiceName,
    /// `metadata.uid` of the Service, for Events.
    pub uid: Arc<str>,
    /// Ready endpoints on this node, counted by address; of two families, the greater number (a dual-stack pod is one
    /// endpoint).
    pub local_ready: usize,
}

/// Plans one Service. `slices` are the Service's own, in any order; what `previous` (the Service's plan so far) has in
/// common with the result is shared with it. `strict_source_ranges` as in [`super::PlanSettings`].
pub fn plan_service(
    service: &Service,
    slices: &[&EndpointSlice],
    node: &NodeView<'_>,
    strict_source_ranges: bool,
    previous: Option<&ServicePlan>,
) -> ServicePlan {
    let previous = previous.map(|plan| plan.frontends.as_slice()).unwrap_or_default();
    let mut planning = Planning {
        service,
        slices,
        node,
        interner: Interner::new(previous),
        drafts: Vec::new(),
        local_ready: PerFamily::default(),
        plan: ServicePlan::default(),
    };
    let owners: Vec<_> = service.ports.iter().map(|port| planning.owner(port)).collect();
    for family in IpFamily::ALL {
        // Without a cluster IP the Service does not exist in a family, whatever its other addresses.
        if service.cluster_ips.iter().any(|address| IpFamily::of(*address) == family) {
            planning.plan_family(family, &owners, strict_source_ranges);
        }
    }
    planning.finish()
}

struct Planning<'a> {
    service: &'a Service,
    slices: &'a [&'a EndpointSlice],
    node: &'a NodeView<'a>,
    interner: Interner<'a>,
    drafts: Vec<Draft>,
    local_ready: PerFamily<BTreeSet<IpAddr>>,
    plan: ServicePlan,
}

/// A frontend that some port asks for.
struct Draft {
    frontend: Frontend,
    /// Among the ports of the Service.
    port_index: usize,
    spec: FrontendSpec,
}

impl Draft {
    /// Who wins within a Service: a load balancer IP brings its source ranges along, which being an external IP as
    /// well must not open.
    const fn rank(&self) -> (u8, usize) {
        let kind = match self.spec.kind {
            FrontendKind::ClusterIp => 0,
            FrontendKind::LoadBalancerIp => 1,
            FrontendKind::ExternalIp | FrontendKind::NodePort => 2,
        };
        (kind, self.port_index)
    }
}

/// Where the traffic of one port goes in one family.
struct Destinations {
    internal: Target,
    cluster: Target,
    local: Target,
    serving: Arc<[SocketAddr]>,
}

impl Planning<'_> {
    fn owner(&self, port: &ServicePort) -> Arc<ServicePortName> {
        self.interner.owner(ServicePortName {
            service: self.service.name.clone(),
            port: Arc::clone(&port.name),
            protocol: port.protocol,
        })
    }

    fn plan_family(&mut self, family: IpFamily, owners: &[Arc<ServicePortName>], strict: bool) {
        let ranges = SourceRanges::of(self.service, family, self.node, strict);
        if let Some(reason) = ranges.problem {
            self.problem("spec.loadBalancerSourceRanges".to_owned(), reason);
        }
        let ranges = ranges.allowed.map(|ranges| self.interner.ranges(&ranges));
        let service = self.service;
        for (index, (port, owner)) in service.ports.iter().zip(owners).enumerate() {
            let candidates = endpoints::candidates(self.slices, family, port, self.node.name);
            let destinations = self.destinations(family, port, &candidates);
            self.count_local_ready(family, &candidates);
            self.draft_port(family, index, owner, &destinations, ranges.as_ref());
        }
    }

    fn destinations(
        &mut self,
        family: IpFamily,
        port: &ServicePort,
        candidates: &[Candidate<'_>],
    ) -> Destinations {
        let any_usable = endpoints::any_usable(candidates);
        let cluster = self.target(&endpoints::cluster_set(candidates, self.node), any_usable);
        let local = if self.uses_local() {
            self.target(&endpoints::local_set(candidates), any_usable)
        } else {
            cluster.clone()
        };
        self.count(family, port, candidates.len(), local == Target::Drop);
        let serves = |c: &&Candidate<'_>| c.endpoint.serving || c.endpoint.ready;
        let serving: Vec<_> = candidates.iter().filter(serves).map(|c| c.socket).collect();
        let internal = match self.service.internal_policy {
            TrafficPolicy::Cluster => cluster.clone(),
            TrafficPolicy::Local => local.clone(),
        };
        Destinations { internal, cluster, local, serving: self.interner.serving(&serving) }
    }

    fn uses_local(&self) -> bool {
        [self.service.internal_policy, self.service.external_policy].contains(&TrafficPolicy::Local)
    }

    fn target(&mut self, backends: &[Backend], any_usable: bool) -> Target {
        match (backends, any_usable) {
            ([], true) => Target::Drop,
            ([], false) => Target::Reject,
            _ => Target::Pool(self.interner.pool(backends)),
        }
    }

    fn count(&mut self, family: IpFamily, port: &ServicePort, endpoints: usize, none_local: bool) {
        let external = accessible(self.service, port, family);
        let counts = self.plan.counts.get_mut(family);
        counts.ports += 1;
        counts.endpoints += u32::try_from(endpoints).unwrap_or(u32::MAX);
        let missed = |policy| u32::from(none_local && policy == TrafficPolicy::Local);
        counts.no_local_internal += missed(self.service.internal_policy);
        counts.no_local_external += if external { missed(self.service.external_policy) } else { 0 };
    }

    fn count_local_ready(&mut self, family: IpFamily, candidates: &[Candidate<'_>]) {
        if self.service.health_check_node_port.is_some() {
            let ready = candidates.iter().filter(|candidate| candidate.local && candidate.endpoint.ready);
            self.local_ready.get_mut(family).extend(ready.map(|candidate| candidate.socket.ip()));
        }
    }

    fn draft_port(
        &mut self,
        family: IpFamily,
        port_index: usize,
        owner: &Arc<ServicePortName>,
        destinations: &Destinations,
        ranges: Option<&Arc<[IpNet]>>,
    ) {
        let service = self.service;
        for (kind, address, port) in addresses(service, port_index, family) {
            let (policy, inside, outside) = match (kind, service.external_policy) {
                (FrontendKind::ClusterIp, _) => {
                    (Policy::Internal, &destinations.internal, &destinations.internal)
                }
                (_, TrafficPolicy::Cluster) => {
                    (Policy::ExternalCluster, &destinations.cluster, &destinations.cluster)
                }
                (_, TrafficPolicy::Local) => {
                    (Policy::ExternalLocal, &destinations.cluster, &destinations.local)
                }
            };
            let spec = FrontendSpec {
                owner: Arc::clone(owner),
                kind,
                policy,
                inside: inside.clone(),
                outside: outside.clone(),
                affinity_seconds: service.affinity_seconds,
                source_ranges: ranges.filter(|_| kind == FrontendKind::LoadBalancerIp).cloned(),
                serving: Arc::clone(&destinations.serving),
            };
            let frontend = Frontend { address, port, protocol: owner.protocol };
            self.drafts.push(Draft { frontend, port_index, spec });
        }
    }

    fn finish(mut self) -> ServicePlan {
        let mut drafts = std::mem::take(&mut self.drafts);
        drafts.sort_by_key(|draft| (draft.frontend, draft.rank()));
        self.plan.frontends.reserve_exact(drafts.len());
        let mut winner: Option<(Frontend, usize)> = None;
        for draft in drafts {
            match winner {
                Some((frontend, index)) if frontend == draft.frontend => {
                    if index != draft.port_index {
                        self.port_taken(&draft, index);
                    }
                }
                _ => {
                    winner = Some((draft.frontend, draft.port_index));
                    let spec = self.interner.spec(&draft.frontend, draft.spec);
                    self.plan.frontends.push((draft.frontend, spec));
                }
            }
        }
        self.plan.frontends.shrink_to_fit();
        self.plan.health_check = self.health_check();
        let mut times: Vec<_> =
            self.slices.iter().filter_map(|slice| Some((slice.family, slice.trigger_time_ns?))).collect();
        times.sort_unstable();
        times.dedup();
        self.plan.trigger_times = times;
        self.plan
    }

    fn port_taken(&mut self, loser: &Draft, winner_index: usize) {
        let Some(port) = self.service.ports.get(winner_index) else { return };
        let by = (*self.owner(port)).clone();
        let field = match loser.spec.kind {
            FrontendKind::NodePort => format!("spec.ports[{}].nodePort", loser.port_index),
            _ => format!("spec.ports[{}].port", loser.port_index),
        };
        self.problem(field, ProblemReason::PortTaken { frontend: loser.frontend, by });
    }

    fn health_check(&self) -> Option<Box<HealthCheck>> {
        let port = self.service.health_check_node_port?;
        Some(Box::new(HealthCheck {
            port,
            service: self.service.name.clone(),
            uid: Arc::clone(&self.service.uid),
            local_ready: self.local_ready.v4.len().max(self.local_ready.v6.len()),
        }))
    }

    fn problem(&mut self, field: String, reason: ProblemReason) {
        self.plan.problems.push(PlanProblem {
            service: self.service.name.clone(),
            uid: Arc::clone(&self.service.uid),
            field,
            reason,
        });
    }
}

/// Every address of one family on which a port of the Service is reached, with the port there.
fn addresses(
    service: &Service,
    port_index: usize,
    family: IpFamily,
) -> impl Iterator<Item = (FrontendKind, FrontendAddress, u16)> {
    let port = service.ports.get(port_index);
    let lists = [
        (FrontendKind::ClusterIp, &service.cluster_ips),
        (FrontendKind::LoadBalancerIp, &service.load_balancer_ips),
        (FrontendKind::ExternalIp, &service.external_ips),
    ];
    port.into_iter().flat_map(move |port| {
        let own = move |address: &&IpAddr| IpFamily::of(**address) == family;
        let listed = lists.into_iter().flat_map(move |(kind, list)| {
            list.iter().filter(own).map(move |ip| (kind, FrontendAddress::Ip(*ip), port.port))
        });
        let node_port =
            port.node_port.map(|number| (FrontendKind::NodePort, FrontendAddress::NodePort(family), number));
        listed.chain(node_port)
    })
}

fn accessible(service: &Service, port: &ServicePort, family: IpFamily) -> bool {
    let mut external = service.external_ips.iter().chain(&service.load_balancer_ips);
    port.node_port.is_some() || external.any(|address| IpFamily::of(*address) == family)
}
