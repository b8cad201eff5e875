//! What became of a number of requests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::names::Names;
use crate::lab::{Attempt, Outcome};

/// Counts by endpoint and source, and of what was not answered.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Answers by (endpoint, source it saw).
    pub(super) answers: BTreeMap<(IpAddr, IpAddr), usize>,
    /// Told at once that nobody is there.
    pub(super) refused: usize,
    /// No reply of any kind.
    pub(super) silent: usize,
    /// Anything else, in words.
    pub(super) failed: Vec<String>,
    /// The longest that any request took.
    pub(super) slowest: Duration,
}

impl FromIterator<Attempt> for Tally {
    fn from_iter<I: IntoIterator<Item = Attempt>>(attempts: I) -> Self {
        let mut tally = Self::default();
        for attempt in attempts {
            tally.slowest = tally.slowest.max(attempt.elapsed);
            tally.add(attempt.outcome);
        }
        tally
    }
}

impl Tally {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answer(answer) => match answer.problem {
                None => *self.answers.entry((answer.local.ip(), answer.peer.ip())).or_default() += 1,
                Some(problem) => self.failed.push(problem),
            },
            Outcome::Rejected(_) => self.refused += 1,
            Outcome::Timeout | Outcome::Denied => self.silent += 1,
            Outcome::Failed(error) => self.failed.push(error),
        }
    }

    /// Requests that were answered.
    pub(super) fn answered(&self) -> usize {
        self.answers.values().sum()
    }

    /// Requests that were not.
    pub(super) fn unanswered(&self) -> usize {
        self.refused + self.silent + self.failed.len()
    }

    /// Answers by endpoint.
    pub(super) fn endpoints(&self) -> BTreeMap<IpAddr, usize> {
        let mut counts = BTreeMap::new();
        for ((endpoint, _), count) in &self.answers {
            *counts.entry(*endpoint).or_default() += *count;
        }
        counts
    }

    /// `a-1 x13  b-1 x12`, with what was refused, dropped or failed.
    pub(super) fn outcome_words(&self, names: &Names) -> String {
        let mut words: Vec<String> = self
            .endpoints()
            .into_iter()
            .map(|(endpoint, count)| format!("{} x{count}", names.of(endpoint)))
            .collect();
        let others = [("refused", self.refused), ("dropped", self.silent), ("failed", self.failed.len())];
        words.extend(others.iter().filter(|(_, count)| *count > 0).map(|(what, count)| {
            if *what == "refused" {
                format!("refused x{count} (in {:.0?})", self.slowest)
            } else {
                format!("{what} x{count}")
            }
        }));
        words.extend(self.failed.first().map(|error| format!("({error})")));
        words.join("  ")
    }

    /// The sources the endpoints saw.
    pub(super) fn source_words(&self, names: &Names) -> String {
        let mut sources: Vec<IpAddr> = self.answers.keys().map(|(_, source)| *source).collect();
        sources.sort_unstable();
        sources.dedup();
        if sources.is_empty() {
            return "-".to_owned();
        }
        let words: Vec<String> = sources.into_iter().map(|source| names.with_address(source)).collect();
        words.join(", ")
    }
}
