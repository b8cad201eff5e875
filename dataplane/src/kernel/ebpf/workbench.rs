//! The model without maps, for benchmarks: from changes to the writes they take.

use std::time::{Duration, Instant};

use super::model::{Capacities, Model};
use super::ranges::GRACE;
use super::service::Surroundings;
use crate::plan::Changes;

/// Room for any number of Services that a benchmark may want.
const ROOM: Capacities = Capacities {
    backends: 1 << 20,
    pool: 1 << 22,
    services: 1 << 18,
    frontends: 1 << 20,
    source_ranges: 1 << 18,
};

/// A model whose writes go nowhere.
#[derive(Debug)]
pub struct Workbench {
    model: Model,
    now: Instant,
}

impl Workbench {
    /// Holds nothing; `now` is the time of the first change.
    pub fn new(now: Instant) -> Self {
        Self { model: Model::new(Surroundings::default(), ROOM, 1), now }
    }

    /// Works out the writes; how many objects they add and remove.
    ///
    /// Between two changes so much time passes that numbers may be given out again.
    pub fn apply(&mut self, changes: &Changes) -> (u64, u64) {
        self.now += GRACE + Duration::from_secs(1);
        let writes = self.model.apply(changes, self.now);
        std::hint::black_box(writes).sizes()
    }
}
