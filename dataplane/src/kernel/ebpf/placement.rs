//! Where the pools of a Service port are in the array of pools.

use std::ops::Range;
use std::time::Instant;

use super::service::Resources;
use super::write::{Step, Writes};

/// A pool with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldPool {
    pub(super) ids: Vec<u32>,
    pub(super) range: Range<u32>,
}

/// Finding places for pools; those that are placed already are shared.
#[derive(Debug)]
pub(super) struct Placement<'a> {
    pub(super) held: &'a [HeldPool],
    pub(super) placed: Vec<HeldPool>,
    pub(super) resources: &'a mut Resources,
    pub(super) writes: &'a mut Writes,
    pub(super) now: Instant,
}

impl Placement<'_> {
    /// Where the backends are, or as many of them as there is room for.
    pub(super) fn place(&mut self, mut ids: Vec<u32>) -> Range<u32> {
        loop {
            if let Some(pool) = self.placed.iter().find(|pool| pool.ids == ids) {
                return pool.range.clone();
            }
            let pool = self.held.iter().find(|pool| pool.ids == ids).cloned().or_else(|| self.take(&ids));
            if let Some(pool) = pool {
                let range = pool.range.clone();
                self.placed.push(pool);
                return range;
            }
            // None at all always fit.
            ids.truncate(ids.len() / 2);
        }
    }

    fn take(&mut self, ids: &[u32]) -> Option<HeldPool> {
        let length = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let range = self.resources.pool.take(length, self.now)?;
        if length > 0 {
            self.writes.before.push(Step::Pool(range.start, ids.to_vec()));
        }
        Some(HeldPool { ids: ids.to_vec(), range })
    }
}
