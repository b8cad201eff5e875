//! What the loop tells the outside: metrics, health, Events, health-check servers, logs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::engine::{Engine, SyncFailure, SyncReport, error_chain};
use crate::domain::{Event, IpFamily, ObjectKind, Problem, ServiceName};
use crate::kernel::conntrack::{ConntrackError, Occupancy};
use crate::plan::{HealthCheck, PerFamily, PlanProblem, ProblemReason};
use crate::serve::{
    ClusterEvent, EventSink, HealthCheckService, HealthMonitor, ListenOn, LocalPolicy, Metrics,
    NodePortServers, Repair, ServiceWarning, WatchRestart,
};
use crate::watch::{ErrorReason, WatchStatus};

/// Everybody who is told what happens.
#[derive(Debug)]
pub struct Observer {
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Health.
    pub health: Arc<HealthMonitor>,
    /// Kubernetes Events.
    pub events: Arc<dyn EventSink>,
    /// Health-check servers.
    pub node_ports: NodePortServers,
    /// Services have metrics of their own.
    pub service_metrics: bool,
    /// Health-check servers listen on all addresses, not only on those that accept node ports.
    pub health_ports_everywhere: bool,
    /// State of the watches.
    pub watches: Arc<WatchStatus>,
    /// Wall-clock time at start: older triggers say nothing about us.
    pub started: Timestamp,
    /// Starts empty.
    pub state: ObserverState,
}

/// What the observer remembers from one sync to the next.
#[derive(Debug, Default)]
pub struct ObserverState {
    /// When changes that are not programmed yet arrived.
    arrivals: Vec<Instant>,
    last_sync: Option<Instant>,
    services_pending: usize,
    slices_pending: usize,
    problems: BTreeSet<PlanProblem>,
    object_problems: BTreeMap<(ObjectKind, String), usize>,
    watch_errors: BTreeMap<(ObjectKind, ErrorReason), u64>,
    /// Services that have metrics of their own.
    measured: BTreeSet<ServiceName>,
    shortcomings: Vec<String>,
    failing: bool,
    conntrack_full: bool,
}

impl Observer {
    /// The agent starts: like kube-proxy it is healthy until it has something to do and cannot.
    pub(super) fn starting(&self) {
        for family in IpFamily::ALL {
            self.health.applied(family);
        }
    }

    /// There is something to program, and everything to do it with: from now on it may be late. Not so while lists are
    /// missing: that the API server cannot be reached is no reason to take this node out of a load balancer.
    pub(super) fn due(&self) {
        for family in IpFamily::ALL {
            self.health.queued(family);
        }
    }

    /// An event arrived.
    pub(super) fn arrived(&mut self, event: &Event, received: Instant) {
        match event {
            Event::Service(_) | Event::ServiceGone(_) => {
                self.metrics.service_change();
                self.state.services_pending += 1;
            }
            Event::Slice(_) | Event::SliceGone(_) => {
                self.metrics.endpoint_change();
                self.state.slices_pending += 1;
            }
            Event::Node(node) => return self.health.set_node(node.as_deref()),
            Event::Problem(problem) => return self.object_problem(problem),
            Event::ServiceCidrs(_) | Event::Synced(_) | Event::OptedOut(_) => return,
        }
        self.state.arrivals.push(received);
        self.metrics.set_pending(self.state.services_pending, self.state.slices_pending);
        for family in IpFamily::ALL {
            self.metrics.sync_queued(family, Timestamp::now());
        }
    }

    /// The object is named in the log; whoever owns it finds it there and in the metric.
    fn object_problem(&mut self, problem: &Problem) {
        tracing::warn!(object = %problem.object, field = %problem.field, "{problem}");
        *self.state.object_problems.entry((problem.kind, problem.object.clone())).or_default() += 1;
        let objects = self.state.object_problems.keys().filter(|(kind, _)| *kind == problem.kind).count();
        self.metrics.set_object_problems(problem.kind, objects);
    }

    /// A sync went through.
    pub(super) async fn synced(&mut self, engine: &mut Engine, report: &SyncReport) {
        let now = Instant::now();
        for arrival in self.state.arrivals.drain(..) {
            self.metrics.change_programmed(now.saturating_duration_since(arrival));
        }
        self.state.last_sync = Some(now);
        (self.state.services_pending, self.state.slices_pending) = (0, 0);
        self.metrics.set_pending(0, 0);
        for family in IpFamily::ALL {
            self.health.applied(family);
            self.metrics.synced(family, report.full, report.took, Timestamp::now());
        }
        if std::mem::take(&mut self.state.failing) {
            self.metrics.repaired(Repair::Failure);
        }
        self.programming_latency(engine);
        self.totals(engine);
        self.refusals(engine, report);
        self.problems(engine);
        if report.full {
            self.shortcomings(engine);
        }
        self.health_checks(engine).await;
        log_sync(report);
    }

