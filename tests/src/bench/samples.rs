//! Durations, kept as a histogram of nanoseconds.

use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

/// Values are exact to three digits.
const DIGITS: u8 = 3;
/// Points of a distribution that go into the report.
const QUANTILES: [f64; 12] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0];

/// A histogram of durations.
#[derive(Debug, Clone)]
pub(super) struct Samples(Histogram<u64>);

impl Samples {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(Histogram::new(DIGITS).context("making a histogram")?))
    }

    /// Adds one. The histogram grows as needed.
    pub(super) fn add(&mut self, duration: Duration) -> Result<()> {
        let nanoseconds = u64::try_from(duration.as_nanos()).context("a duration out of range")?;
        self.0.record(nanoseconds).context("recording a duration")
    }

    /// Adds all of another's.
    pub(super) fn merge(&mut self, other: &Self) -> Result<()> {
        self.0.add(&other.0).context("joining histograms")
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// A quantile in nanoseconds; 0 without samples.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of this size are exact enough")]
    pub(super) fn quantile(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64
    }

    pub(super) fn distribution(&self) -> Vec<(f64, f64)> {
        QUANTILES.iter().map(|&quantile| (quantile, self.quantile(quantile))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_samples() {
        let mut samples = Samples::new().unwrap();
        (1..=1000).for_each(|micros| samples.add(Duration::from_micros(micros)).unwrap());
        assert!((samples.quantile(0.5) - 500_000.0).abs() < 1_000.0);
        assert!((samples.quantile(0.99) - 990_000.0).abs() < 2_000.0);
        assert_eq!(samples.count(), 1000);
    }
}
