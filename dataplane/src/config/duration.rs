//! Go's `time.Duration`: how durations are written in flags and in the configuration file.
//!
//! The text forms are those of `time.ParseDuration` and `Duration.String`: `30s`, `1h30m`, `-1.5h`, `100ms`, `0`; written
//! back as `1h30m0s`. A number without a unit is an error (except `0`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const MICROSECOND: i64 = 1_000;
const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// A signed duration in nanoseconds, as Go has it. Zero and negative values can be read, so that validation can name
/// the field they are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(i64);

/// A text that is not a Go duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: {reason} (examples: 30s, 1h30m, 100ms)")]
pub struct DurationError {
    text: String,
    reason: &'static str,
}

impl GoDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// So many nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// So many milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(MILLISECOND))
    }

    /// So many seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(SECOND))
    }

    /// In nanoseconds.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// As a standard duration; a negative one becomes zero (validation has refused it where it matters).
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// As a standard duration, `None` if it is zero or negative: "leave it alone".
    pub fn positive(self) -> Option<Duration> {
        u64::try_from(self.0).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }

    /// This one, or `default` if this is zero: an absent field and `0s` mean the same to kube-proxy.
    #[must_use]
    pub fn or_default(self, default: Self) -> Self {
        if self == Self::ZERO { default } else { self }
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason| DurationError { text: text.to_owned(), reason };
        let (negative, magnitude) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if magnitude == "0" {
            return Ok(Self::ZERO);
        }
        if magnitude.is_empty() {
            return Err(error("it is empty"));
        }
        let mut rest = magnitude;
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let (nanos, after) = component(rest).map_err(error)?;
            total = total.checked_add(nanos).ok_or_else(|| error("it is too long"))?;
            rest = after;
        }
        let signed = if negative { -total } else { total };
        i64::try_from(signed).map(Self).map_err(|_out_of_range| error("it is too long"))
    }
}

/// One `NUMBER UNIT` at the head of `text`: its nanoseconds, and what follows.
fn component(text: &str) -> Result<(i128, &str), &'static str> {
    let number_length = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or("the unit is missing")?;
    let (number, rest) = text.split_at(number_length);
    let unit_length = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, after) = rest.split_at(unit_length);
    let scale = i128::from(unit_nanos(unit).ok_or("unknown unit")?);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err("a number is missing");
    }
    let whole = digits(whole)?.checked_mul(scale).ok_or("it is too long")?;
    Ok((whole + fraction_nanos(fraction, scale)?, after))
}

fn unit_nanos(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        // Both letters that look like a mu: U+00B5 and U+03BC.
        "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        _ => return None,
    })
}

fn digits(text: &str) -> Result<i128, &'static str> {
    if text.is_empty() {
        return Ok(0);
    }
    // Nineteen digits hold every i64; more can only be an overflow.
    if text.len() > 19 {
        return Err("it is too long");
    }
    text.parse().map_err(|_not_a_number| "the number is malformed")
}

/// `0.FRACTION` of `scale`, cut off below a nanosecond.
fn fraction_nanos(fraction: &str, scale: i128) -> Result<i128, &'static str> {
    // One nanosecond is the thirteenth decimal of an hour; what follows the eighteenth cannot matter.
    let significant = fraction.get(..fraction.len().min(18)).unwrap_or(fraction);
    if fraction.contains('.') {
        return Err("the number is malformed");
    }
    let power = u32::try_from(significant.len()).map_err(|_too_many| "it is too long")?;
    Ok(digits(significant)? * scale / 10_i128.pow(power))
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => decimal(f, nanos, 1_000, "\u{b5}s"),
            1_000_000..1_000_000_000 => decimal(f, nanos, 1_000_000, "ms"),
            _ => clock(f, nanos),
        }
    }
}

/// Hours, minutes and seconds of at least one second, leaving out leading units that are zero.
fn clock(f: &mut fmt::Formatter<'_>, nanos: u64) -> fmt::Result {
    let minute = MINUTE.unsigned_abs();
    let (hours, minutes) = (nanos / HOUR.unsigned_abs(), nanos / minute % 60);
    if hours > 0 {
        write!(f, "{hours}h")?;
    }
    if hours > 0 || minutes > 0 {
        write!(f, "{minutes}m")?;
    }
    decimal(f, nanos % minute, SECOND.unsigned_abs(), "s")
}

/// `nanos / unit` with as many decimals as it takes.
fn decimal(f: &mut fmt::Formatter<'_>, nanos: u64, unit: u64, suffix: &str) -> fmt::Result {
    let remainder = nanos % unit;
    write!(f, "{}", nanos / unit)?;
    if remainder > 0 {
        let width = usize::try_from(unit.ilog10()).unwrap_or(9);
        let padded = format!("{remainder:0width$}");
        write!(f, ".{}", padded.trim_end_matches('0'))?;
    }
    f.write_str(suffix)
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> GoDuration {
        text.parse().unwrap()
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("30s", 30 * SECOND),
            ("1h30m", HOUR + 30 * MINUTE),
            ("24h0m0s", 24 * HOUR),
            ("1.5h", HOUR + 30 * MINUTE),
            (".5s", SECOND / 2),
            ("5.s", 5 * SECOND),
            ("100ms", 100 * MILLISECOND),
            ("7us", 7 * MICROSECOND),
            ("7\u{b5}s", 7 * MICROSECOND),
            ("7\u{3bc}s", 7 * MICROSECOND),
            ("12ns", 12),
            ("-2m", -2 * MINUTE),
            ("+2m", 2 * MINUTE),
            ("0.3333333333333333333h", 20 * MINUTE - 1),
            ("2562047h47m16.854775807s", i64::MAX),
            ("-2562047h47m16.854775808s", i64::MIN),
        ] {
            assert_eq!(parsed(text).nanos(), nanos, "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in
            ["", "-", "3", "1.5", "s", ".s", "1x", "1 s", "1h 30m", "1..5s", "2562048h", "1e3s", "--1s", "٣s"]
        {
            let error = text.parse::<GoDuration>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is not a duration: ")), "{error}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (30 * SECOND, "30s"),
            (15 * MINUTE, "15m0s"),
            (24 * HOUR, "24h0m0s"),
            (HOUR + SECOND / 2, "1h0m0.5s"),
            (100 * MILLISECOND, "100ms"),
            (1_500_000, "1.5ms"),
            (1_100, "1.1\u{b5}s"),
            (999, "999ns"),
            (-90 * SECOND, "-1m30s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(GoDuration::from_nanos(nanos).to_string(), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(nanos: i64) {
            let duration = GoDuration::from_nanos(nanos);
            proptest::prop_assert_eq!(parsed(&duration.to_string()), duration);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _any_result = text.parse::<GoDuration>();
        }
    }

    #[test]
    fn only_positive_durations_are_positive() {
        assert_eq!(GoDuration::ZERO.positive(), None);
        assert_eq!(GoDuration::from_secs(-1).positive(), None);
        assert_eq!(GoDuration::from_secs(2).positive(), Some(Duration::from_secs(2)));
        assert_eq!(GoDuration::from_secs(-1).to_std(), Duration::ZERO);
    }
}
