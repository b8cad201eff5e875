//! How single flag values are read: as Go's pflag and Kubernetes' flag types read them.

use std::collections::BTreeMap;

/// `value_name` of boolean flags, by which the command finds them: `--flag` and `--flag=true`, never `--flag true`.
pub(super) const BOOL: &str = "BOOL";
/// `value_name` of numbers, whose value may start with a minus sign.
pub(super) const NUMBER: &str = "N";
/// `value_name` of durations, whose value may start with a minus sign.
pub(super) const DURATION: &str = "DURATION";
/// `value_name` of lists: a repeated flag adds to the list.
pub(super) const LIST: &str = "LIST";

/// Feature gates: `Name=true,Other=false`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates(pub BTreeMap<String, bool>);

impl std::str::FromStr for FeatureGates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let gate = |part: &str| {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is not NAME=BOOL"))?;
            Ok((name.trim().to_owned(), go_bool(value.trim())?))
        };
        parts(text).map(gate).collect::<Result<_, String>>().map(Self)
    }
}

/// Verbosity of single files: `pattern=N,pattern=N`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerbosityPatterns(pub Vec<(String, u32)>);

impl std::str::FromStr for VerbosityPatterns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pattern = |part: &str| {
            let (pattern, level) =
                part.split_once('=').ok_or_else(|| format!("{part:?} is not PATTERN=N"))?;
            let level = level.parse().map_err(|error| format!("{part:?}: {error}"))?;
            Ok((pattern.to_owned(), level))
        };
        parts(text).map(pattern).collect::<Result<_, String>>().map(Self)
    }
}

/// A boolean, in any of the spellings of Go's `strconv.ParseBool`.
pub(super) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// `--version` also takes the word `raw`.
pub(super) fn version_bool(text: &str) -> Result<bool, String> {
    if text == "raw" { Ok(true) } else { go_bool(text) }
}

/// The parts of a comma-separated list that are not empty.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|part| !part.is_empty())
}
