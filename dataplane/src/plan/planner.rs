//! The table of all frontends, kept up to date at a cost in proportion to what changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use super::disputes::{self, ClaimStanding, Claimant, Disputes, Touched};
use super::globals::node_port_addresses;
use super::service::TriggerTime;
use super::{
    Change, Changes, Claim, Frontend, FrontendKind, FrontendSpec, Globals, HealthCheck, NodeView, Pending,
    PerFamily, PlanProblem, PlanSettings, ProblemReason, ServicePlan, Table, Totals, plan_service,
};
use crate::domain::{Cluster, ServiceName};

/// Plans Services and remembers what each contributes.
///
/// A frontend that several Services claim belongs to one of them (`disputes` says which); the next one gets it when that
/// one goes.
/// Invariant: the table is what planning everything from scratch would give, less the refused frontends.
#[derive(Debug)]
pub struct Planner {
    settings: Arc<PlanSettings>,
    table: Table,
    contributions: HashMap<ServiceName, Contribution>,
    disputes: Disputes,
    /// What the kernel refused, with the specification it refused.
    refused: BTreeMap<Frontend, Arc<FrontendSpec>>,
    /// Claimants of each health check node port (by creation time), the owner first.
    health_ports: BTreeMap<u16, BTreeSet<(i64, ServiceName)>>,
    /// Services whose plan has problems.
    troubled: BTreeSet<ServiceName>,
    totals: Totals,
    trigger_times: Vec<TriggerTime>,
    /// Of the last update.
    primary: PerFamily<Option<IpAddr>>,
}

/// What a Service contributes.
#[derive(Debug)]
struct Contribution {
    created: i64,
    uid: Arc<str>,
    plan: ServicePlan,
}

impl Contribution {
    fn frontends(&self) -> &[Claim] {
        &self.plan.frontends
    }

    const fn standing(&self, spec: &FrontendSpec) -> ClaimStanding {
        ClaimStanding::new(spec.kind, self.created)
    }

    fn spec(&self, frontend: &Frontend) -> Option<&Arc<FrontendSpec>> {
        let index = self.plan.frontends.binary_search_by_key(frontend, |(frontend, _)| *frontend).ok()?;
        self.plan.frontends.get(index).map(|(_, spec)| spec)
    }

    fn problem(&self, service: &ServiceName, field: &str, reason: ProblemReason) -> PlanProblem {
        PlanProblem { service: service.clone(), uid: Arc::clone(&self.uid), field: field.to_owned(), reason }
    }
}

impl Planner {
    /// A planner without any frontends.
    pub fn new(settings: PlanSettings) -> Self {
        Self {
            settings: Arc::new(settings),
            table: Table::default(),
            contributions: HashMap::new(),
            disputes: Disputes::default(),
            refused: BTreeMap::new(),
            health_ports: BTreeMap::new(),
            troubled: BTreeSet::new(),
            totals: Totals::default(),
            trigger_times: Vec::new(),
            primary: PerFamily::default(),
        }
    }

    /// Plans what is pending and says how the table changes by it. `interface_addresses` are all addresses of this
    /// node's interfaces.
    pub fn update(
        &mut self,
        cluster: &Cluster,
        interface_addresses: &BTreeSet<IpAddr>,
        pending: &Pending,
    ) -> Changes {
        let settings = Arc::clone(&self.settings);
        let node = NodeView::new(&settings, cluster.node());
        let mut touched = Touched::new();
        let mut health_ports_changed = false;
        for name in self.affected(cluster, &node, pending) {
            health_ports_changed |= self.replan(cluster, &name, &node, &mut touched);
        }
        self.primary = node.primary;
        let frontends = self.settle(touched);
        let globals = (pending.all || pending.globals || health_ports_changed).then(|| Globals {
            node_port_addresses: node_port_addresses(&settings, &node, interface_addresses),
            service_cidrs: cluster.service_cidrs().iter().copied().collect(),
            health_check_node_ports: self.health_ports.keys().copied().collect(),
        });
        let globals = globals.filter(|globals| *globals != self.table.globals);
        if let Some(globals) = &globals {
            self.table.globals.clone_from(globals);
        }
        Changes { frontends, globals }
    }

    /// Plans everything again.
    pub fn update_all(&mut self, cluster: &Cluster, interface_addresses: &BTreeSet<IpAddr>) -> Changes {
        self.update(cluster, interface_addresses, &Pending::everything())
    }

