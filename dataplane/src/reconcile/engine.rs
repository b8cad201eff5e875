//! The state of the agent and what is done to it; no tasks, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::domain::{Cluster, Event, ObjectKind};
use crate::kernel::conntrack::{Conntrack, ConntrackError, UdpFrontend};
use crate::kernel::{Applied, Dataplane, DataplaneError, Disposition, Inspected, Inspection, Observations};
use crate::plan::{Changes, Frontend, Pending, PerFamily, PlanSettings, Planner};

/// How many frontends that the kernel refuses are left out in one sync before it is given up until the next.
const REFUSALS_PER_SYNC: usize = 256;

/// Owns the objects, the plan and the way into the kernel.
#[derive(Debug)]
pub struct Engine {
    cluster: Cluster,
    planner: Planner,
    pending: Pending,
    interface_addresses: BTreeSet<IpAddr>,
    synced: BTreeSet<ObjectKind>,
    required: BTreeSet<ObjectKind>,
    programmed: Programmed,
    refused: BTreeMap<Frontend, String>,
    /// Frontends that the dataplane has no room for, with its words. They stay in the plan.
    left_out: BTreeMap<Frontend, String>,
    stale: Stale,
    /// Frontends of the last agent that are gone and whose flows are not cleaned yet.
    withdrawn: BTreeSet<Frontend>,
    dataplane: Box<dyn Dataplane>,
    conntrack: Box<dyn Conntrack>,
}

/// How far the kernel can be relied on to be what we last made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Programmed {
    /// Unknown: the next sync restores.
    Unknown,
    /// As planned at the last sync.
    AsPlanned,
}

/// Conntrack entries that have to be looked through.
#[derive(Debug)]
enum Stale {
    /// All of them: at start.
    All,
    /// Those of these frontends.
    Of(BTreeMap<Frontend, UdpFrontend>),
}

/// What holds up the first sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Everything that is needed was listed.
    Ready,
    /// These kinds were not listed completely yet.
    WaitingFor(BTreeSet<ObjectKind>),
}

/// What a sync did.
#[derive(Debug)]
pub struct SyncReport {
    /// What was written to the kernel.
    pub applied: Applied,
    /// The whole state was compared and restored, not only changes applied.
    pub full: bool,
    /// Frontends that changed.
    pub frontends: usize,
    /// Time it took.
    pub took: Duration,
    /// Frontends that the kernel refused during this sync, or for which there is no room since, with its words.
    pub refused: Vec<(Frontend, String)>,
}

/// Why a sync did not reach its goal.
#[derive(Debug, thiserror::Error)]
pub enum SyncFailure {
    /// The dataplane failed; what is pending stays pending.
    #[error("programming the dataplane failed")]
    Dataplane {
        /// What happened.
        #[source]
        source: DataplaneError,
        /// It will never work.
        fatal: bool,
    },
}

impl Engine {
    /// An engine that knows nothing yet. `required` are the kinds whose complete list the first sync waits for.
    pub fn new(
        settings: PlanSettings,
        required: impl IntoIterator<Item = ObjectKind>,
        dataplane: Box<dyn Dataplane>,
        conntrack: Box<dyn Conntrack>,
    ) -> Self {
        Self {
            cluster: Cluster::default(),
            planner: Planner::new(settings),
            pending: Pending::everything(),
            interface_addresses: BTreeSet::new(),
            synced: BTreeSet::new(),
            required: required.into_iter().collect(),
            programmed: Programmed::Unknown,
            refused: BTreeMap::new(),
            left_out: BTreeMap::new(),
            stale: Stale::All,
            withdrawn: BTreeSet::new(),
            dataplane,
            conntrack,
        }
    }

    /// Takes in one event. Problems are the caller's to report.
    pub fn take(&mut self, event: Event) {
        if let Event::Synced(kind) = event {
            self.synced.insert(kind);
        } else {
            self.pending.add(self.cluster.apply(event));
        }
    }

