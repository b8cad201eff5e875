//! One result.

use serde::{Deserialize, Serialize};

use super::goal::{Goal, Subject, Verdict};
use super::samples::Samples;
use super::statistics::interval;
pub(super) use super::statistics::median;

/// A ratio to another lane whose median is less sure than this, relative to itself, says little: width of the interval.
const NOISY_RATIO: f64 = 0.10;
/// The same of other values, which carry whatever else the machine does.
const NOISY_VALUE: f64 = 0.30;

/// What a figure is of. Unique in a report; reports are compared by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// `control plane`, `datapath` or `per packet`.
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
    /// Packets per second.
    PacketsPerSecond,
    /// Payload, in bits per second.
    BitsPerSecond,
    /// A number of things.
    Count,
    /// A number without unit.
    Ratio,
}

impl Unit {
    /// Whether smaller values are better.
    pub const fn less_is_better(self) -> bool {
        !matches!(self, Self::PerSecond | Self::PacketsPerSecond | Self::BitsPerSecond)
    }
}

/// A value taken relative to another lane in the same round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// Median over the rounds.
    pub median: f64,
    /// Smallest and largest round.
    pub range: (f64, f64),
    /// Where the true median lies, in all likelihood: see [`Figure::interval`].
    pub interval: (f64, f64),
}

impl Ratio {
    /// Round by round: `own` divided by `other`, both in the order of the rounds.
    pub(super) fn between(own: &[f64], other: &[f64]) -> Self {
        let ratios: Vec<f64> = own.iter().zip(other).map(|(own, other)| own / other).collect();
        let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let median = median(&ratios);
        Self { median, range: (low, high), interval: interval(&ratios).unwrap_or((median, median)) }
    }

    /// Whether the rounds are so far apart that the median means little.
    pub fn is_noisy(&self) -> bool {
        self.interval.1 - self.interval.0 > NOISY_RATIO * self.median
    }

