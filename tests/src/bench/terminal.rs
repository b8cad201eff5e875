//! Progress and tables.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "talks to the person at the terminal")]

use std::collections::BTreeSet;
use std::time::Instant;

use super::figure::{Figure, Unit};
use super::goal::{Subject, Verdict};
use super::report::Report;

/// Where the benchmark says what it does: progress on standard error, results on standard output.
#[derive(Debug)]
pub(super) struct Terminal {
    started: Instant,
}

impl Terminal {
    pub(super) fn new() -> Self {
        Self { started: Instant::now() }
    }

    /// One line of progress.
    pub(super) fn say(&self, text: &str) {
        eprintln!("[{:>4} s] {text}", self.started.elapsed().as_secs());
    }

    /// One line per figure as soon as it is known.
    pub(super) fn figure(&self, figure: &Figure) {
        let key = &figure.key;
        let tail = figure.p99.map(|p99| format!(", p99 {}", show(figure.unit, p99))).unwrap_or_default();
        self.say(&format!(
            "  N = {:<5} {:<16} {:<34} {}{tail}",
            key.services,
            key.lane,
            key.measure,
            show(figure.unit, figure.value)
        ));
    }

    /// All figures, and what to think of them.
    pub(super) fn table(report: &Report) {
        for section in ["control plane", "datapath", "per packet"] {
            let figures: Vec<_> = report.figures.iter().filter(|f| f.key.section == section).collect();
            if !figures.is_empty() {
                println!("\n{section}\n");
                print_section(&figures);
            }
        }
        println!();
        let met = report.figures.iter().filter(|figure| figure.verdict() == Some(Verdict::Met)).count();
        let aimed = report.figures.iter().filter(|figure| !figure.goals.is_empty()).count();
        println!("goals met: {met} of {aimed}");
        for doubt in report.doubts() {
            println!("doubtful: {doubt}");
        }
    }
}

fn print_section(figures: &[&Figure]) {
    println!(
        "{:<41} {:>5}  {:<26} {:>10} {:>9} {:>7} {:>10} {:>7}  target",
        "measure", "N", "lane", "median", "p99", "/direct", "range", "/peer"
    );
    let mut measures = Vec::new();
    let mut seen = BTreeSet::new();
    for figure in figures {
        if seen.insert(&figure.key.measure) {
            measures.push(&figure.key.measure);
        }
    }
    for measure in measures {
        let mut rows: Vec<_> = figures.iter().filter(|figure| figure.key.measure == *measure).collect();
        rows.sort_by_key(|figure| figure.key.services);
        for figure in rows {
            println!("{}", row(figure));
        }
    }
}

fn row(figure: &Figure) -> String {
    let p99 = figure.p99.map(|p99| show(figure.unit, p99)).unwrap_or_default();
    let ratio = figure.ratio.map(|ratio| format!("{:.3}", ratio.median)).unwrap_or_default();
    let peer = figure.peer.map(|peer| format!("{:.3}", peer.median)).unwrap_or_default();
    let range = figure.ratio.map_or_else(String::new, |ratio| {
        let noisy = if ratio.is_noisy() { "~" } else { "" };
        format!("{noisy}{:.2}-{:.2}", ratio.range.0, ratio.range.1)
    });
    let line = format!(
        "{:<41} {:>5}  {:<26} {:>10} {p99:>9} {ratio:>7} {range:>10} {peer:>7}  {}",
        figure.key.measure,
        figure.key.services,
        figure.key.lane,
        show(figure.unit, figure.value),
        target(figure)
    );
    line.trim_end().to_owned()
}

fn target(figure: &Figure) -> String {
    let Some(verdict) = figure.verdict() else { return String::new() };
    let shown = figure.goals.iter().map(|goal| match goal.of {
        Subject::Value | Subject::P99 => show(figure.unit, goal.bound),
        Subject::Direct | Subject::Peer => format!("{:.2}", goal.bound),
    });
    let verdict = match verdict {
        Verdict::Met => "met",
        Verdict::Open => "OPEN",
        Verdict::Missed => "MISSED",
    };
    format!("{verdict} {}", shown.collect::<Vec<_>>().join(" / "))
}

/// A value with its unit, three digits.
pub(super) fn show(unit: Unit, value: f64) -> String {
    let scaled = |steps: &[(f64, &str)]| {
        let step = steps.iter().rev().find(|(size, _)| value.abs() >= *size).or(steps.first());
        step.map_or_else(String::new, |(size, name)| format!("{} {name}", digits(value / size)))
    };
    match unit {
        Unit::Nanoseconds => scaled(&[(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")]),
        Unit::Bytes => scaled(&[(1.0, "B"), (1024.0, "KiB"), (1_048_576.0, "MiB")]),
        Unit::PerSecond => scaled(&[(1.0, "/s"), (1e3, "k/s"), (1e6, "M/s")]),
        Unit::PacketsPerSecond => scaled(&[(1.0, "pps"), (1e3, "kpps"), (1e6, "Mpps")]),
        Unit::BitsPerSecond => scaled(&[(1.0, "bit/s"), (1e3, "kbit/s"), (1e6, "Mbit/s"), (1e9, "Gbit/s")]),
        Unit::Count => format!("{value:.0}"),
        Unit::Ratio => format!("{value:.3}"),
    }
}

fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
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
        assert_eq!(show(Unit::Bytes, 94_371_840.0), "90.0 MiB");
        assert_eq!(show(Unit::PerSecond, 23_456.0), "23.5 k/s");
    }
}
