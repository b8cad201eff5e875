//! What `reconcile` needs from a dataplane, whichever it is.

use std::fmt;
use std::sync::Arc;

use super::inspection::{Inspected, Inspection};
use crate::domain::{IpFamily, ServicePortName};
use crate::plan::{Changes, Frontend, Table};

/// A way of programming frontends into this node's kernel. Calls block for as long as the kernel takes.
pub trait Dataplane: Send + fmt::Debug {
    /// Brings the kernel to exactly `table`, whatever is there: reads what is programmed, writes the differences. Used at
    /// start, after a failure, and to repair drift. Client affinity already recorded in the kernel stays where the endpoint
    /// is still eligible.
    fn restore(&mut self, table: &Table) -> Result<Applied, DataplaneError>;

    /// Brings about `changes` at a cost in proportion to them: in one transaction a family, or (where the kernel has none)
    /// in an order in which packets meet the old or the new frontend, and nothing in between. Correct only after a
    /// successful `restore`; after an error the caller restores.
    fn apply(&mut self, changes: &Changes) -> Result<Applied, DataplaneError>;

    /// Compares the kernel with `table` without writing; the number of objects that differ (0: all is well).
    fn audit(&mut self, table: &Table) -> Result<usize, DataplaneError>;

    /// Removes everything that belongs to this dataplane. Nothing there is not an error.
    fn cleanup(&mut self) -> Result<(), DataplaneError>;

    /// Frontends that were in the kernel and that `restore` has removed since this was last asked: at start those whose
    /// Services went away while no agent ran. None where a dataplane cannot tell.
    fn withdrawn(&mut self) -> Vec<Frontend> {
        Vec::new()
    }

    /// Frontends that there is no room for (or not for all of their endpoints), and why; everything else is programmed.
    /// They come by themselves once there is room. `None` if nothing has changed since this was last asked.
    fn left_out(&mut self) -> Option<Vec<(Frontend, String)>> {
        None
    }

    /// Whether connection tracking translates flows to frontends, and so holds on to endpoints that are gone.
    fn needs_clean_conntrack(&self) -> bool {
        true
    }

    /// Objects programmed now, by kind (`chains`, `rules`, `elements`), for metrics and `shunt status`.
    fn programmed(&self) -> Vec<(&'static str, u64)>;

    /// What does not work on this kernel or with these settings, and what is done instead: a sentence each, for the status.
    fn shortcomings(&self) -> Vec<String> {
        Vec::new()
    }

    /// What is done that is not always done, because settings ask for it: a sentence each, for the status.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// What was counted in the kernel, for metrics; called when somebody looks. Nothing where the kernel counts nothing.
    fn observations(&self) -> Observations {
        Observations::default()
    }

    /// What the kernel itself holds for a destination, read now; and what becomes of a packet, if asked.
    fn inspect(&mut self, inspection: &Inspection) -> Result<Inspected, DataplaneError>;
}

/// What a dataplane has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observations {
    /// How often something happened to a packet or a socket.
    pub events: Vec<EventCount>,
    /// Tables of fixed size in the kernel whose entries are known without a walk: name, entries, and how many there may be.
    pub occupancy: Vec<(&'static str, u64, u64)>,
    /// Frontends that there is no room for, by the table that is full; tables that are not full are there with 0.
    pub left_out: Vec<(&'static str, u64)>,
    /// Flows that are followed, by family and state.
    pub flows: Vec<(IpFamily, &'static str, u64)>,
    /// Traffic of Service ports, where it is counted. A port that begins anew begins at 0.
    pub services: Vec<(Arc<ServicePortName>, Traffic)>,
}

/// What a Service port has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets, of both directions.
    pub packets: u64,
    /// Their bytes, link-layer headers included.
    pub bytes: u64,
    /// Connections (of datagrams: flows) that began.
    pub connections: u64,
}

/// How often something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventCount {
    /// What, in snake case.
    pub event: &'static str,
    /// It ended the packet's way.
    pub drops: bool,
    /// Since the kernel began to count.
    pub count: u64,
}

/// What a successful call wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Objects (elements, rules, chains, sets) added or replaced.
    pub written: u64,
    /// Objects removed.
    pub removed: u64,
}

/// Who has to act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Restore again after a while.
    Retry,
    /// Leave this frontend out and restore the rest.
    SkipFrontend(Frontend),
    /// It will never work on this kernel.
    Fatal,
}

/// Why a dataplane call failed; nothing of the failed transaction took effect.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The kernel refused what belongs to one frontend.
    #[error("the kernel refuses {frontend}: {operation}")]
    FrontendRefused {
        /// The frontend.
        frontend: Frontend,
        /// What was tried.
        operation: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused the transaction.
    #[error("transaction failed: {operation}")]
    Transaction {
        /// What was tried.
        operation: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The kernel lacks something that is needed.
    #[error("this kernel lacks {feature}")]
    Unsupported {
        /// What is missing.
        feature: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
}

impl DataplaneError {
    /// What the caller should do about it.
    pub const fn disposition(&self) -> Disposition {
        match self {
            Self::FrontendRefused { frontend, .. } => Disposition::SkipFrontend(*frontend),
            Self::Transaction { .. } => Disposition::Retry,
            Self::Unsupported { .. } => Disposition::Fatal,
        }
    }
}
