//! What changed between two reports, beyond the noise of both.
//!
//! Where a figure has a ratio to plain routing in both, that is compared, for
//! it says the same on a busy machine and on an idle one; else the value
//! itself. A change is one if the intervals in which the two medians lie do
//! not meet *and* they are further apart than two runs of the same program
//! tend to be ([`FLOOR_RATIO`], [`FLOOR_VALUE`]). A value that was taken only
//! once has no interval: then [`LONE`] is assumed.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use crate::bench::figure::{Figure, Key, Ratio, Unit, median as middle};

/// Runs of the same program differ by this much in ratios although each run agrees with itself.
const FLOOR_RATIO: f64 = 0.02;
/// The same for values.
const FLOOR_VALUE: f64 = 0.10;
/// For values that were taken once in a run.
const LONE: f64 = 0.25;
/// Such values also differ by this much whatever their size: timers tick, pages are kept.
const LONE_TIME: f64 = 20e6;
const LONE_BYTES: f64 = 2.0 * 1024.0 * 1024.0;
/// A 99th percentile comes from few samples: it has to be this many times the other.
const TAIL: f64 = 2.0;
/// By the median of all figures of plain routing: a different machine, or one with other things to do.
const OTHER_MACHINE: f64 = 0.15;

/// Which number of two figures was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Basis {
    /// The ratio to plain routing.
    Ratio,
    /// The value.
    Value,
    /// The 99th percentile.
    P99,
}

/// A number and where it lies in all likelihood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    pub(super) value: f64,
    pub(super) interval: Option<(f64, f64)>,
}

/// A change beyond the noise.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) key: Key,
    pub(super) unit: Unit,
    pub(super) basis: Basis,
    pub(super) old: Measured,
    pub(super) new: Measured,
    /// Whether it is one for the worse.
    pub(super) worse: bool,
}

impl Change {
    /// Whether it is about shunt, and not about what it is compared with.
    pub(super) fn is_ours(&self) -> bool {
        self.key.lane.starts_with("shunt") || self.key.section == "per packet"
    }

    /// New divided by old; infinite from 0.
    pub(super) fn factor(&self) -> f64 {
        self.new.value / self.old.value
    }
}

/// All there is to say about two reports.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Comparison {
    /// Sorted: ours first, the worse first, then by size.
    pub(super) changes: Vec<Change>,
    /// Figures that are the same within the noise.
    pub(super) same: usize,
    /// Figures that are in one report only.
    pub(super) only_old: Vec<Key>,
    pub(super) only_new: Vec<Key>,
    /// Why the comparison may mislead.
    pub(super) remarks: Vec<String>,
}

impl Comparison {
    pub(super) fn of(old: &Report, new: &Report) -> Self {
        let (olds, news) = (by_key(old), by_key(new));
        let both: Vec<_> = olds.iter().filter_map(|(key, old)| Some((*old, *news.get(key)?))).collect();
        let comparable = both.iter().filter(|(old, new)| old.unit == new.unit);
        let mut changes: Vec<_> = comparable.flat_map(|(old, new)| changes(old, new)).collect();
        changes.sort_by(|left, right| {
            rank(left).cmp(&rank(right)).then_with(|| size(right).total_cmp(&size(left)))
        });
        let changed: BTreeSet<_> = changes.iter().map(|change| &change.key).collect();
        let other_units = both.iter().filter(|(old, new)| old.unit != new.unit);
        let mut remarks = remarks(old, new, &both);
        remarks.extend(other_units.clone().map(|(old, _)| {
            format!("{}, {}: counted in another unit now, not compared", old.key.measure, old.key.lane)
        }));
        let same = both.len() - changed.len() - other_units.count();
        let missing = |from: &BTreeMap<&Key, &Figure>, other: &BTreeMap<&Key, &Figure>| {
            from.keys().filter(|key| !other.contains_key(*key)).map(|key| (*key).clone()).collect()
        };
        Self { same, only_old: missing(&olds, &news), only_new: missing(&news, &olds), remarks, changes }
    }

    /// Whether something of ours got worse.
    pub(super) fn is_worse(&self) -> bool {
        self.changes.iter().any(|change| change.worse && change.is_ours())
    }
}

