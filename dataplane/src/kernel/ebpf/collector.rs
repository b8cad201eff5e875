//! Forgetting flows that are over or idle.

use shunt_abi::flow::MASQUERADED;

use super::chains::{self, Deed, Judged};
use super::established::{Drift, Established};
use super::flows::{Key, State};
use super::map::{MapError, TypedMap};
use super::patience::Judge;
use crate::domain::IpFamily;

/// What a look through a map found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Established flows that stay.
    pub(super) established: u64,
    /// Half-open flows that stay.
    pub(super) half_open: u64,
    /// Of both, those that are masqueraded.
    pub(super) masqueraded: u64,
    /// Elements that stay, also those of no flow.
    pub(super) elements: u64,
    /// Flows that were removed.
    pub(super) removed: u64,
    /// Of them, those that were established.
    pub(super) ended: u64,
}

impl Found {
    fn keep(&mut self, state: &State) {
        self.elements += 1;
        if state.is_vacant() || state.is_alias() {
            return;
        }
        *(if state.is_established() { &mut self.established } else { &mut self.half_open }) += 1;
        self.masqueraded += u64::from(state.flags & MASQUERADED != 0);
    }

    fn remove(&mut self, state: &State) {
        if state.is_vacant() || state.is_alias() {
            return;
        }
        self.removed += 1;
        self.ended += u64::from(state.is_established());
    }
}

/// What is known of a family's flows from one look to the next.
#[derive(Debug)]
pub(super) struct Census {
    family: IpFamily,
    drift: Drift,
}

impl Census {
    pub(super) fn new(family: IpFamily) -> Self {
        Self { family, drift: Drift::default() }
    }

    /// Removes what is over, and keeps the number of established flows right.
    pub(super) fn look<K: Key>(
        &mut self,
        map: &TypedMap<K, K::Value>,
        established: &Established,
        judge: &Judge,
    ) -> Result<Found, MapError> {
        let mut found = Found::default();
        let before = established.read(self.family);
        let outcome = collect(map, judge, &mut found);
        let after = established.read(self.family);
        let number = |flows: u64| i64::try_from(flows).unwrap_or(i64::MAX);
        let ended = number(found.ended);
        established.add(self.family, -ended);
        outcome?;
        let off = self.drift.correction([before - ended, after - ended], number(found.established));
        if off != 0 {
            tracing::debug!(family = %self.family, off, "the number of established flows is corrected");
            established.add(self.family, off);
        }
        Ok(found)
    }
}

/// Removes what is over. What was found until then is told also if that fails.
fn collect<K: Key>(map: &TypedMap<K, K::Value>, judge: &Judge, found: &mut Found) -> Result<(), MapError> {
    let mut company = Vec::new();
    let mut outcome = Ok(());
    map.visit(&mut |elements| {
        for (key, value) in elements {
            let state = K::state(value);
            if chains::has_company(key, &state) {
                company.push((*key, state));
                continue;
            }
            let deed = if judge.is_over(key.protocol(), &state) { Deed::Delete } else { Deed::Keep };
            let done = carry_out(map, &Judged { key: *key, state, deed }, found);
            outcome = std::mem::replace(&mut outcome, Ok(())).and(done);
        }
    })?;
    for judged in chains::judge(&company, judge) {
        outcome = outcome.and(carry_out(map, &judged, found));
    }
    outcome
}

/// Does what was decided of an element, unless it has changed meanwhile.
fn carry_out<K: Key>(
    map: &TypedMap<K, K::Value>,
    judged: &Judged<K>,
    found: &mut Found,
) -> Result<(), MapError> {
    let Judged { key, state, deed } = judged;
    let outcome = match deed {
        Deed::Keep => Ok(Deed::Keep),
        Deed::Delete | Deed::Vacate => remove(map, key, state),
    };
    if !matches!(outcome, Ok(Deed::Keep) | Err(_)) {
        found.remove(state);
    }
    match outcome {
        Ok(Deed::Delete) => {}
        Ok(Deed::Vacate) => found.elements += 1,
        Ok(Deed::Keep) | Err(_) => found.keep(state),
    }
    outcome.map(drop)
}

/// Removes an element, or, where others follow it, makes it nobody's; what of these was done. One that is not as it was
/// before stays.
pub(super) fn remove<K: Key>(map: &TypedMap<K, K::Value>, key: &K, state: &State) -> Result<Deed, MapError> {
    let Some(value) = map.get(key)?.filter(|value| K::state(value) == *state) else { return Ok(Deed::Keep) };
    let is_followed = state.has_more() && map.get(&key.in_slot(key.slot() + 1))?.is_some();
    let is_done = match is_followed {
        false => map.delete(key)?,
        true if state.is_vacant() => false,
        true => map.replace(key, &K::with_state(&value, state.vacated()))?,
    };
    Ok(match (is_done, is_followed) {
        (false, _) => Deed::Keep,
        (true, false) => Deed::Delete,
        (true, true) => Deed::Vacate,
    })
}

#[cfg(test)]
mod tests;
