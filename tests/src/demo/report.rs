//! What was claimed, and how much of it held.

/// Counts of the whole demo.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Requests sent.
    pub(super) requests: usize,
    held: usize,
    failures: Vec<String>,
}

impl Report {
    /// Notes a claim; returns whether it held.
    pub(super) fn claim(&mut self, held: bool, words: impl Into<String>) -> bool {
        if held {
            self.held += 1;
        } else {
            self.failures.push(words.into());
        }
        held
    }

    /// Claims that held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Claims that did not, in words.
    pub(super) fn failures(&self) -> &[String] {
        &self.failures
    }
}
