//! Who has a frontend that more than one Service claims: the oldest.

use std::collections::{BTreeMap, HashMap};

use super::Frontend;
use crate::domain::ServiceName;

/// A Service in the order of precedence: `metadata.creationTimestamp` (seconds), then name.
pub(super) type Seniority = (i64, ServiceName);

/// The claims on disputed frontends. Those with a sole claimant are not here: the table says whose they are.
#[derive(Debug, Default)]
pub(super) struct Disputes {
    /// Sorted, the owner first; at least two.
    several: HashMap<Frontend, Vec<Seniority>>,
}

impl Disputes {
    /// All claimants, the owner first. `sole` is who has the frontend while nobody disputes that.
    pub(super) fn claimants(
        &self,
        frontend: &Frontend,
        sole: impl FnOnce() -> Option<Seniority>,
    ) -> Vec<Seniority> {
        self.several.get(frontend).cloned().unwrap_or_else(|| sole().into_iter().collect())
    }

    /// Replaces the claimants.
    pub(super) fn set(&mut self, frontend: Frontend, claimants: Vec<Seniority>) {
        if claimants.len() > 1 {
            self.several.insert(frontend, claimants);
        } else {
            self.several.remove(&frontend);
        }
    }

    /// Every claim that lost: frontend, owner, loser. In no particular order.
    pub(super) fn losers(&self) -> impl Iterator<Item = (&Frontend, &ServiceName, &ServiceName)> {
        let split = self.several.iter().filter_map(|(frontend, claimants)| {
            let (owner, losers) = claimants.split_first()?;
            Some((frontend, owner, losers))
        });
        split.flat_map(|(frontend, owner, losers)| {
            losers.iter().map(move |loser| (frontend, &owner.1, &loser.1))
        })
    }
}

/// The claims that one update touches, sorted by frontend.
pub(super) type Touched = BTreeMap<Frontend, Vec<Seniority>>;

/// Adds a claim, if it is not there.
pub(super) fn join(claimants: &mut Vec<Seniority>, claimant: Seniority) {
    if let Err(index) = claimants.binary_search(&claimant) {
        claimants.insert(index, claimant);
    }
}

/// Withdraws a claim.
pub(super) fn leave(claimants: &mut Vec<Seniority>, claimant: &Seniority) {
    claimants.retain(|other| other != claimant);
}
