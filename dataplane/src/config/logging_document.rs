//! The `logging` section of the document: Kubernetes' shared LoggingConfiguration.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::duration::GoDuration;
use super::section::{fields, section};

section! {
    /// `logging`.
    pub struct LoggingConfiguration {
        /// Longest time that log lines wait in a buffer.
        pub flush_frequency: FlushFrequency,
        /// `text` or `json`.
        pub format: String,
        /// Settings of the formats.
        pub options: FormatOptions,
        /// klog verbosity.
        pub verbosity: u32,
        /// Verbosity of single files, `text` format only.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub vmodule: Vec<VModule>,
    }
}

section! {
    /// One entry of `logging.vmodule`.
    pub struct VModule {
        /// Name of a file without its suffix; may contain `*` and `?`.
        pub file_pattern: String,
        /// Its verbosity.
        pub verbosity: u32,
    }
}

section! {
    /// `logging.options`.
    pub struct FormatOptions {
        /// Settings of the JSON format.
        pub json: OutputOptions,
        /// Settings of the text format.
        pub text: OutputOptions,
    }
}

section! {
    /// Where a log format writes to.
    pub struct OutputOptions {
        /// Bytes of info lines that may wait in a buffer.
        pub info_buffer_size: Quantity,
        /// Errors to stderr, the rest to stdout.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub split_stream: bool,
    }
}

/// A duration that may also be written as a number of nanoseconds, and is written back the way it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushFrequency {
    /// The duration.
    pub duration: GoDuration,
    /// It was a text, not a number.
    pub as_text: bool,
}

impl Serialize for FlushFrequency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.as_text {
            self.duration.serialize(serializer)
        } else {
            serializer.serialize_i64(self.duration.nanos())
        }
    }
}

impl<'de> Deserialize<'de> for FlushFrequency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl de::Visitor<'_> for Either {
            type Value = FlushFrequency;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 5s, or a number of nanoseconds")
            }

            fn visit_i64<E: de::Error>(self, nanos: i64) -> Result<Self::Value, E> {
                Ok(FlushFrequency { duration: GoDuration::from_nanos(nanos), as_text: false })
            }

            fn visit_u64<E: de::Error>(self, nanos: u64) -> Result<Self::Value, E> {
                self.visit_i64(i64::try_from(nanos).map_err(E::custom)?)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(FlushFrequency { duration: text.parse().map_err(E::custom)?, as_text: true })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A Kubernetes quantity, kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity(String);

impl Quantity {
    /// Whether nothing but zero was written.
    pub fn is_zero(&self) -> bool {
        !self.0.chars().any(|c| c.is_ascii_digit() && c != '0')
    }

    /// Checks the form: an optional sign, a decimal number, an optional suffix.
    pub fn parse(text: &str) -> Result<Self, String> {
        const SUFFIXES: [&str; 16] =
            ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let number = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = number.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(number.len());
        let (number, suffix) = number.split_at(end);
        let is_number = number.chars().any(|c| c.is_ascii_digit()) && number.matches('.').count() <= 1;
        let is_exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|power| power.parse::<i16>().is_ok());
        if is_number && (is_exponent || SUFFIXES.contains(&suffix)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{text:?} is not a quantity (examples: 0, 512, 64Ki, 1M)"))
        }
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self("0".to_owned())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Quantity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl de::Visitor<'_> for Either {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as \"64Ki\", or a number")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Quantity(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Quantity(number.to_string()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Quantity::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fields!(FlushFrequency, Quantity, Vec<VModule>);