    /// Takes in the addresses of this node's interfaces.
    pub fn set_interface_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        if self.interface_addresses != addresses {
            self.interface_addresses = addresses;
            self.pending.add_interface_addresses();
        }
    }

    /// Goes on without the complete list of this kind.
    pub fn stop_waiting_for(&mut self, kind: ObjectKind) {
        self.required.remove(&kind);
    }

    /// The next sync compares and restores everything.
    pub const fn distrust_kernel(&mut self) {
        self.programmed = Programmed::Unknown;
    }

    /// Whether syncs may begin. Nothing is removed from the kernel before everything was listed once.
    pub fn readiness(&self) -> Readiness {
        let missing: BTreeSet<_> = self.required.difference(&self.synced).copied().collect();
        if missing.is_empty() { Readiness::Ready } else { Readiness::WaitingFor(missing) }
    }

    /// Whether a sync would have something to do.
    pub fn has_work(&self) -> bool {
        !self.pending.is_empty() || self.programmed == Programmed::Unknown
    }

    /// Plans what changed and applies it. Call only when [`Readiness::Ready`].
    pub fn sync(&mut self, started: Instant) -> Result<SyncReport, SyncFailure> {
        let pending = self.pending.take();
        let changes = self.planner.update(&self.cluster, &self.interface_addresses, &pending);
        self.owe_cleaning(&changes);
        let skipped = self.planner.skipped();
        self.refused.retain(|frontend, _| skipped.contains_key(frontend));
        let full = self.programmed == Programmed::Unknown;
        let mut refused = Vec::new();
        let applied = self.program(&changes, &mut refused)?;
        self.note_withdrawn();
        // What others have left is looked through once in any case.
        if matches!(self.stale, Stale::Of(_)) && !self.dataplane.needs_clean_conntrack() {
            self.owe_no_cleaning();
        }
        self.note_left_out(&mut refused);
        let took = started.elapsed();
        Ok(SyncReport { applied, full, frontends: changes.frontends.len(), took, refused })
    }

    /// Counts the objects in the kernel that are not as planned. `Ok(None)` before the first sync and after failures.
    pub fn audit(&mut self) -> Result<Option<usize>, DataplaneError> {
        match self.programmed {
            Programmed::Unknown => Ok(None),
            Programmed::AsPlanned => self.dataplane.audit(self.planner.table()).map(Some),
        }
    }

    /// The objects.
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The plan.
    pub const fn planner(&self) -> &Planner {
        &self.planner
    }

    /// The plan, for those who drain its notes.
    pub const fn planner_mut(&mut self) -> &mut Planner {
        &mut self.planner
    }

    /// Frontends that the kernel refused, with its words.
    pub const fn refused(&self) -> &BTreeMap<Frontend, String> {
        &self.refused
    }

    /// Frontends that the dataplane has no room for, with its words.
    pub const fn left_out(&self) -> &BTreeMap<Frontend, String> {
        &self.left_out
    }

    /// Objects in the kernel by kind.
    pub fn programmed(&self) -> Vec<(&'static str, u64)> {
        self.dataplane.programmed()
    }

    /// What is done that is not always done, because settings ask for it.
    pub fn remarks(&self) -> Vec<String> {
        self.dataplane.remarks()
    }

    /// What does not work, and what is done instead.
    pub fn shortcomings(&self) -> Vec<String> {
        self.dataplane.shortcomings()
    }

    /// What the kernel has counted.
    pub fn observations(&self) -> Observations {
        self.dataplane.observations()
    }

    /// What the kernel itself holds for a destination.
    pub fn inspect(&mut self, inspection: &Inspection) -> Result<Inspected, DataplaneError> {
        self.dataplane.inspect(inspection)
    }

    /// Addresses of this node's interfaces.
    pub const fn interface_addresses(&self) -> &BTreeSet<IpAddr> {
        &self.interface_addresses
    }

    /// Applies or restores; frontends that the kernel refuses are left out, one after the other, so that one of them
    /// never stops the others.
    fn program(
        &mut self,
        changes: &Changes,
        refused: &mut Vec<(Frontend, String)>,
    ) -> Result<Applied, SyncFailure> {
        loop {
            match self.program_once(changes) {
                Ok(applied) => {
                    self.programmed = Programmed::AsPlanned;
                    return Ok(applied);
                }
                Err(source) => {
                    self.programmed = Programmed::Unknown;
                    match source.disposition() {
                        Disposition::SkipFrontend(frontend)
                            if refused.len() < REFUSALS_PER_SYNC && self.planner.skip(&frontend) =>
                        {
                            let words = error_chain(&source);
                            self.refused.insert(frontend, words.clone());
                            refused.push((frontend, words));
                        }
                        disposition => {
                            return Err(SyncFailure::Dataplane {
                                source,
                                fatal: disposition == Disposition::Fatal,
                            });
                        }
                    }
                }
            }
        }
    }

    fn program_once(&mut self, changes: &Changes) -> Result<Applied, DataplaneError> {
        match self.programmed {
            Programmed::Unknown => self.dataplane.restore(self.planner.table()),
            Programmed::AsPlanned if changes.is_empty() => Ok(Applied::default()),
            Programmed::AsPlanned => self.dataplane.apply(changes),
        }
    }

    /// Those that were not there before are reported.
    fn note_left_out(&mut self, report: &mut Vec<(Frontend, String)>) {
        let Some(found) = self.dataplane.left_out() else { return };
        let before = std::mem::replace(&mut self.left_out, found.into_iter().collect());
        let new = self.left_out.iter().filter(|(frontend, _)| !before.contains_key(frontend));
        report.extend(new.map(|(frontend, words)| (*frontend, words.clone())));
    }

    /// Frontends that go before all flows were looked through would not be known then.
    fn owe_cleaning(&mut self, changes: &Changes) {
        match &mut self.stale {
            Stale::All => {
                let gone = changes.frontends.iter().filter(|change| change.new.is_none());
                self.withdrawn.extend(gone.map(|change| change.frontend));
            }
            Stale::Of(frontends) => {
                let found = changes.frontends.iter().filter_map(UdpFrontend::of_change);
                frontends.extend(found.map(|udp| (udp.frontend, udp)));
            }
        }
    }

    /// Flows of Services that went away while no agent ran are known by what the last one had programmed.
    fn note_withdrawn(&mut self) {
        let withdrawn = self.dataplane.withdrawn();
        if matches!(self.stale, Stale::All) {
            self.withdrawn.extend(withdrawn);
        }
        let frontends = &self.planner.table().frontends;
        self.withdrawn.retain(|frontend| !frontends.contains_key(frontend));
    }

    fn owe_no_cleaning(&mut self) {
        self.stale = Stale::Of(BTreeMap::new());
        self.withdrawn.clear();
    }

    /// Whether connection tracking may hold flows to endpoints that went away. Cleaning waits for a sync that went
    /// through: the next packet of a deleted flow is translated by what is programmed then.
    pub fn owes_cleaning(&self) -> bool {
        self.programmed == Programmed::AsPlanned && self.stale.is_owed()
    }

    /// Removes stale flows; how many of each family, and the time it took. What fails stays owed.
    pub fn clean_conntrack(&mut self) -> Result<(PerFamily<u64>, Duration), ConntrackError> {
        let started = Instant::now();
        let table = self.planner.table();
        let outcome = match &self.stale {
            Stale::All => {
                let mut all = UdpFrontend::of_table(table);
                all.extend(self.withdrawn.iter().filter_map(|frontend| UdpFrontend::new(*frontend, None)));
                self.conntrack.clean_all(&all, &table.globals)
            }
            Stale::Of(frontends) => {
                let frontends: Vec<UdpFrontend> = frontends.values().cloned().collect();
                self.conntrack.clean(&frontends, &table.globals.node_port_addresses)
            }
        };
        if outcome.is_ok() {
            self.owe_no_cleaning();
        }
        outcome.map(|deleted| (deleted, started.elapsed()))
    }
}

impl Stale {
    fn is_owed(&self) -> bool {
        match self {
            Self::All => true,
            Self::Of(frontends) => !frontends.is_empty(),
        }
    }
}

/// An error with its sources, in one line.
pub(super) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