    /// The settings it plans by.
    pub fn settings(&self) -> &PlanSettings {
        &self.settings
    }

    /// Everything a dataplane has to bring about.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// Leaves a frontend out of the table because the kernel refused it, until its specification changes. The kernel
    /// is taken not to have it. False if it is not in the table.
    pub fn skip(&mut self, frontend: &Frontend) -> bool {
        let Some(spec) = self.table.frontends.remove(frontend) else { return false };
        self.refused.insert(*frontend, spec);
        true
    }

    /// The frontends that are left out because the kernel refused them, sorted, with the refused specification.
    pub const fn skipped(&self) -> &BTreeMap<Frontend, Arc<FrontendSpec>> {
        &self.refused
    }

    /// What health check servers have to tell, one for each port, sorted by port.
    pub fn health_checks(&self) -> impl Iterator<Item = &HealthCheck> {
        self.health_ports.values().filter_map(|claimants| {
            let (_, owner) = claimants.first()?;
            self.contributions.get(owner)?.plan.health_check.as_deref()
        })
    }

    /// Numbers for metrics.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The trigger times of EndpointSlices that came into effect by the updates since the last call: to be measured
    /// once the changes are programmed.
    pub fn take_trigger_times(&mut self) -> Vec<TriggerTime> {
        mem::take(&mut self.trigger_times)
    }

    /// All present problems.
    pub fn problems(&self) -> BTreeSet<PlanProblem> {
        let plans = self.troubled.iter().filter_map(|name| self.contributions.get(name));
        let own = plans.flat_map(|contribution| contribution.plan.problems.iter().cloned());
        own.chain(self.disputed_frontends()).chain(self.disputed_health_ports()).collect()
    }

    fn disputed_frontends(&self) -> impl Iterator<Item = PlanProblem> {
        self.disputes.losers().filter_map(|(frontend, owner, loser)| {
            let contribution = self.contributions.get(loser)?;
            let field = match contribution.spec(frontend)?.kind {
                FrontendKind::ClusterIp => "spec.clusterIPs",
                FrontendKind::NodePort => "spec.ports[].nodePort",
                FrontendKind::ExternalIp => "spec.externalIPs",
                FrontendKind::LoadBalancerIp => "status.loadBalancer.ingress",
            };
            let reason = ProblemReason::Disputed { frontend: *frontend, by: owner.clone() };
            Some(contribution.problem(loser, field, reason))
        })
    }

    fn disputed_health_ports(&self) -> impl Iterator<Item = PlanProblem> {
        self.health_ports.iter().flat_map(move |(port, claimants)| {
            let owner = claimants.first();
            claimants.iter().skip(1).filter_map(move |(_, loser)| {
                let reason = ProblemReason::HealthPortDisputed { port: *port, by: owner?.1.clone() };
                Some(self.contributions.get(loser)?.problem(loser, "spec.healthCheckNodePort", reason))
            })
        })
    }

    /// The Services to plan again.
    fn affected(&self, cluster: &Cluster, node: &NodeView<'_>, pending: &Pending) -> BTreeSet<ServiceName> {
        if pending.all {
            let known = cluster.services().map(|service| &service.name);
            return known.chain(self.contributions.keys()).cloned().collect();
        }
        let mut names = pending.services.clone();
        if pending.globals && self.primary != node.primary {
            // Source ranges that contain the node's address let the load balancer's address in.
            let ranged = cluster.services().filter(|service| !service.source_ranges.is_empty());
            names.extend(ranged.map(|service| service.name.clone()));
        }
        names
    }

    /// Plans one Service and notes who claims the frontends that change by it. True if it gained, lost or changed its
    /// health check node port.
    fn replan(
        &mut self,
        cluster: &Cluster,
        name: &ServiceName,
        node: &NodeView<'_>,
        touched: &mut Touched,
    ) -> bool {
        let old = self.contributions.get(name);
        let new = cluster.service(name).map(|service| {
            let slices: Vec<_> = cluster.slices(name).collect();
            let strict = self.settings.strict_source_ranges;
            let plan = plan_service(service, &slices, node, strict, old.map(|old| &old.plan));
            Contribution { created: service.created, uid: Arc::clone(&service.uid), plan }
        });
        for (frontend, leaves, joins) in differences(old, new.as_ref()) {
            let claimants = touched
                .entry(frontend)
                .or_insert_with(|| self.disputes.claimants(&frontend, || self.sole_claimant(&frontend)));
            if let Some(standing) = leaves {
                disputes::leave(claimants, &Claimant { standing, service: name.clone() });
            }
            if let Some(standing) = joins {
                disputes::join(claimants, Claimant { standing, service: name.clone() });
            }
        }
        self.replace(name, new)
    }

