//! Comparing what the maps hold with the model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use shunt_abi::name;

use super::adopt::Observed;
use super::known::Known;
use super::model::Model;
use super::write::SourceRange;
use crate::domain::IpFamily;

/// How many elements of a map are named.
const NAMED: usize = 3;

/// Elements that are missing, superfluous or different, by map.
#[derive(Debug, Default)]
pub(super) struct Differences(BTreeMap<&'static str, Differing>);

/// Those of one map.
#[derive(Debug, Default)]
struct Differing {
    number: usize,
    first: Vec<String>,
}

impl Differences {
    /// Between the model and what was read.
    pub(super) fn between(model: &Model, observed: &Observed) -> Self {
        let mut found = Self::default();
        let frontends: BTreeMap<_, _> = model.values().collect();
        found.compare(&frontends, &observed.frontends, |destination| {
            of_family(destination.address, [name::FRONTENDS4, name::FRONTENDS6])
        });
        found.compare(&model.backend_values().collect(), &observed.backends, |_| name::BACKENDS);
        let ranges: BTreeSet<SourceRange> = model.source_ranges().collect();
        let wanted = ranges.iter().map(|range| (*range, ())).collect();
        let present = observed.source_ranges.iter().map(|range| (*range, ())).collect();
        found.compare(&wanted, &present, |range| {
            of_family(range.range.addr(), [name::RANGES4, name::RANGES6])
        });
        for pool in model.services.values().flat_map(|service| &service.pools) {
            if observed.pool(&pool.range) != Some(pool.ids.as_slice()) {
                found.note(name::POOL, "other", &format_args!("{:?}", pool.range));
            }
        }
        found
    }

    /// Adds the words of the bitmaps that lack a bit which was set.
    pub(super) fn add_lost_bits(&mut self, set: &Known, found: &Known) {
        for (map, word) in set.lost(found) {
            self.note(map, "bits missing in", &word);
        }
    }

    /// Number of elements.
    pub(super) fn number(&self) -> usize {
        self.0.values().map(|differing| differing.number).sum()
    }

    /// Says of every map how many there are, and names some.
    pub(super) fn log(&self) {
        for (map, Differing { number, first }) in &self.0 {
            tracing::info!(map, elements = number, "elements differ: {}", first.join(", "));
        }
    }

    fn compare<K: Ord + fmt::Display, V: PartialEq>(
        &mut self,
        wanted: &BTreeMap<K, V>,
        found: &BTreeMap<K, V>,
        map: fn(&K) -> &'static str,
    ) {
        for (key, value) in wanted {
            match found.get(key) {
                None => self.note(map(key), "missing", key),
                Some(found) if found != value => self.note(map(key), "other", key),
                Some(_) => {}
            }
        }
        for key in found.keys().filter(|key| !wanted.contains_key(key)) {
            self.note(map(key), "superfluous", key);
        }
    }

    fn note(&mut self, map: &'static str, what: &str, element: &dyn fmt::Display) {
        let differing = self.0.entry(map).or_default();
        differing.number += 1;
        if differing.first.len() < NAMED {
            differing.first.push(format!("{what} {element}"));
        }
    }
}

fn of_family(address: IpAddr, [four, six]: [&'static str; 2]) -> &'static str {
    if IpFamily::of(address) == IpFamily::V4 { four } else { six }
}

#[cfg(test)]
impl Differences {
    /// One line a map, as they are logged.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |(map, differing): (&&str, &Differing)| {
            format!("{map} {}: {}", differing.number, differing.first.join(", "))
        };
        self.0.iter().map(line).collect()
    }
}
