//! From values to places, and round numbers to label.

use crate::bench::figure::Unit;
use crate::bench::show::tick;

/// A scale is logarithmic where values lie further apart than this.
const WIDE: f64 = 6.0;
/// About so many labels.
const LABELS: f64 = 6.0;

/// One axis.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::bench::report) struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    /// Labelled values.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis for values: from 0 on, or logarithmic where they lie far apart.
    pub(in crate::bench::report) fn fitting(unit: Unit, values: impl Iterator<Item = f64> + Clone) -> Self {
        let high = values.clone().fold(0.0, f64::max);
        let low = values.filter(|value| *value > 0.0).fold(high, f64::min);
        if low > 0.0 && high / low > WIDE {
            Self::logarithmic(unit, low, high)
        } else {
            Self::linear(unit, high)
        }
    }

    /// From 0 to a bit more than `high`.
    pub(in crate::bench::report) fn linear(unit: Unit, high: f64) -> Self {
        let high = if high > 0.0 { high * 1.05 } else { 1.0 };
        let step = round_step(high / LABELS / base(unit)) * base(unit);
        let ticks = (0_u8..20).map(|number| f64::from(number) * step).take_while(|value| *value <= high);
        let ticks = ticks.map(|value| (value, tick(unit, value))).collect();
        Self { low: 0.0, high, logarithmic: false, ticks }
    }

    /// A bit more than from `low` to `high`, both above 0.
    fn logarithmic(unit: Unit, low: f64, high: f64) -> Self {
        let (low, high) = (low / 1.15, high * 1.15);
        let decades = (high / low).log10();
        let steps: &[f64] = match decades {
            few if few < 2.2 => &[1.0, 2.0, 5.0],
            some if some < 3.5 => &[1.0, 3.0],
            _ => &[1.0],
        };
        #[expect(clippy::cast_possible_truncation, reason = "exponents of values that were measured")]
        let exponents = (low / base(unit)).log10().floor() as i32..=(high / base(unit)).log10().ceil() as i32;
        let round = exponents.flat_map(|exponent| steps.iter().map(move |step| step * 10_f64.powi(exponent)));
        let all = round.map(|value| value * base(unit));
        let ticks = all.filter(|value| (low..=high).contains(value)).map(|value| (value, tick(unit, value)));
        Self { low, high, logarithmic: true, ticks: ticks.collect() }
    }

    /// A logarithmic axis with a label at each of `values`, all above 0.
    pub(in crate::bench::report) fn at(values: &[(f64, String)]) -> Self {
        let low = values.iter().map(|(value, _)| *value).fold(f64::INFINITY, f64::min);
        let high = values.iter().map(|(value, _)| *value).fold(0.0, f64::max);
        let room = (high / low).powf(0.05).max(1.1);
        Self { low: low / room, high: high * room, logarithmic: true, ticks: values.to_vec() }
    }

    /// A linear axis for ratios, with 1 on it: no further up than `most`.
    pub(in crate::bench::report) fn ratios(values: impl Iterator<Item = f64> + Clone, most: f64) -> Self {
        let within = values.filter(|value| *value <= most);
        let low = within.clone().fold(1.0, f64::min);
        let high = within.fold(1.0, f64::max);
        let room = (0.06 * (high - low)).max(0.01);
        let (low, high) = (low - room, high + room);
        let step = round_step((high - low) / LABELS);
        let first = (low / step).ceil();
        let ticks = (0_u8..20).map(|number| (first + f64::from(number)) * step);
        let ticks = ticks.take_while(|value| *value <= high).map(|value| (value, tick(Unit::Ratio, value)));
        Self { low, high, logarithmic: false, ticks: ticks.collect() }
    }

    /// A linear axis between the first and the last of labelled values.
    pub(in crate::bench::report) fn between(ticks: Vec<(f64, String)>, high: f64) -> Self {
        let low = ticks.first().map_or(0.0, |(value, _)| *value);
        Self { low, high, logarithmic: false, ticks }
    }

    /// In words, if there is something to say.
    pub(super) const fn scale(&self) -> &'static str {
        if self.logarithmic { "log scale" } else { "" }
    }

    /// Where a value is: 0 at the beginning, 1 at the end. What lies before the beginning is there.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        place.max(0.0)
    }
}

/// What round numbers are multiples of.
const fn base(unit: Unit) -> f64 {
    if matches!(unit, Unit::Bytes) { 1_048_576.0 } else { 1.0 }
}

/// 1, 2 or 5 of the decade, at least `step`.
fn round_step(step: f64) -> f64 {
    let decade = 10_f64.powf(step.log10().floor());
    let fitting = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * decade >= step * 0.999);
    fitting.unwrap_or(10.0) * decade
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn values_close_together_are_seen_from_zero() {
        let axis = Axis::fitting(Unit::Nanoseconds, [11_000.0, 19_000.0].into_iter());
        assert_eq!(labels(&axis), ["0 ns", "5 µs", "10 µs", "15 µs"]);
        assert!(axis.place(0.0).abs() < 1e-9 && axis.place(19_000.0) < 1.0);
    }

    #[test]
    fn values_far_apart_are_seen_on_a_logarithmic_scale() {
        let axis = Axis::fitting(Unit::Nanoseconds, [11_000.0, 600_000.0].into_iter());
        assert_eq!(labels(&axis), ["10 µs", "20 µs", "50 µs", "100 µs", "200 µs", "500 µs"]);
        let (low, middle, high) = (axis.place(11_000.0), axis.place(81_240.0), axis.place(600_000.0));
        assert!((middle - low - (high - middle)).abs() < 1e-3);
        assert_eq!(axis.scale(), "log scale");
    }

    #[test]
    fn nothing_measured_is_an_axis_all_the_same() {
        assert!(!Axis::fitting(Unit::Count, std::iter::empty()).ticks.is_empty());
        assert!(!Axis::fitting(Unit::Count, [0.0, 0.0].into_iter()).ticks.is_empty());
    }

    #[test]
    fn memory_is_labelled_in_whole_mebibytes() {
        let values = |high| [18e6, high].into_iter();
        assert_eq!(labels(&Axis::fitting(Unit::Bytes, values(150e6))), ["20 MiB", "50 MiB", "100 MiB"]);
        assert_eq!(labels(&Axis::fitting(Unit::Bytes, values(30e6)))[1], "10 MiB");
    }

    #[test]
    fn ratios_are_seen_around_one() {
        let axis = Axis::ratios([1.01, 1.38, 1.44, 121.0].into_iter(), 2.0);
        assert_eq!(labels(&axis), ["1", "1.1", "1.2", "1.3", "1.4"]);
        assert!(axis.place(121.0) > 1.0);
        assert_eq!(labels(&Axis::ratios([1.0].into_iter(), 2.0)).len(), 5);
    }

    #[test]
    fn zero_has_a_place_on_a_logarithmic_scale() {
        let axis = Axis::fitting(Unit::Nanoseconds, [0.0, 1e3, 1e6].into_iter());
        assert!(axis.place(0.0).abs() < 1e-9);
    }
}
