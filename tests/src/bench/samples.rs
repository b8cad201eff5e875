//! Durations, kept as a histogram of nanoseconds.

use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use super::statistics::median;

/// Values are exact to three digits.
const DIGITS: u8 = 3;
/// Points of a distribution that go into the report.
const QUANTILES: [f64; 22] = [
    0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99, 0.995, 0.998,
    0.999, 0.9999, 1.0,
];
/// Samples taken one after the other are cut into so many parts, as if they were rounds ...
const PARTS: usize = 5;
/// ... of at least so many.
const LEAST_IN_PART: usize = 5;

/// A histogram of durations, and the durations themselves in their order.
#[derive(Debug, Clone)]
pub(super) struct Samples {
    histogram: Histogram<u64>,
    in_order: Vec<u64>,
}

impl Samples {
    pub(super) fn new() -> Result<Self> {
        let histogram = Histogram::new(DIGITS).context("making a histogram")?;
        Ok(Self { histogram, in_order: Vec::new() })
    }

    /// Adds one. The histogram grows as needed.
    pub(super) fn add(&mut self, duration: Duration) -> Result<()> {
        let nanoseconds = u64::try_from(duration.as_nanos()).context("a duration out of range")?;
        self.in_order.push(nanoseconds);
        self.histogram.record(nanoseconds).context("recording a duration")
    }

    /// Adds all of another's.
    pub(super) fn merge(&mut self, other: &Self) -> Result<()> {
        self.in_order.extend(&other.in_order);
        self.histogram.add(&other.histogram).context("joining histograms")
    }

    pub(super) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// A quantile in nanoseconds; 0 without samples.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of this size are exact enough")]
    pub(super) fn quantile(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64
    }

    /// Quantiles and values, as far as there are samples for them: the last but one stands for at least one sample.
    pub(super) fn distribution(&self) -> Vec<(f64, f64)> {
        #[expect(clippy::cast_precision_loss, reason = "numbers of samples")]
        let count = self.count() as f64;
        let told = QUANTILES.iter().filter(|&&quantile| quantile >= 1.0 || (1.0 - quantile) * count >= 1.0);
        told.map(|&quantile| (quantile, self.quantile(quantile))).collect()
    }

    /// Medians of equal parts of the samples, in the order they were taken: how steady the median was. Empty where there
    /// are too few.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of this size are exact enough")]
    pub(super) fn parts(&self) -> Vec<f64> {
        let size = self.in_order.len() / PARTS;
        if size < LEAST_IN_PART {
            return Vec::new();
        }
        let parts = self.in_order.chunks_exact(size).take(PARTS);
        parts.map(|part| median(&part.iter().map(|value| *value as f64).collect::<Vec<_>>())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl Iterator<Item = u64>) -> Samples {
        let mut samples = Samples::new().unwrap();
        micros.for_each(|micros| samples.add(Duration::from_micros(micros)).unwrap());
        samples
    }

    #[test]
    fn quantiles_are_those_of_the_samples() {
        let samples = of(1..=1000);
        assert!((samples.quantile(0.5) - 500_000.0).abs() < 1_000.0);
        assert!((samples.quantile(0.99) - 990_000.0).abs() < 2_000.0);
        assert_eq!(samples.count(), 1000);
    }

    #[test]
    fn quantiles_that_no_sample_stands_for_are_left_out() {
        let last_two = |samples: &Samples| {
            samples.distribution().iter().rev().take(2).map(|(quantile, _)| *quantile).collect::<Vec<_>>()
        };
        assert_eq!(last_two(&of(1..=1000)), [1.0, 0.999]);
        assert_eq!(last_two(&of(1..=20)), [1.0, 0.95]);
        assert!(of(1..=60).distribution().is_sorted_by(|left, right| left.1 <= right.1));
    }

    #[test]
    fn parts_follow_the_order_of_the_samples() {
        assert_eq!(of(1..=25).parts(), [3e3, 8e3, 13e3, 18e3, 23e3]);
        assert_eq!(of(1..=24).parts(), [0.0; 0]);
    }

    #[test]
    fn joined_samples_have_all_of_both() {
        let mut all = of(1..=30);
        all.merge(&of(31..=60)).unwrap();
        assert_eq!(all.count(), 60);
        assert_eq!(all.parts().len(), 5);
    }
}