    /// A sync failed; the next one is `retry` away.
    pub(super) fn failed(&mut self, failure: &SyncFailure, retry: Duration) {
        self.state.failing = true;
        for family in IpFamily::ALL {
            self.metrics.sync_failed(family);
        }
        tracing::error!(retry_in = ?retry, "{}", error_chain(failure));
    }

    /// When the oldest change that is not programmed yet arrived.
    pub(super) fn oldest_pending(&self) -> Option<Instant> {
        self.state.arrivals.first().copied()
    }

    /// When the last sync went through.
    pub(super) const fn last_sync(&self) -> Option<Instant> {
        self.state.last_sync
    }

    /// The kernel was found changed and was put right.
    pub(super) fn repaired(&self, reason: Repair, objects: usize) {
        self.metrics.repaired(reason);
        tracing::warn!(objects, ?reason, "somebody else changed what shunt had programmed; repairing");
    }

    /// kube-proxy's SLI: from what triggered an EndpointSlice to its being programmed.
    fn programming_latency(&self, engine: &mut Engine) {
        let now = Timestamp::now();
        for (family, trigger) in engine.planner_mut().take_trigger_times() {
            let trigger = Timestamp::from_nanosecond(i128::from(trigger)).ok();
            if let Some(trigger) = trigger.filter(|trigger| *trigger >= self.started) {
                let took = Duration::try_from(now.duration_since(trigger)).unwrap_or_default();
                self.metrics.endpoints_programmed(family, took);
            }
        }
    }

    /// Connection tracking was cleaned, or could not be.
    pub(super) fn cleaned(&self, outcome: &Result<(PerFamily<u64>, Duration), ConntrackError>) {
        match outcome {
            Ok((deleted, took)) => {
                for family in IpFamily::ALL {
                    self.metrics.conntrack_reconciled(family, *took, *deleted.get(family));
                }
                let PerFamily { v4, v6 } = deleted;
                if v4 + v6 > 0 {
                    tracing::info!(v4, v6, "removed stale UDP flows from connection tracking");
                }
            }
            Err(error) => tracing::warn!("stale UDP flows stay for now: {}", error_chain(error)),
        }
    }

    fn totals(&self, engine: &Engine) {
        let totals = engine.planner().totals();
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        for family in IpFamily::ALL {
            let external = count(*totals.no_local_external.get(family));
            let internal = count(*totals.no_local_internal.get(family));
            self.metrics.set_no_local_endpoints(LocalPolicy::External, family, external);
            self.metrics.set_no_local_endpoints(LocalPolicy::Internal, family, internal);
            self.metrics.set_services(family, count(*totals.ports.get(family)));
        }
        self.metrics.set_programmed(&engine.programmed());
    }

    fn refusals(&self, engine: &Engine, report: &SyncReport) {
        for (frontend, words) in &report.refused {
            let skipped = engine.planner().skipped().get(frontend);
            let Some(spec) = skipped.or_else(|| engine.planner().table().frontends.get(frontend)) else {
                continue;
            };
            let service = spec.owner.service.clone();
            let uid = engine.cluster().service(&service).map(|found| Arc::clone(&found.uid));
            let warning = ServiceWarning::FrontendRefused;
            self.events.emit(ClusterEvent::service_warning(
                service,
                uid.unwrap_or_default(),
                warning,
                words.clone(),
            ));
        }
    }

    /// Tells about what does not work on this node and worked, or was not known, when this was last asked.
    fn shortcomings(&mut self, engine: &Engine) {
        let found = engine.shortcomings();
        self.metrics.set_shortcomings(found.len());
        for shortcoming in found.iter().filter(|found| !self.state.shortcomings.contains(found)) {
            self.events.emit(ClusterEvent::degraded(shortcoming.clone()));
        }
        self.state.shortcomings = found;
    }

