//! A table without a kernel, for benchmarks: from changes to the messages they take.

use super::model::{Model, parts};
use super::operation::Transaction;
use super::settings::FamilySettings;
use super::table::FamilyTable;
use crate::domain::{IpFamily, LocalDetector};
use crate::plan::Changes;

const MARK: u32 = 1 << 14;

/// A table of IPv4 whose messages go nowhere.
#[derive(Debug)]
pub struct Workbench {
    model: Model,
    table: FamilyTable,
}

impl Workbench {
    /// An empty table.
    pub fn new() -> Self {
        let (family, detector) = (IpFamily::V4, LocalDetector::None);
        let settings = FamilySettings { family, detector, mark: MARK, masquerade_all: false };
        Self { model: Model::new(family), table: FamilyTable::new(settings) }
    }

    /// Works out and encodes the transaction; how many objects it adds and removes.
    pub fn apply(&mut self, changes: &Changes) -> (u64, u64) {
        let difference = self.model.change(changes.frontends.iter().map(parts), changes.globals.as_ref());
        let work = self.table.steps(difference);
        let transaction = Transaction::new(IpFamily::V4, work.required.iter().chain(&work.cleanup));
        std::hint::black_box(transaction);
        work.sizes()
    }
}

impl Default for Workbench {
    fn default() -> Self {
        Self::new()
    }
}
