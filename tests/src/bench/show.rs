//! Numbers for people.

use super::figure::Unit;

/// A value with its unit, three digits.
pub(super) fn show(unit: Unit, value: f64) -> String {
    scaled(unit, value, digits)
}

/// The same for the label of an axis: no zeros behind the point.
pub(super) fn tick(unit: Unit, value: f64) -> String {
    scaled(unit, value, |value| {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    })
}

/// A ratio, as exactly as it is of interest.
pub(super) fn ratio(value: f64) -> String {
    if value < 9.9995 { format!("{value:.3}") } else { format!("{value:.1}") }
}

/// A number of services.
pub(super) fn services(count: usize) -> String {
    if count == 1 { "1 service".to_owned() } else { format!("{} services", grouped(count)) }
}

/// A whole number with its thousands apart.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn scaled(unit: Unit, value: f64, number: impl Fn(f64) -> String) -> String {
    let fitting = |steps: &[(f64, &str)]| {
        // What would be rounded up to 1000 belongs to the next step.
        let step = steps.iter().rev().find(|(size, _)| value.abs() >= *size * 0.9995).or(steps.first());
        step.map_or_else(String::new, |(size, name)| format!("{} {name}", number(value / size)))
    };
    match unit {
        Unit::Nanoseconds => fitting(&[(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")]),
        Unit::Bytes => {
            fitting(&[(1.0, "B"), (1024.0, "KiB"), (1_048_576.0, "MiB"), (1_073_741_824.0, "GiB")])
        }
        Unit::PerSecond => fitting(&[(1.0, "/s"), (1e3, "k/s"), (1e6, "M/s")]),
        Unit::PacketsPerSecond => fitting(&[(1.0, "pps"), (1e3, "kpps"), (1e6, "Mpps")]),
        Unit::BitsPerSecond => fitting(&[(1.0, "b/s"), (1e3, "kb/s"), (1e6, "Mb/s"), (1e9, "Gb/s")]),
        Unit::Count => format!("{value:.0}"),
        Unit::Ratio => number(value),
    }
}

fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_the_unit_that_fits() {
        assert_eq!(show(Unit::Nanoseconds, 4_200_000.0), "4.20 ms");
        assert_eq!(show(Unit::Nanoseconds, 0.0), "0.00 ns");
        assert_eq!(show(Unit::Nanoseconds, 999_990.0), "1.00 ms");
        assert_eq!(show(Unit::Bytes, 94_371_840.0), "90.0 MiB");
        assert_eq!(show(Unit::PerSecond, 23_456.0), "23.5 k/s");
        assert_eq!(show(Unit::BitsPerSecond, 17.2e9), "17.2 Gb/s");
        assert_eq!(show(Unit::PacketsPerSecond, 840_000.0), "840 kpps");
    }

    #[test]
    fn labels_of_axes_have_no_needless_digits() {
        assert_eq!(tick(Unit::Nanoseconds, 20_000.0), "20 µs");
        assert_eq!(tick(Unit::Nanoseconds, 2_500_000.0), "2.5 ms");
        assert_eq!(tick(Unit::Ratio, 1.05), "1.05");
        assert_eq!(tick(Unit::Count, 0.0), "0");
    }

    #[test]
    fn ratios_have_three_digits_as_long_as_they_are_small() {
        assert_eq!([1.0, 9.9994, 121.26].map(ratio), ["1.000", "9.999", "121.3"]);
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(
            ["1", "999", "1,000", "30,000", "1,234,567"],
            [1, 999, 1000, 30_000, 1_234_567].map(grouped)[..]
        );
    }
}
