//! `--compare`: a comparison in words.

use std::path::Path;

use anyhow::Result;

use super::Report;
use super::compare::{Basis, Change, Comparison, Measured};
use crate::bench::figure::{Key, Unit};
use crate::bench::show::{grouped, ratio, show};
use crate::bench::terminal::Terminal;

/// Prints what changed between two reports; whether something of ours got worse.
pub(in crate::bench) fn print(old_path: &Path, new_path: &Path) -> Result<bool> {
    let (old, new) = (Report::read(old_path)?, Report::read(new_path)?);
    let comparison = Comparison::of(&old, &new);
    Terminal::print([line("old", old_path, &old), line("new", new_path, &new), String::new()]);
    Terminal::print(lines(&comparison));
    Ok(comparison.is_worse())
}

fn line(name: &str, path: &Path, report: &Report) -> String {
    format!(
        "{name}: {}, measured {}, commit {}",
        path.display(),
        report.conditions.started,
        report.conditions.commit
    )
}

fn lines(comparison: &Comparison) -> Vec<String> {
    let mut lines: Vec<_> = comparison.remarks.iter().map(|remark| format!("careful: {remark}")).collect();
    let kinds = [
        ("WORSE", true, true),
        ("BETTER", true, false),
        ("NOT OURS, WORSE", false, true),
        ("NOT OURS, BETTER", false, false),
    ];
    for (heading, ours, worse) in kinds {
        let wanted = |change: &&Change| change.is_ours() == ours && change.worse == worse;
        let changes: Vec<_> = comparison.changes.iter().filter(wanted).collect();
        if !changes.is_empty() {
            lines.push(format!("\n{heading} ({})", changes.len()));
            lines.extend(changes.iter().flat_map(|change| [name(&change.key), numbers(change)]));
        }
    }
    for (heading, keys) in
        [("only in the old report", &comparison.only_old), ("only in the new report", &comparison.only_new)]
    {
        if !keys.is_empty() {
            lines.push(format!("\n{heading} ({})", keys.len()));
            lines.extend(keys.iter().map(name));
        }
    }
    lines.push(format!("\nthe same within the noise: {}", comparison.same));
    lines
}

fn name(key: &Key) -> String {
    format!("  {}: {}, N = {}, {}", key.section, key.measure, grouped(key.services), key.lane)
}

fn numbers(change: &Change) -> String {
    let (of, unit) = match change.basis {
        Basis::Ratio => ("to direct ", Unit::Ratio),
        Basis::Value => ("", change.unit),
        Basis::P99 => ("p99 ", change.unit),
    };
    let by = match change.factor() {
        factor if !factor.is_finite() => String::new(),
        factor if factor >= 2.0 => format!("  (x {factor:.1})"),
        factor => format!("  ({:+.1} %)", (factor - 1.0) * 100.0),
    };
    format!("      {of}{} -> {}{by}", measured(unit, change.old), measured(unit, change.new))
}

fn measured(unit: Unit, measured: Measured) -> String {
    let say = |value| if unit == Unit::Ratio { ratio(value) } else { show(unit, value) };
    match measured.interval {
        Some((low, high)) => format!("{} [{} .. {}]", say(measured.value), say(low), say(high)),
        None => say(measured.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::sample;

    #[test]
    fn changes_are_told_with_their_noise() {
        let old = sample::report(7, &[1000]);
        let mut new = old.clone();
        let wanted = |key: &Key| key.measure == "connect" && key.lane == "shunt nftables";
        let figure = new.figures.iter_mut().find(|figure| wanted(&figure.key)).unwrap();
        let ratio = figure.ratio.as_mut().unwrap();
        ratio.median *= 1.2;
        ratio.interval = (ratio.interval.0 * 1.2, ratio.interval.1 * 1.2);
        new.figures.retain(|figure| figure.key.measure != "RR");
        let text = lines(&Comparison::of(&old, &new)).join("\n");
        assert!(
            text.contains("WORSE (1)\n  datapath: connect, N = 1,000, shunt nftables\n      to direct 1."),
            "{text}"
        );
        assert!(text.contains("(+20.0 %)"), "{text}");
        assert!(text.contains("only in the old report (7)"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn a_change_from_nothing_has_no_percentage() {
        let lone = |value| Measured { value, interval: None };
        let key = Key { section: String::new(), measure: String::new(), services: 1, lane: String::new() };
        let (old, new) = (lone(0.0), lone(3.0));
        let change = Change { key, unit: Unit::Count, basis: Basis::Value, old, new, worse: true };
        assert_eq!(numbers(&change), "      0 -> 3");
    }
}
