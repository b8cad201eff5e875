//! One result.

use serde::{Deserialize, Serialize};

use super::samples::Samples;

/// What a figure is of. Unique in a report; reports are compared by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// `control plane` or `datapath`.
    pub section: String,
    /// What was measured, for example `one change, over the watch`.
    pub measure: String,
    /// Number of services, of two ports and two endpoints each.
    pub services: usize,
    /// The way traffic took, or who programmed it.
    pub lane: String,
}

/// What a value is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Bytes.
    Bytes,
    /// Transactions per second.
    PerSecond,
    /// A number of things.
    Count,
    /// A number without unit.
    Ratio,
}

impl Unit {
    /// Whether smaller values are better.
    pub const fn less_is_better(self) -> bool {
        !matches!(self, Self::PerSecond)
    }
}

/// A value taken relative to another lane in the same round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// Median over the rounds.
    pub median: f64,
    /// Smallest and largest round.
    pub range: (f64, f64),
}

/// One result with what is needed to judge it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is of.
    #[serde(flatten)]
    pub key: Key,
    /// What values are counted in.
    pub unit: Unit,
    /// The value: a median, where there are several samples.
    pub value: f64,
    /// 99th percentile of the samples.
    pub p99: Option<f64>,
    /// How many samples there are.
    pub samples: u64,
    /// The medians of each round, in order; one, where there are no rounds.
    pub rounds: Vec<f64>,
    /// Relative to `direct`.
    pub ratio: Option<Ratio>,
    /// Relative to kube-proxy's nftables mode: the program where it was given, else its layout.
    pub peer: Option<Ratio>,
    /// Relative to `conntrack`, for a lane that cannot do without connection tracking.
    #[serde(default)]
    pub floor: Option<Ratio>,
    /// What has to be known of this figure alone: how it was taken, what the machine was busy with.
    #[serde(default)]
    pub conditions: String,
    /// Quantiles and values, for plots.
    pub distribution: Vec<(f64, f64)>,
    /// What `value` (or `peer`, where there is one) should not be above, or below where more is better.
    pub target: Option<f64>,
    /// What `p99` should not be above.
    pub target_p99: Option<f64>,
}

impl Figure {
    /// A single value.
    pub(super) fn single(key: Key, unit: Unit, value: f64) -> Self {
        Self {
            key,
            unit,
            value,
            p99: None,
            samples: 1,
            rounds: vec![value],
            ratio: None,
            peer: None,
            floor: None,
            conditions: String::new(),
            distribution: Vec::new(),
            target: None,
            target_p99: None,
        }
    }

    /// Median and 99th percentile of durations.
    pub(super) fn durations(key: Key, samples: &Samples) -> Self {
        let median = samples.quantile(0.5);
        Self {
            p99: Some(samples.quantile(0.99)),
            samples: samples.count(),
            distribution: samples.distribution(),
            ..Self::single(key, Unit::Nanoseconds, median)
        }
    }

    /// How far the rounds lie apart, relative to the median: (largest − smallest) / median.
    pub fn spread(&self) -> Option<f64> {
        if self.rounds.len() < 2 || self.value == 0.0 {
            return None;
        }
        let low = self.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some((high - low) / self.value)
    }

    /// Whether the target is met; `None` where there is no target.
    pub fn meets_target(&self) -> Option<bool> {
        let target = self.target?;
        let measured = self.peer.map_or(self.value, |peer| peer.median);
        let tail = match (self.p99, self.target_p99) {
            (Some(p99), Some(target)) => p99 <= target,
            _ => true,
        };
        let within = if self.unit.less_is_better() { measured <= target } else { measured >= target };
        Some(within && tail)
    }
}

/// The middle value; the mean of the two middle ones for an even number. 0 for none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    if sorted.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(unit: Unit, value: f64) -> Figure {
        let text = String::new;
        let key = Key { section: text(), measure: text(), services: 1, lane: text() };
        Figure::single(key, unit, value)
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let is = |values: &[f64], expected: f64| assert!((median(values) - expected).abs() < 1e-9);
        is(&[4.0, 1.0, 3.0, 2.0], 2.5);
        is(&[3.0, 1.0, 2.0], 2.0);
        is(&[], 0.0);
    }

    #[test]
    fn spread_is_relative_to_the_value() {
        let several = Figure { rounds: vec![9.0, 10.0, 12.0], ..figure(Unit::Nanoseconds, 10.0) };
        assert_eq!(several.spread(), Some(0.3));
        assert_eq!(figure(Unit::Nanoseconds, 10.0).spread(), None);
    }

    #[test]
    fn the_peer_is_what_a_target_is_about_where_there_is_one() {
        let mut slow = Figure { target: Some(1.2), ..figure(Unit::Nanoseconds, 9000.0) };
        assert_eq!(slow.meets_target(), Some(false));
        slow.peer = Some(Ratio { median: 1.1, range: (1.0, 1.2) });
        assert_eq!(slow.meets_target(), Some(true));
        let rate = Figure { target: Some(5.0), ..figure(Unit::PerSecond, 6.0) };
        assert_eq!(rate.meets_target(), Some(true));
    }

    #[test]
    fn a_missed_tail_misses_the_target() {
        let figure = Figure {
            target: Some(5.0),
            p99: Some(30.0),
            target_p99: Some(20.0),
            ..figure(Unit::Nanoseconds, 4.0)
        };
        assert_eq!(figure.meets_target(), Some(false));
    }
}
