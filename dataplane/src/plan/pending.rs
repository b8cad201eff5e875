//! What has to be planned, collected over a few events.

use std::collections::BTreeSet;
use std::mem;

use crate::domain::{Dirty, ServiceName};

/// What has to be planned at the next [`super::Planner::update`]. Starts empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Every Service and the globals.
    pub all: bool,
    /// The globals.
    pub globals: bool,
    /// These Services.
    pub services: BTreeSet<ServiceName>,
}

impl Pending {
    /// Everything, as at start or when the configuration changed.
    pub fn everything() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Notes what an event affected.
    pub fn add(&mut self, dirty: Dirty) {
        match dirty {
            Dirty::Nothing => {}
            Dirty::Services(names) => self.services.extend(names),
            Dirty::AllServices => self.all = true,
            Dirty::Globals => self.globals = true,
        }
    }

    /// Notes that the addresses of this node's interfaces changed.
    pub const fn add_interface_addresses(&mut self) {
        self.globals = true;
    }

    /// Nothing to plan.
    pub fn is_empty(&self) -> bool {
        !self.all && !self.globals && self.services.is_empty()
    }

    /// What is noted so far, leaving nothing behind.
    #[must_use]
    pub fn take(&mut self) -> Self {
        mem::take(self)
    }
}
