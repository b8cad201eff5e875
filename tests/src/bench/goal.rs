//! What a figure should reach, and whether it does.

use serde::{Deserialize, Serialize};

use super::figure::Figure;
use super::show::show;

/// Which number of a figure a goal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The value itself.
    Value,
    /// Its 99th percentile.
    P99,
    /// The ratio to plain routing.
    Direct,
    /// The ratio to the least that such a lane costs.
    Floor,
    /// The ratio to kube-proxy's nftables mode.
    Peer,
}

/// What became of a goal, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Reached, whatever the noise.
    Met,
    /// It lies within the noise.
    Open,
    /// Not reached, whatever the noise.
    Missed,
}

impl Verdict {
    /// One character.
    pub(super) const fn mark(self) -> char {
        match self {
            Self::Met => '✓',
            Self::Open => '?',
            Self::Missed => '✗',
        }
    }

    /// One word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Open => "open",
            Self::Missed => "missed",
        }
    }
}

/// A goal: a number that should be at most this, or at least, where more is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// What it is about.
    pub of: Subject,
    /// The bound, in the unit of the figure; ratios without unit.
    pub bound: f64,
    /// What became of it.
    pub verdict: Verdict,
}

impl Goal {
    pub(super) const fn new(of: Subject, bound: f64) -> Self {
        Self { of, bound, verdict: Verdict::Open }
    }

    /// Judges by the interval the value lies in; by the value itself where none is known.
    pub(super) fn judged(self, value: f64, interval: Option<(f64, f64)>, less_is_better: bool) -> Self {
        let (low, high) = interval.unwrap_or((value, value));
        let (good, bad) = if less_is_better {
            (high <= self.bound, low > self.bound)
        } else {
            (low >= self.bound, high < self.bound)
        };
        let verdict = match (good, bad) {
            (true, _) => Verdict::Met,
            (_, true) => Verdict::Missed,
            (false, false) => Verdict::Open,
        };
        Self { verdict, ..self }
    }

    /// In words: what it is about, what was measured, what it should be.
    pub(super) fn words(&self, figure: &Figure) -> (&'static str, String, String) {
        let relative = matches!(self.of, Subject::Direct | Subject::Floor | Subject::Peer);
        let say = |value| if relative { format!("{value:.2}") } else { show(figure.unit, value) };
        let of = match self.of {
            Subject::Value if figure.p99.is_some() => "p50",
            Subject::Value => "value",
            Subject::P99 => "p99",
            Subject::Direct => "to direct",
            Subject::Floor => "to its floor",
            Subject::Peer => "to kube-proxy's nftables",
        };
        let measured = match self.of {
            Subject::Value => Some(figure.value),
            Subject::P99 => figure.p99,
            Subject::Direct => figure.ratio.map(|ratio| ratio.median),
            Subject::Floor => figure.floor.map(|floor| floor.median),
            Subject::Peer => figure.peer.map(|peer| peer.median),
        };
        let side = if figure.unit.less_is_better() { "at most" } else { "at least" };
        (of, measured.map(say).unwrap_or_default(), format!("{side} {}", say(self.bound)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(bound: f64, interval: Option<(f64, f64)>, less_is_better: bool) -> Verdict {
        Goal::new(Subject::Value, bound).judged(10.0, interval, less_is_better).verdict
    }

    #[test]
    fn less_has_to_be_at_most_the_bound_and_more_at_least() {
        assert_eq!(verdict(10.0, None, true), Verdict::Met);
        assert_eq!(verdict(9.9, None, true), Verdict::Missed);
        assert_eq!(verdict(10.1, None, false), Verdict::Missed);
        assert_eq!(verdict(10.0, None, false), Verdict::Met);
    }

    #[test]
    fn a_bound_inside_of_the_interval_leaves_it_open() {
        for less_is_better in [true, false] {
            assert_eq!(verdict(10.5, Some((9.0, 11.0)), less_is_better), Verdict::Open);
        }
        assert_eq!(verdict(11.0, Some((9.0, 11.0)), true), Verdict::Met);
        assert_eq!(verdict(8.0, Some((9.0, 11.0)), true), Verdict::Missed);
    }

    #[test]
    fn the_worst_verdict_is_the_greatest() {
        assert!(Verdict::Met < Verdict::Open && Verdict::Open < Verdict::Missed);
    }
}
