//! What the person at the terminal sees: headings, progress with elapsed time, tables, verdicts.
//!
//! Colours and symbols only where a person is looking; plain words where output goes to a file.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Standard output, and the time since the demo began.
#[derive(Debug)]
pub(super) struct Terminal {
    coloured: bool,
    started: Instant,
}

/// How a piece of text is shown where colours are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Style {
    Bold,
    Faint,
    Good,
    Bad,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Bad => "1;31",
        }
    }
}

impl Terminal {
    /// Starts the clock.
    pub(super) fn new() -> Self {
        let coloured = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { coloured, started: Instant::now() }
    }

    /// Since the demo began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The title of a part, after an empty line.
    pub(super) fn heading(&self, title: &str) {
        line("");
        let stamp = self.styled(Style::Faint, self.stamp());
        line(&format!("{stamp} {}", self.styled(Style::Bold, title)));
    }

    /// Something that is being done or has happened now.
    pub(super) fn progress(&self, text: &str) {
        let stamp = self.styled(Style::Faint, self.stamp());
        line(&format!("{stamp} {text}"));
    }

    /// An explanation below a heading; may have several lines.
    pub(super) fn note(&self, text: &str) {
        for words in text.lines() {
            line(&format!("         {}", self.styled(Style::Faint, words)));
        }
    }

    /// A claim and whether it held.
    pub(super) fn verdict(&self, held: bool, text: &str) {
        line(&format!("         {} {text}", self.mark(held)));
    }

    /// A table; its first row is the header.
    pub(super) fn table(&self, rows: &[Row]) {
        let columns = rows.iter().map(|row| row.cells.len()).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.cells.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for (number, row) in rows.iter().enumerate() {
            let cells: Vec<String> =
                row.cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            let text = cells.join("  ");
            let text = if number == 0 { self.styled(Style::Faint, text.trim_end()) } else { text };
            let mark = row.held.map(|held| format!("  {}", self.mark(held))).unwrap_or_default();
            line(&format!("         {text}{mark}"));
        }
    }

    fn mark(&self, held: bool) -> String {
        match (self.coloured, held) {
            (true, true) => self.styled(Style::Good, "✓"),
            (true, false) => self.styled(Style::Bad, "✗"),
            (false, true) => "ok".to_owned(),
            (false, false) => "FAILED".to_owned(),
        }
    }

    /// Text in a style, where there are colours.
    pub(super) fn styled(&self, style: Style, text: impl Display) -> String {
        if self.coloured { format!("\u{1b}[{}m{text}\u{1b}[0m", style.code()) } else { text.to_string() }
    }

    fn stamp(&self) -> String {
        format!("{:6.1} s", self.started.elapsed().as_secs_f64())
    }
}

/// Text as it is, indented.
pub(super) fn verbatim(text: &str) {
    for words in text.lines() {
        line(&format!("           {words}"));
    }
}

/// One line. Nobody may be reading any more: that does not stop the demo.
fn line(text: &str) {
    drop(writeln!(io::stdout().lock(), "{}", text.trim_end()));
}

/// A row of a table.
#[derive(Debug)]
pub(super) struct Row {
    cells: Vec<String>,
    /// Whether it is as it should be; `None` where nothing was to be checked.
    held: Option<bool>,
}

impl Row {
    /// A row that claims nothing.
    pub(super) fn of<const N: usize>(cells: [&str; N]) -> Self {
        Self { cells: cells.map(str::to_owned).into(), held: None }
    }

    /// A row with a verdict at its end.
    pub(super) fn judged<const N: usize>(cells: [String; N], held: bool) -> Self {
        Self { cells: cells.into(), held: Some(held) }
    }
}
