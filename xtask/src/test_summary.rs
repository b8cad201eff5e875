//! `cargo test` prints a result for each test program; this adds them up and prints the sum last.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::process;

#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Summary {
    /// Takes in a line such as `test result: ok. 8 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; ...`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            match count.split_once(' ').and_then(|(number, what)| Some((number.parse::<u64>().ok()?, what))) {
                Some((number, "passed")) => self.passed += number,
                Some((number, "failed")) => self.failed += number,
                Some((number, "ignored")) => self.ignored += number,
                _ => {}
            }
        }
    }

    fn line(&self) -> String {
        let result = if self.failed == 0 { "ok" } else { "FAILED" };
        let Self { passed, failed, ignored } = self;
        format!(
            "test result: {result}. {passed} passed; {failed} failed; {ignored} ignored (all test programs)"
        )
    }
}

/// Runs a `cargo test` command, shows what it prints, and ends with the sum. No tests at all is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut summary = Summary::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        writeln!(io::stdout(), "{line}")?;
        summary.add(&line);
    }
    let status = child.wait()?;
    if status.success() && summary.passed == 0 {
        bail!("no test was run");
    }
    if !status.success() {
        process::say(&format!("cargo test failed ({status})"));
    }
    writeln!(io::stdout(), "\n{}", summary.line())?;
    if status.success() { Ok(()) } else { bail!("{} tests failed, or a test program did", summary.failed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_programs_are_added_up() {
        let mut summary = Summary::default();
        summary.add("running 3 tests");
        summary.add(
            "test result: ok. 8 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        );
        summary.add(
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 5 filtered out; finished in 0s",
        );
        assert_eq!(summary, Summary { passed: 10, failed: 3, ignored: 1 });
        assert_eq!(summary.line(), "test result: FAILED. 10 passed; 3 failed; 1 ignored (all test programs)");
    }

    #[test]
    fn lines_that_only_look_like_results_count_nothing() {
        let mut summary = Summary::default();
        summary.add("test result: nothing to see");
        summary.add("7 passed; 0 failed");
        assert_eq!(summary, Summary::default());
    }
}
