//! What the guest has to say, a line each: `@shunt STATE PART: NAME | DETAIL`.
//!
//! The states are `ok`, `failed`, `missing` (the kernel does not have it) and `note`. The last line is
//! `@shunt end COUNT`, with the number of lines before it, so that the host sees when one got lost.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Begins every line: the console is shared with the kernel.
const MARK: &str = "@shunt";
/// Of longer details the beginning and the end are kept: a serial line is slow.
const BEGINNING: usize = 200;
const END: usize = 500;

/// Where the lines go.
#[derive(Debug)]
pub(super) struct Report {
    out: File,
    lines: usize,
}

impl Report {
    /// On a device or in a file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let out = File::options().write(true).open(path);
        Ok(Self { out: out.with_context(|| format!("cannot open {}", path.display()))?, lines: 0 })
    }

    /// On standard output.
    pub(super) fn on_terminal() -> Result<Self> {
        Self::open(Path::new("/dev/stdout"))
    }

    pub(super) fn ok(&mut self, part: &str, name: &str, detail: &str) {
        self.line("ok", part, name, detail);
    }

    pub(super) fn failed(&mut self, part: &str, name: &str, detail: &str) {
        self.line("failed", part, name, detail);
    }

    pub(super) fn missing(&mut self, part: &str, name: &str, detail: &str) {
        self.line("missing", part, name, detail);
    }

    pub(super) fn note(&mut self, part: &str, name: &str, detail: &str) {
        self.line("note", part, name, detail);
    }

    /// `ok` or `failed`, by an outcome.
    pub(super) fn outcome(&mut self, part: &str, name: &str, outcome: &Result<String>) {
        match outcome {
            Ok(detail) => self.ok(part, name, detail),
            Err(error) => self.failed(part, name, &format!("{error:#}")),
        }
    }

    /// Says so if a part did not come to its end.
    pub(super) fn stopped(&mut self, part: &str, outcome: &Result<()>) {
        if let Err(error) = outcome {
            self.failed(part, "run", &format!("{error:#}"));
        }
    }

    /// The last line.
    pub(super) fn end(mut self) -> Result<()> {
        writeln!(self.out, "{MARK} end {}", self.lines).context("cannot write the report")
    }

    fn line(&mut self, state: &str, part: &str, name: &str, detail: &str) {
        let detail = one_line(detail);
        if writeln!(self.out, "{MARK} {state} {part}: {name} | {detail}").is_ok() {
            self.lines += 1;
        }
    }
}

/// Without line breaks and control characters, and not too long.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let all: Vec<char> = lines.join(" / ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match (all.get(..BEGINNING), all.get(all.len().saturating_sub(END)..)) {
        (Some(beginning), Some(end)) if all.len() > BEGINNING + END => {
            beginning.iter().chain(&[' ', '…', ' ']).chain(end).collect()
        }
        _ => all.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_of_many_lines_becomes_one() {
        assert_eq!(one_line("one\n\n  two\tthree\n"), "one / two three");
    }

    #[test]
    fn of_a_long_detail_beginning_and_end_are_kept() {
        let text = one_line(&format!("first {} last", "x".repeat(2000)));
        assert!(text.starts_with("first") && text.ends_with("last"), "{text}");
        assert_eq!(text.chars().count(), BEGINNING + 3 + END);
    }

    #[test]
    fn lines_are_counted_in_the_last_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut report = Report::open(file.path()).unwrap();
        report.ok("programs", "shunt_ingress", "loaded");
        report.missing("features", "tcx link", "invalid\nargument");
        report.end().unwrap();
        assert_eq!(
            std::fs::read_to_string(file.path()).unwrap(),
            "@shunt ok programs: shunt_ingress | loaded\n\
             @shunt missing features: tcx link | invalid / argument\n\
             @shunt end 2\n"
        );
    }
}
