//! Comparing what the maps hold with the model.

use std::collections::{BTreeMap, BTreeSet};

use super::adopt::Observed;
use super::model::Model;
use super::service::backend_value;
use super::write::SourceRange;

/// Elements that are missing, superfluous or different.
pub(super) fn differences(model: &Model, observed: &Observed) -> usize {
    let frontends: BTreeMap<_, _> = model.values().collect();
    let services = || model.services.values();
    let backends: BTreeMap<_, _> = services()
        .flat_map(|service| &service.backends)
        .map(|(socket, held)| (held.id.index, backend_value(*socket, *held)))
        .collect();
    let ranges = services().flat_map(|service| {
        service.source_ranges.iter().map(|range| SourceRange { service: service.id, range: *range })
    });
    let ranges: BTreeSet<_> = ranges.collect();
    let pools = services().flat_map(|service| &service.pools).filter(|pool| {
        let place = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        observed.pool.get(place(pool.range.start)..place(pool.range.end)).unwrap_or_default() != pool.ids
    });
    between(&frontends, &observed.frontends)
        + between(&backends, &observed.backends)
        + ranges.symmetric_difference(&observed.source_ranges).count()
        + pools.count()
}

/// Words of the bitmap that lack a bit which was set.
pub(super) fn lost_bits(set: &[u64], found: &[(u32, u64)]) -> usize {
    set.iter().zip(found).filter(|(set, (_, found))| *set & !found != 0).count()
}

fn between<K: Ord, V: PartialEq>(wanted: &BTreeMap<K, V>, found: &BTreeMap<K, V>) -> usize {
    let wrong = wanted.iter().filter(|(key, value)| found.get(key) != Some(value)).count();
    let superfluous = found.keys().filter(|key| !wanted.contains_key(key)).count();
    wrong + superfluous
}