    /// Whether the two lanes cannot be told apart.
    pub fn is_even(&self) -> bool {
        self.interval.0 <= 1.0 && 1.0 <= self.interval.1
    }
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
    /// The medians of each round (or of equal parts of the samples), in order; one, where there are no rounds.
    pub rounds: Vec<f64>,
    /// Where the true median of the rounds lies, in all likelihood; `None` for a single round.
    pub interval: Option<(f64, f64)>,
    /// Relative to `direct`.
    pub ratio: Option<Ratio>,
    /// Relative to kube-proxy's nftables mode: the program where it was given, else its layout.
    pub peer: Option<Ratio>,
    /// Relative to the least that such a lane costs: `conntrack` where it cannot do without connection tracking, `empty tcx
    /// programs` for others with programs on every interface.
    #[serde(default)]
    pub floor: Option<Ratio>,
    /// What has to be known of this figure alone: how it was taken, what the machine was busy with.
    #[serde(default)]
    pub conditions: String,
    /// Quantiles and values, for plots.
    pub distribution: Vec<(f64, f64)>,
    /// What should be reached.
    pub goals: Vec<Goal>,
    /// Whether rounds are too far apart for the figure to say much.
    pub noisy: bool,
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
            interval: None,
            ratio: None,
            peer: None,
            floor: None,
            conditions: String::new(),
            distribution: Vec::new(),
            goals: Vec::new(),
            noisy: false,
        }
    }

    /// Median and 99th percentile of durations.
    pub(super) fn durations(key: Key, samples: &Samples) -> Self {
        let median = samples.quantile(0.5);
        let parts = samples.parts();
        Self {
            p99: Some(samples.quantile(0.99)),
            samples: samples.count(),
            rounds: if parts.is_empty() { vec![median] } else { parts },
            distribution: samples.distribution(),
            ..Self::single(key, Unit::Nanoseconds, median)
        }
    }

    /// The median of rounds, each with one value.
    pub(super) fn rounds(key: Key, unit: Unit, rounds: Vec<f64>) -> Self {
        let samples = u64::try_from(rounds.len()).unwrap_or(u64::MAX);
        let value = median(&rounds);
        Self { samples, rounds, ..Self::single(key, unit, value) }
    }

    /// Works out what follows from rounds and ratios: how sure it is, and what becomes of `goals`.
    pub(super) fn judge(&mut self, goals: Vec<Goal>) {
        self.interval = self.interval.or_else(|| interval(&self.rounds));
        self.noisy = match (self.ratio, self.interval) {
            (Some(ratio), _) => ratio.is_noisy(),
            (None, Some((low, high))) => high - low > NOISY_VALUE * self.value,
            (None, None) => false,
        };
        let judged = goals.into_iter().filter_map(|goal| {
            let (value, interval) = self.subject(goal.of)?;
            Some(goal.judged(value, interval, self.unit.less_is_better()))
        });
        self.goals = judged.collect();
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

    /// The worst of its goals; `None` without goals.
    pub fn verdict(&self) -> Option<Verdict> {
        self.goals.iter().map(|goal| goal.verdict).max()
    }

    /// What a goal may be about, and how sure that is.
    fn subject(&self, of: Subject) -> Option<(f64, Option<(f64, f64)>)> {
        let relative = |ratio: Ratio| (ratio.median, Some(ratio.interval));
        match of {
            Subject::Value => Some((self.value, self.interval)),
            Subject::P99 => self.p99.map(|p99| (p99, None)),
            Subject::Direct => self.ratio.map(relative),
            Subject::Floor => self.floor.map(relative),
            Subject::Peer => self.peer.map(relative),
        }
    }
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
    fn spread_is_relative_to_the_value() {
        let several = Figure { rounds: vec![9.0, 10.0, 12.0], ..figure(Unit::Nanoseconds, 10.0) };
        assert_eq!(several.spread(), Some(0.3));
        assert_eq!(figure(Unit::Nanoseconds, 10.0).spread(), None);
    }

    #[test]
    fn a_missed_tail_misses_the_goal() {
        let mut figure = Figure { p99: Some(30.0), ..figure(Unit::Nanoseconds, 4.0) };
        figure.judge(vec![Goal::new(Subject::Value, 5.0), Goal::new(Subject::P99, 20.0)]);
        assert_eq!(figure.verdict(), Some(Verdict::Missed));
    }

    #[test]
    fn a_goal_within_the_noise_is_open() {
        let mut figure = figure(Unit::Nanoseconds, 9000.0);
        figure.ratio = Some(Ratio::between(&[1.04, 1.06, 1.05, 1.01, 1.07], &[1.0; 5]));
        figure.judge(vec![Goal::new(Subject::Direct, 1.02)]);
        assert_eq!(figure.verdict(), Some(Verdict::Open));
        figure.judge(vec![Goal::new(Subject::Direct, 1.10)]);
        assert_eq!(figure.verdict(), Some(Verdict::Met));
        figure.judge(vec![Goal::new(Subject::Direct, 1.0)]);
        assert_eq!(figure.verdict(), Some(Verdict::Missed));
    }

    #[test]
    fn a_goal_about_something_that_was_not_measured_is_left_out() {
        let mut figure = figure(Unit::Nanoseconds, 9000.0);
        figure.judge(vec![Goal::new(Subject::Peer, 1.0)]);
        assert_eq!(figure.verdict(), None);
    }

    #[test]
    fn rounds_far_apart_make_a_figure_noisy() {
        let mut calm = Figure::rounds(figure(Unit::Count, 0.0).key, Unit::PerSecond, vec![10.0, 10.2, 9.9]);
        calm.judge(Vec::new());
        assert!(!calm.noisy);
        let mut wild = Figure::rounds(calm.key.clone(), Unit::PerSecond, vec![10.0, 14.0, 8.0]);
        wild.judge(Vec::new());
        assert!(wild.noisy);
        wild.ratio = Some(Ratio::between(&wild.rounds, &[5.0, 7.0, 4.0]));
        wild.judge(Vec::new());
        assert!(!wild.noisy, "the ratio is steady although the values are not");
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        let ratio = Ratio::between(&[2.0, 30.0, 4.0], &[1.0, 10.0, 2.0]);
        assert_eq!((ratio.median, ratio.range), (2.0, (2.0, 3.0)));
        assert!(!ratio.is_even());
        assert!(Ratio::between(&[1.0, 1.1, 0.9], &[1.0; 3]).is_even());
    }
}
