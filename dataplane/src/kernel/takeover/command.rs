//! Running a tool.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use super::StepError;

/// Runs a tool and returns what it wrote to standard output; it must succeed.
pub(super) fn run(tool: &str, arguments: &[&str]) -> Result<String, StepError> {
    let output = Command::new(tool).args(arguments).stdin(Stdio::null()).output();
    finish(tool, arguments, output)
}

/// The same, with `input` on its standard input.
pub(super) fn run_with_input(tool: &str, arguments: &[&str], input: &str) -> Result<String, StepError> {
    finish(tool, arguments, feed(tool, arguments, input))
}

/// The tools here read all of their input before they write much, so that writing first cannot block for ever.
fn feed(tool: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        match pipe.write_all(input.as_bytes()) {
            // It gave up early and will say why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            outcome => outcome?,
        }
    }
    child.wait_with_output()
}

fn finish(tool: &str, arguments: &[&str], output: io::Result<Output>) -> Result<String, StepError> {
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StepError::ToolMissing { tool: tool.to_owned() });
        }
        Err(source) => return Err(StepError::Run { tool: tool.to_owned(), source }),
        Ok(output) => output,
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let command = format!("{tool} {}", arguments.join(" "));
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(StepError::Tool { command: command.trim_end().to_owned(), message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_returned_and_input_passed_on() {
        assert_eq!(run("echo", &["a", "b"]).unwrap(), "a b\n");
        assert_eq!(run_with_input("cat", &[], "text").unwrap(), "text");
    }

    #[test]
    fn a_missing_tool_and_a_failing_one_are_told_apart() {
        assert!(matches!(run("no-such-tool-anywhere", &[]), Err(StepError::ToolMissing { .. })));
        let error = run("sh", &["-c", "echo broken >&2; exit 3"]).unwrap_err();
        assert!(error.to_string().ends_with("failed: broken"), "{error}");
    }

    #[test]
    fn a_tool_that_reads_no_input_is_judged_by_its_own_words() {
        let long = "x".repeat(1 << 20);
        let error = run_with_input("sh", &["-c", "echo no >&2; exit 1"], &long).unwrap_err();
        assert!(error.to_string().ends_with("failed: no"), "{error}");
    }
}
