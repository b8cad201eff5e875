//! Runs the engine: one task that owns all state.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::time::{self, Instant as Deadline};
use tokio_util::sync::CancellationToken;

use super::answer::{Answers, ClientClasses};
use super::backoff::Backoff;
use super::engine::{Engine, Readiness, SyncFailure, error_chain};
use super::observe::Observer;
use super::query::Query;
use super::running::Running;
use crate::domain::{Event, Node, ObjectKind, OptedOutPod};
use crate::kernel::monitor::AddressMonitor;
use crate::kernel::{Allowance, LONGEST_PAUSE, release_memory};
use crate::serve::Repair;
use crate::watch::Stamped;

/// Like kube-proxy, the agent goes on without its Node object after this time.
const WAIT_FOR_NODE: Duration = Duration::from_secs(30);
/// Changes that come this close together are programmed together while the agent is busy anyway.
const COALESCE: Duration = Duration::from_millis(1);
/// A sync this recent means that the agent is busy.
const BUSY: Duration = Duration::from_millis(20);
/// The kernel's state is compared with the plan this often, even if nobody reported a change to it.
const AUDIT_INTERVAL: Duration = Duration::from_mins(5);
/// After a change by others was reported, more of them are waited for before the audit.
const AUDIT_DELAY: Duration = Duration::from_millis(100);
/// How often connection tracking is checked for being nearly full.
const OCCUPANCY_INTERVAL: Duration = Duration::from_mins(1);
/// Failed syncs are repeated after this time at first.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// What happens once after the first sync: taking over from a kube-proxy, sysctls that exist only now.
pub type AfterFirstSync = Box<dyn FnOnce() + Send>;

/// Takes the pods whose sockets are to be left alone, all of them.
pub type OptOut = Box<dyn Fn(BTreeSet<OptedOutPod>) + Send>;

/// Everything the agent is made of.
pub struct AgentParts {
    /// The state.
    pub engine: Engine,
    /// What arrived before the agent could be made.
    pub early: Vec<Stamped>,
    /// Objects.
    pub events: mpsc::Receiver<Stamped>,
    /// Questions from the HTTP servers.
    pub queries: mpsc::Receiver<Query>,
    /// Addresses of this node.
    pub addresses: AddressMonitor,
    /// Signalled when somebody else changed the kernel state that the dataplane owns.
    pub kernel_changed: Arc<Notify>,
    /// Who is told.
    pub observer: Observer,
    /// Which dataplane runs, for the status.
    pub running: Running,
    /// What the kernel offers, for the status, once it is known.
    pub kernel_notes: Arc<OnceLock<Vec<String>>>,
    /// Leaves the sockets of pods alone, where sockets are balanced.
    pub opt_out: Option<OptOut>,
    /// Tells pods from others, for explanations.
    pub classes: ClientClasses,
    /// Least time between two syncs; zero programs every change at once.
    pub min_interval: Duration,
    /// Longest time between two attempts after a failure: `syncPeriod`.
    pub sync_period: Duration,
    /// The node's pod CIDRs decide what is local (`detectLocalMode: NodeCIDR`): the agent ends when they change.
    pub follows_pod_cidrs: bool,
    /// Done once, on a thread of its own.
    pub after_first_sync: Option<AfterFirstSync>,
    /// Ends the agent; what is programmed stays.
    pub stop: CancellationToken,
}

impl fmt::Debug for AgentParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentParts").field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// Why the agent ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The dataplane cannot work here.
    #[error("the dataplane does not work on this node")]
    Dataplane(#[source] SyncFailure),
    /// With `detectLocalMode: NodeCIDR` other pod CIDRs mean other rules everywhere: start again.
    #[error(
        "the pod CIDRs of this node changed from {from:?} to {to:?}; restarting to detect local traffic by them"
    )]
    PodCidrsChanged {
        /// As they were at start.
        from: Vec<String>,
        /// As they are now.
        to: Vec<String>,
    },
    /// The source of objects ended.
    #[error("the source of objects ended")]
    SourceEnded,
}

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    parts: AgentParts,
    started: Deadline,
    last_sync: Option<Instant>,
    backoff: Backoff,
    retry_at: Option<Deadline>,
    audit_at: Deadline,
    audit_reason: Repair,
    occupancy_at: Deadline,
    /// Connection tracking is not looked through again before.
    clean_at: Deadline,
    cleaning: Allowance,
    said_waiting: bool,
}

/// What woke the loop.
enum Wake {
    Events(Stamped),
    Query(Query),
    Addresses(BTreeSet<IpAddr>),
    KernelChanged,
    Time,
    SourceEnded,
    Stop,
}

