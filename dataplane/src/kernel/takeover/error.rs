//! Why something could not be removed.

use std::error::Error;
use std::fmt;
use std::io;

use super::Leftover;

/// Why one step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The tool is not installed.
    #[error("{tool} is not installed")]
    ToolMissing {
        /// Its name.
        tool: String,
    },
    /// The tool could not be run.
    #[error("cannot run {tool}")]
    Run {
        /// Its name.
        tool: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The tool failed.
    #[error("{command} failed: {message}")]
    Tool {
        /// What was run.
        command: String,
        /// What it said.
        message: String,
    },
    /// The kernel refused.
    #[error("cannot {operation}")]
    Kernel {
        /// What was tried.
        operation: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Some leftovers are still there.
#[derive(Debug)]
pub struct RemovalError {
    /// What was removed nevertheless.
    pub removed: Vec<String>,
    /// What was not, and why; never empty.
    pub failures: Vec<(Leftover, StepError)>,
}

impl fmt::Display for RemovalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot remove what kube-proxy left")?;
        for (leftover, error) in &self.failures {
            write!(f, "; {leftover}: {error}")?;
            if let Some(cause) = error.source() {
                write!(f, ": {cause}")?;
            }
        }
        Ok(())
    }
}

impl Error for RemovalError {}
