//! Who has a frontend that more than one Service claims.
//!
//! The oldest Service does, but nobody takes another's cluster IP by calling it an external address: who has it as
//! cluster IP goes first.

use std::collections::{BTreeMap, HashMap};

use super::{Frontend, FrontendKind};
use crate::domain::ServiceName;

/// A claimant, in the order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claimant {
    pub(super) standing: ClaimStanding,
    pub(super) service: ServiceName,
}

/// What decides between claimants before their names do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClaimStanding {
    by_external_address: bool,
    created: i64,
}

impl ClaimStanding {
    /// Of a Service created then (seconds since the epoch) that has the frontend as an address of that kind.
    pub(super) const fn new(kind: FrontendKind, created: i64) -> Self {
        Self { by_external_address: !matches!(kind, FrontendKind::ClusterIp), created }
    }
}

/// The claims on disputed frontends. Those with a sole claimant are not here: the table says whose they are.
#[derive(Debug, Default)]
pub(super) struct Disputes {
    /// Sorted, the owner first; at least two.
    several: HashMap<Frontend, Vec<Claimant>>,
}

impl Disputes {
    /// All claimants, the owner first. `sole` is who has the frontend while nobody disputes that.
    pub(super) fn claimants(
        &self,
        frontend: &Frontend,
        sole: impl FnOnce() -> Option<Claimant>,
    ) -> Vec<Claimant> {
        self.several.get(frontend).cloned().unwrap_or_else(|| sole().into_iter().collect())
    }

    /// Replaces the claimants.
    pub(super) fn set(&mut self, frontend: Frontend, claimants: Vec<Claimant>) {
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
            losers.iter().map(move |loser| (frontend, &owner.service, &loser.service))
        })
    }
}

/// The claims that one update touches, sorted by frontend.
pub(super) type Touched = BTreeMap<Frontend, Vec<Claimant>>;

/// Adds a claim, if it is not there.
pub(super) fn join(claimants: &mut Vec<Claimant>, claimant: Claimant) {
    if let Err(index) = claimants.binary_search(&claimant) {
        claimants.insert(index, claimant);
    }
}

/// Withdraws a claim.
pub(super) fn leave(claimants: &mut Vec<Claimant>, claimant: &Claimant) {
    claimants.retain(|other| other != claimant);
}