    /// Tells about problems that were not there after the last sync.
    fn problems(&mut self, engine: &Engine) {
        let problems = engine.planner().problems();
        for problem in problems.difference(&self.state.problems) {
            let warning = match problem.reason {
                ProblemReason::Disputed { .. } | ProblemReason::HealthPortDisputed { .. } => {
                    ServiceWarning::FrontendConflict
                }
                ProblemReason::NoSourceRange { .. } => ServiceWarning::SourceRangesOfOneFamily,
                ProblemReason::PortTaken { .. } => ServiceWarning::UnusableField,
            };
            let (service, uid) = (problem.service.clone(), Arc::clone(&problem.uid));
            self.events.emit(ClusterEvent::service_warning(service, uid, warning, problem.to_string()));
        }
        self.state.problems = problems;
    }

    async fn health_checks(&mut self, engine: &Engine) {
        let service = |check: &HealthCheck| HealthCheckService {
            name: check.service.clone(),
            uid: Arc::clone(&check.uid),
            local_endpoints: check.local_ready,
        };
        let wanted = engine.planner().health_checks().map(|check| (check.port, service(check))).collect();
        let addresses = &engine.planner().table().globals.node_port_addresses;
        // A node whose addresses nobody knows can still be asked.
        let everywhere = self.health_ports_everywhere || addresses.is_empty();
        let listen_on = if everywhere { ListenOn::All } else { ListenOn::Only(addresses.clone()) };
        self.node_ports.sync(wanted, &listen_on).await;
    }

    /// Brings metrics up to date that are measured when somebody looks.
    pub(super) fn measure(&mut self, engine: &Engine) {
        if self.service_metrics {
            self.measure_services(engine);
        }
        self.metrics.set_programmed(&engine.programmed());
        self.metrics.set_observations(&engine.observations());
        self.shortcomings(engine);
        let now = Instant::now();
        for kind in self.watches.in_use() {
            let status = self.watches.kind(kind);
            if let Some(heard) = status.age().and_then(|age| now.checked_sub(age)) {
                self.metrics.watch_heard(kind, heard);
            }
            for (reason, count) in status.errors() {
                let seen = self.state.watch_errors.entry((kind, reason)).or_default();
                for _ in *seen..count {
                    self.metrics.watch_restarted(kind, restart_reason(reason));
                }
                *seen = count;
            }
        }
        self.measure_conntrack();
    }

    /// How many endpoints each Service has that this node may choose: the most that any of its frontends has.
    fn measure_services(&mut self, engine: &Engine) {
        let mut found: BTreeMap<&ServiceName, usize> = BTreeMap::new();
        for spec in engine.planner().table().frontends.values() {
            let endpoints = found.entry(&spec.owner.service).or_default();
            *endpoints = (*endpoints).max(spec.inside.backends().len());
        }
        for gone in self.state.measured.iter().filter(|service| !found.contains_key(service)) {
            self.metrics.forget_service(gone);
        }
        for (service, endpoints) in &found {
            self.metrics.set_service_endpoints(service, *endpoints);
        }
        self.state.measured = found.into_keys().cloned().collect();
    }

    /// Reads how full connection tracking is, and warns once when it is nearly full.
    pub(super) fn measure_conntrack(&mut self) {
        let Some(occupancy) = Occupancy::now() else { return };
        self.metrics.set_conntrack(occupancy.count, occupancy.max);
        let full = occupancy.is_nearly_full();
        if full && !self.state.conntrack_full {
            let Occupancy { count, max } = occupancy;
            tracing::warn!(
                count,
                max,
                "connection tracking is nearly full: new connections will soon be dropped"
            );
        }
        self.state.conntrack_full = full;
    }
}

const fn restart_reason(reason: ErrorReason) -> WatchRestart {
    match reason {
        ErrorReason::Expired => WatchRestart::Expired,
        ErrorReason::Transport => WatchRestart::Disconnected,
        ErrorReason::Timeout => WatchRestart::Silent,
        ErrorReason::Throttled => WatchRestart::Throttled,
        ErrorReason::Forbidden | ErrorReason::NotFound | ErrorReason::Server => WatchRestart::Refused,
        ErrorReason::Decode => WatchRestart::Garbled,
    }
}

fn log_sync(report: &SyncReport) {
    let SyncReport { applied, full, frontends, took, .. } = report;
    if applied.written > 0 || applied.removed > 0 || *full {
        tracing::info!(
            frontends,
            written = applied.written,
            removed = applied.removed,
            full,
            took = ?took,
            "programmed"
        );
    }
}