    fn replace(&mut self, name: &ServiceName, new: Option<Contribution>) -> bool {
        let old = self.contributions.remove(name);
        if let Some(old) = &old {
            self.totals.subtract(&old.plan);
            self.troubled.remove(name);
        }
        let old_port = old.as_ref().and_then(|old| Some((old.plan.health_check.as_ref()?.port, old.created)));
        let new_port = new.as_ref().and_then(|new| Some((new.plan.health_check.as_ref()?.port, new.created)));
        if let Some(new) = new {
            self.totals.add(&new.plan);
            if !new.plan.problems.is_empty() {
                self.troubled.insert(name.clone());
            }
            let measured = old.map(|old| old.plan.trigger_times).unwrap_or_default();
            self.trigger_times.extend(new.plan.trigger_times.iter().filter(|time| !measured.contains(time)));
            self.contributions.insert(name.clone(), new);
        }
        self.move_health_port(name, old_port, new_port)
    }

    fn move_health_port(
        &mut self,
        name: &ServiceName,
        old: Option<(u16, i64)>,
        new: Option<(u16, i64)>,
    ) -> bool {
        if old == new {
            return false;
        }
        if let Some((port, created)) = old
            && let Some(claimants) = self.health_ports.get_mut(&port)
        {
            claimants.remove(&(created, name.clone()));
            if claimants.is_empty() {
                self.health_ports.remove(&port);
            }
        }
        if let Some((port, created)) = new {
            self.health_ports.entry(port).or_default().insert((created, name.clone()));
        }
        true
    }

    /// The claimant of a frontend that is not disputed.
    fn sole_claimant(&self, frontend: &Frontend) -> Option<Claimant> {
        let spec = self.table.frontends.get(frontend).or_else(|| self.refused.get(frontend))?;
        let service = spec.owner.service.clone();
        Some(Claimant { standing: self.contributions.get(&service)?.standing(spec), service })
    }

    /// Gives each touched frontend to its owner.
    fn settle(&mut self, touched: Touched) -> Vec<Change> {
        let mut changes = Vec::new();
        for (frontend, claimants) in touched {
            let owner = claimants.first().and_then(|first| self.contributions.get(&first.service));
            let wanted = owner.and_then(|owner| owner.spec(&frontend)).cloned();
            self.disputes.set(frontend, claimants);
            let new = self.unless_refused(&frontend, wanted);
            let old = self.table.frontends.get(&frontend);
            if old == new.as_ref() {
                continue;
            }
            let old = match &new {
                Some(spec) => self.table.frontends.insert(frontend, Arc::clone(spec)),
                None => self.table.frontends.remove(&frontend),
            };
            changes.push(Change { frontend, old, new });
        }
        changes
    }

    fn unless_refused(
        &mut self,
        frontend: &Frontend,
        wanted: Option<Arc<FrontendSpec>>,
    ) -> Option<Arc<FrontendSpec>> {
        let Some(refused) = self.refused.get(frontend) else { return wanted };
        if wanted.as_ref() == Some(refused) {
            return None;
        }
        self.refused.remove(frontend);
        wanted
    }
}

/// A frontend of a Service that changes: the standing with which the Service leaves the claim and joins it anew.
type Difference = (Frontend, Option<ClaimStanding>, Option<ClaimStanding>);

fn differences(old: Option<&Contribution>, new: Option<&Contribution>) -> Vec<Difference> {
    let same_age = old.map(|old| old.created) == new.map(|new| new.created);
    let standing = |contribution: Option<&Contribution>, frontend: &Frontend| {
        contribution.and_then(|contribution| Some(contribution.standing(contribution.spec(frontend)?)))
    };
    let mut differences = Vec::new();
    for (frontend, spec) in old.map(Contribution::frontends).unwrap_or_default() {
        let successor = new.and_then(|new| new.spec(frontend));
        if !(same_age && successor.is_some_and(|successor| Arc::ptr_eq(spec, successor))) {
            differences.push((*frontend, standing(old, frontend), standing(new, frontend)));
        }
    }
    for (frontend, _) in new.map(Contribution::frontends).unwrap_or_default() {
        if old.is_none_or(|old| old.spec(frontend).is_none()) {
            differences.push((*frontend, None, standing(new, frontend)));
        }
    }
    differences
}
