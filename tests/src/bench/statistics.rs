//! What can be said of a few rounds: the middle, and how sure it is.

/// Quantiles lie this far outside of the interval at most, on either side together.
const DOUBT: f64 = 0.05;

/// The middle value; the mean of the two middle ones for an even number. 0 for none.
pub(super) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    if sorted.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle.saturating_sub(1)), at(middle)) }
}

/// Where the true median lies, with 95 % confidence: two of the values themselves, counted from both ends (the sign
/// test turned around), so nothing is assumed about their distribution and one odd round does no harm. Fewer than six
/// values cannot give that much confidence: then it is the least and the greatest. `None` for fewer than two.
pub(super) fn interval(values: &[f64]) -> Option<(f64, f64)> {
    let sorted = sorted(values);
    if sorted.len() < 2 {
        return None;
    }
    let cut = cut(sorted.len());
    Some((*sorted.get(cut)?, *sorted.get(sorted.len() - 1 - cut)?))
}

/// How many of so many values can be left out at each end.
fn cut(count: usize) -> usize {
    // Binomial coefficients over 2^count, summed up from the end.
    let exponent = i32::try_from(count).unwrap_or(i32::MAX);
    let mut term = 0.5_f64.powi(exponent);
    let mut tail = term;
    let mut cut = 0;
    for (number, left) in (1..=count).zip((1..=count).rev()) {
        #[expect(clippy::cast_precision_loss, reason = "numbers of rounds")]
        let factor = left as f64 / number as f64;
        term *= factor;
        tail += term;
        if 2.0 * tail > DOUBT || 2 * (number + 1) >= count {
            break;
        }
        cut = number;
    }
    cut
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Vec<f64>> {
        vec(0.001..1e9, 1..40)
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let is = |values: &[f64], expected: f64| assert!((median(values) - expected).abs() < 1e-9);
        is(&[4.0, 1.0, 3.0, 2.0], 2.5);
        is(&[3.0, 1.0, 2.0], 2.0);
        is(&[], 0.0);
    }

    #[test]
    fn as_many_rounds_are_left_out_as_tables_of_the_sign_test_say() {
        // Critical values of the two-sided sign test at 5 %.
        let table = [(2, 0), (5, 0), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (15, 3), (20, 5), (25, 7)];
        for (count, expected) in table {
            assert_eq!(cut(count), expected, "{count} values");
        }
    }

    #[test]
    fn one_odd_round_of_nine_does_not_widen_the_interval() {
        let calm = [1.00, 1.01, 1.02, 1.01, 1.00, 1.02, 1.01, 1.00, 1.01];
        let mut odd = calm;
        odd[3] = 9.0;
        assert_eq!(interval(&odd), Some((1.0, 1.02)));
        assert_eq!(interval(&[1.0]), None);
    }

    proptest! {
        #[test]
        fn half_of_the_values_lie_on_either_side_of_the_median(values in values()) {
            let median = median(&values);
            let below = values.iter().filter(|value| **value < median).count();
            let above = values.iter().filter(|value| **value > median).count();
            prop_assert!(2 * below <= values.len() && 2 * above <= values.len());
        }

        #[test]
        fn order_does_not_matter(values in values()) {
            let mut reversed = values.clone();
            reversed.reverse();
            prop_assert!(median(&values).total_cmp(&median(&reversed)).is_eq());
            prop_assert_eq!(interval(&values), interval(&reversed));
        }

        #[test]
        fn a_scale_scales_median_and_interval(values in values(), scale in 0.5_f64..4.0) {
            let scaled: Vec<f64> = values.iter().map(|value| value * scale).collect();
            prop_assert!((median(&scaled) - median(&values) * scale).abs() <= 1e-6 * median(&scaled));
            if let (Some(plain), Some(after)) = (interval(&values), interval(&scaled)) {
                prop_assert_eq!((plain.0 * scale, plain.1 * scale), after);
            }
        }

        #[test]
        fn the_median_lies_in_its_interval_and_that_between_the_extremes(values in vec(0.001..1e9, 2..40)) {
            let (low, high) = interval(&values).unwrap();
            let median = median(&values);
            prop_assert!(low <= median && median <= high);
            prop_assert!(values.iter().any(|value| *value <= low) && values.iter().any(|value| *value >= high));
        }

        #[test]
        fn a_constant_has_no_spread(value in 0.1..1e6, count in 2_usize..30) {
            prop_assert_eq!(interval(&vec![value; count]), Some((value, value)));
        }
    }
}