impl Agent {
    /// An agent of these parts.
    pub fn new(mut parts: AgentParts) -> Self {
        let now = Deadline::now();
        parts.engine.set_interface_addresses(parts.addresses.addresses().clone());
        let backoff = Backoff::new(FIRST_RETRY, parts.sync_period.min(Duration::from_secs(10)));
        Self {
            parts,
            started: now,
            last_sync: None,
            backoff,
            retry_at: None,
            audit_at: now + AUDIT_INTERVAL,
            audit_reason: Repair::Audit,
            occupancy_at: now + OCCUPANCY_INTERVAL,
            clean_at: now,
            cleaning: Allowance::new(now.into_std()),
            said_waiting: false,
        }
    }

    /// Runs until it is stopped. Calls into the kernel block the thread: give the agent one of its own.
    pub async fn run(mut self) -> Result<(), AgentError> {
        self.parts.observer.starting();
        for stamped in std::mem::take(&mut self.parts.early) {
            self.take(stamped)?;
        }
        // Everything may have been among these: then nothing else would wake the loop.
        self.sync_if_due().await?;
        loop {
            match self.wait().await {
                Wake::Stop => return Ok(()),
                Wake::SourceEnded => return Err(AgentError::SourceEnded),
                Wake::Events(first) => self.take_all(first).await?,
                Wake::Query(query) => self.answer(query),
                Wake::Addresses(addresses) => self.parts.engine.set_interface_addresses(addresses),
                Wake::KernelChanged => self.audit_soon(),
                Wake::Time => self.on_time(),
            }
            self.sync_if_due().await?;
            self.clean_if_due();
        }
    }

    async fn wait(&mut self) -> Wake {
        let deadline = self.deadline();
        let parts = &mut self.parts;
        tokio::select! {
            biased;
            () = parts.stop.cancelled() => Wake::Stop,
            event = parts.events.recv() => event.map_or(Wake::SourceEnded, Wake::Events),
            Some(query) = parts.queries.recv() => Wake::Query(query),
            changed = parts.addresses.changed() => match changed {
                Ok(addresses) => Wake::Addresses(addresses.clone()),
                Err(error) => {
                    tracing::warn!("reading the node's addresses: {error}");
                    time::sleep(FIRST_RETRY).await;
                    Wake::Time
                }
            },
            () = parts.kernel_changed.notified() => Wake::KernelChanged,
            () = time::sleep_until(deadline) => Wake::Time,
        }
    }

    fn deadline(&self) -> Deadline {
        let waits_for_node = matches!(self.parts.engine.readiness(), Readiness::WaitingFor(_));
        let node = waits_for_node.then(|| (self.started + WAIT_FOR_NODE).max(Deadline::now() + BUSY));
        let clean = self.parts.engine.owes_cleaning().then_some(self.clean_at);
        [self.retry_at, node, clean]
            .into_iter()
            .flatten()
            .fold(self.audit_at.min(self.occupancy_at), Deadline::min)
    }

    /// Takes in an event and all that came with it.
    async fn take_all(&mut self, first: Stamped) -> Result<(), AgentError> {
        self.take(first)?;
        if self.last_sync.is_some_and(|last| last.elapsed() < BUSY) {
            time::sleep(COALESCE).await;
        }
        while let Ok(stamped) = self.parts.events.try_recv() {
            self.take(stamped)?;
        }
        Ok(())
    }

    fn take(&mut self, stamped: Stamped) -> Result<(), AgentError> {
        self.parts.observer.arrived(&stamped.event, stamped.received);
        if self.parts.follows_pod_cidrs
            && let Event::Node(Some(node)) = &stamped.event
        {
            self.check_pod_cidrs(node)?;
        }
        match (stamped.event, &self.parts.opt_out) {
            (Event::OptedOut(pods), Some(opt_out)) => opt_out(pods),
            (event, _) => self.parts.engine.take(event),
        }
        Ok(())
    }

    fn check_pod_cidrs(&self, node: &Node) -> Result<(), AgentError> {
        let known = self.parts.engine.cluster().node().map_or(&[][..], |node| &node.pod_cidrs);
        if known.is_empty() || known == node.pod_cidrs {
            return Ok(());
        }
        let texts = |cidrs: &[ipnet::IpNet]| cidrs.iter().map(ToString::to_string).collect();
        Err(AgentError::PodCidrsChanged { from: texts(known), to: texts(&node.pod_cidrs) })
    }

