//! Progress and tables.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "talks to the person at the terminal")]

use std::time::{Duration, Instant};

use super::figure::Figure;
use super::report::Report;
use super::show::show;
use super::table;

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

    /// One line of progress in something with equal parts, begun at `begun`: how much there is and how long it takes.
    pub(super) fn step(&self, begun: Instant, done: usize, total: usize, text: &str) {
        let left = time_left(begun.elapsed(), done, total);
        let left = left.map(|left| format!(", about {} left", minutes(left))).unwrap_or_default();
        self.say(&format!("{text} ({} of {total}{left})", done + 1));
    }

    /// One line per figure as soon as it is known.
    pub(super) fn figure(&self, figure: &Figure) {
        let key = &figure.key;
        let tail = figure.p99.map(|p99| format!(" / {}", show(figure.unit, p99))).unwrap_or_default();
        self.say(&format!(
            "  N = {:<5} {:<19} {:<33} {}{tail}",
            key.services,
            key.lane,
            key.measure,
            show(figure.unit, figure.value)
        ));
    }

    /// All figures, and what to think of them.
    pub(super) fn table(report: &Report) {
        for section in report.sections() {
            println!("\n{}\n", section.to_uppercase());
            Self::print(table::section(report, section));
        }
        println!("{}\n", table::LEGEND);
        Self::print(table::goals(report));
        for doubt in &report.conditions.doubts {
            println!("doubtful: {doubt}");
        }
    }

    /// Lines on standard output.
    pub(super) fn print(lines: impl IntoIterator<Item = String>) {
        lines.into_iter().for_each(|line| println!("{line}"));
    }
}

/// For the parts that are left, if they take as long as those before; `None` as long as there were none.
fn time_left(gone: Duration, done: usize, total: usize) -> Option<Duration> {
    let (done, left) = (u32::try_from(done).ok()?, u32::try_from(total.checked_sub(done)?).ok()?);
    gone.checked_mul(left)?.checked_div(done)
}

fn minutes(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 100 { format!("{seconds} s") } else { format!("{} min", (seconds + 30) / 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_time_gone() {
        let left = |done| time_left(Duration::from_secs(30), done, 9);
        assert_eq!(left(0), None);
        assert_eq!(left(3), Some(Duration::from_mins(1)));
        assert_eq!(left(9), Some(Duration::ZERO));
        assert_eq!(time_left(Duration::from_secs(1), 10, 9), None);
    }

    #[test]
    fn long_times_are_told_in_minutes() {
        assert_eq!(minutes(Duration::from_secs(99)), "99 s");
        assert_eq!(minutes(Duration::from_secs(169)), "3 min");
    }
}