fn by_key(report: &Report) -> BTreeMap<&Key, &Figure> {
    report.figures.iter().map(|figure| (&figure.key, figure)).collect()
}

fn rank(change: &Change) -> (bool, bool) {
    (!change.is_ours(), !change.worse)
}

fn size(change: &Change) -> f64 {
    change.factor().ln().abs()
}

/// How a figure changed; none within the noise.
fn changes(old: &Figure, new: &Figure) -> Vec<Change> {
    let less = old.unit.less_is_better();
    let mut found = Vec::new();
    let (basis, before, after) = median(old, new);
    let differ = match basis {
        Basis::Ratio => differ(before, after, FLOOR_RATIO),
        _ => differ_as_values(old.unit, before, after),
    };
    if differ {
        found.push((basis, before, after));
    }
    if let (Some(before), Some(after)) = (old.p99, new.p99)
        && (after > before * TAIL || before > after * TAIL)
    {
        let lone = |value| Measured { value, interval: None };
        found.push((Basis::P99, lone(before), lone(after)));
    }
    let change = |(basis, before, after): (Basis, Measured, Measured)| Change {
        key: new.key.clone(),
        unit: new.unit,
        basis,
        old: before,
        new: after,
        worse: (after.value > before.value) == less,
    };
    found.into_iter().map(change).collect()
}

/// What to compare of two figures.
fn median(old: &Figure, new: &Figure) -> (Basis, Measured, Measured) {
    if let (Some(old), Some(new)) = (old.ratio, new.ratio) {
        let relative = |ratio: Ratio| Measured { value: ratio.median, interval: Some(ratio.interval) };
        return (Basis::Ratio, relative(old), relative(new));
    }
    let value = |figure: &Figure| Measured { value: figure.value, interval: figure.interval };
    (Basis::Value, value(old), value(new))
}

fn differ_as_values(unit: Unit, old: Measured, new: Measured) -> bool {
    if old.interval.is_some() && new.interval.is_some() {
        return differ(old, new, FLOOR_VALUE);
    }
    let least = match unit {
        Unit::Nanoseconds => LONE_TIME,
        Unit::Bytes => LONE_BYTES,
        _ => 0.0,
    };
    differ(old, new, LONE) && (old.value - new.value).abs() > least
}

/// Whether intervals do not meet, and values are further apart than `floor`, relative to the smaller one.
fn differ(old: Measured, new: Measured, floor: f64) -> bool {
    let interval = |of: Measured| of.interval.unwrap_or((of.value, of.value));
    let (old_interval, new_interval) = (interval(old), interval(new));
    let apart = old_interval.1 < new_interval.0 || new_interval.1 < old_interval.0;
    apart && (old.value - new.value).abs() > floor * old.value.abs().min(new.value.abs())
}

fn remarks(old: &Report, new: &Report, both: &[(&Figure, &Figure)]) -> Vec<String> {
    let mut remarks = Vec::new();
    let facts = [
        ("processor", &old.machine.cpu, &new.machine.cpu),
        ("kernel", &old.machine.kernel, &new.machine.kernel),
    ];
    for (name, old, new) in facts.into_iter().filter(|(_, old, new)| old != new) {
        remarks.push(format!("another {name}: {old} before, {new} now"));
    }
    let (was_quick, is_quick) = (old.conditions.quick, new.conditions.quick);
    if was_quick != is_quick {
        let word = |quick| if quick { "quick" } else { "full" };
        remarks.push(format!("a {} run before, a {} one now", word(was_quick), word(is_quick)));
    }
    let routing = both.iter().filter(|(old, _)| old.key.lane == "direct" && old.unit == Unit::Nanoseconds);
    let factors: Vec<f64> = routing.map(|(old, new)| new.value / old.value).collect();
    let factor = middle(&factors);
    if !factors.is_empty() && (factor - 1.0).abs() > OTHER_MACHINE {
        remarks.push(format!(
            "plain routing takes {factor:.2} times what it took: the machine was not the same, values that are \
             not ratios say little"
        ));
    }
    for (name, report) in [("old", old), ("new", new)] {
        remarks.extend(report.conditions.doubts.iter().map(|doubt| format!("{name} report: {doubt}")));
    }
    remarks
}

#[cfg(test)]
mod tests;