    fn on_time(&mut self) {
        let now = Deadline::now();
        if now >= self.started + WAIT_FOR_NODE {
            self.stop_waiting_for_node();
        }
        if now >= self.occupancy_at {
            self.occupancy_at = now + OCCUPANCY_INTERVAL;
            self.parts.observer.measure_conntrack();
        }
        if now >= self.audit_at {
            self.audit();
        }
    }

    fn stop_waiting_for_node(&mut self) {
        if let Readiness::WaitingFor(missing) = self.parts.engine.readiness() {
            if missing.contains(&ObjectKind::Node) {
                tracing::warn!(
                    "no Node object after {WAIT_FOR_NODE:?}; going on without node addresses and zone"
                );
                self.parts.engine.stop_waiting_for(ObjectKind::Node);
            } else if !self.said_waiting {
                self.said_waiting = true;
                let missing: Vec<_> = missing.into_iter().map(ObjectKind::resource).collect();
                tracing::warn!(
                    ?missing,
                    "still waiting for the first complete lists; nothing is changed before"
                );
            }
        }
    }

    fn audit_soon(&mut self) {
        let soon = Deadline::now() + AUDIT_DELAY;
        if soon < self.audit_at {
            self.audit_at = soon;
            self.audit_reason = Repair::Notified;
        }
    }

    /// Compares the kernel with the plan; a difference makes the next sync restore.
    fn audit(&mut self) {
        self.audit_at = Deadline::now() + AUDIT_INTERVAL;
        let reason = std::mem::replace(&mut self.audit_reason, Repair::Audit);
        let engine = &mut self.parts.engine;
        match engine.audit() {
            Ok(None | Some(0)) => {}
            Ok(Some(objects)) => {
                self.parts.observer.repaired(reason, objects);
                engine.distrust_kernel();
            }
            Err(error) => {
                tracing::warn!("comparing the kernel with the plan: {}; restoring", error_chain(&error));
                engine.distrust_kernel();
            }
        }
    }

    async fn sync_if_due(&mut self) -> Result<(), AgentError> {
        if self.retry_at.is_some_and(|at| Deadline::now() < at) {
            return Ok(());
        }
        self.retry_at = None;
        let too_early = self.parts.engine.has_work() && self.is_too_early();
        let engine = &mut self.parts.engine;
        if too_early || engine.readiness() != Readiness::Ready || !engine.has_work() {
            return Ok(());
        }
        self.parts.observer.due();
        let started = Instant::now();
        match engine.sync(started) {
            Ok(report) => {
                self.parts.observer.synced(engine, &report).await;
                if report.full {
                    // What was read from the kernel, and all lists if it is the first.
                    release_memory();
                }
                self.last_sync = Some(Instant::now());
                self.backoff.succeeded();
                self.after_first_sync();
            }
            Err(failure @ SyncFailure::Dataplane { fatal: true, .. }) => {
                return Err(AgentError::Dataplane(failure));
            }
            Err(failure) => {
                let retry = self.backoff.failed();
                self.retry_at = Some(Deadline::now() + retry);
                self.parts.observer.failed(&failure, retry);
            }
        }
        Ok(())
    }

    /// True within the least time between two syncs; the loop is woken at its end.
    fn is_too_early(&mut self) -> bool {
        let Some(last) = self.last_sync else { return false };
        let due = Deadline::from_std(last + self.parts.min_interval);
        let early = Deadline::now() < due;
        if early {
            self.retry_at = Some(due);
        }
        early
    }

    /// Removes stale flows at once, unless that took much time lately: each time, the kernel looks through its whole
    /// table, and in the long run that is not to take more than a hundredth of a processor.
    fn clean_if_due(&mut self) {
        let now = Deadline::now();
        if !self.parts.engine.owes_cleaning() || now < self.clean_at {
            return;
        }
        let outcome = self.parts.engine.clean_conntrack();
        let pause = match &outcome {
            Ok((_, took)) => self.cleaning.spend(now.into_std(), *took),
            Err(_) => LONGEST_PAUSE,
        };
        self.clean_at = now + pause;
        self.parts.observer.cleaned(&outcome);
    }

    fn after_first_sync(&mut self) {
        if let Some(work) = self.parts.after_first_sync.take() {
            tokio::task::spawn_blocking(work);
        }
    }

    fn answer(&mut self, query: Query) {
        let parts = &mut self.parts;
        if let Query::Measure(done) = query {
            parts.observer.measure(&parts.engine);
            // Whoever asked may have gone away in the meantime.
            return done.send(()).unwrap_or_default();
        }
        let AgentParts { engine, observer, classes, running, kernel_notes, .. } = parts;
        let kernel_notes = kernel_notes.get().map_or(&[][..], Vec::as_slice);
        Answers { engine, observer, classes, running, kernel_notes }.answer(query);
    }
}
