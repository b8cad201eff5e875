//! The command line: kube-proxy's flags, our own, and the subcommands.

pub mod args;

mod agent_flags;
mod ask;
mod exit;
mod flag_values;
mod host_flags;
mod proxy_flags;
mod tables;

pub use args::{Args, Client, Command, Output, Source, Target};
pub use ask::{ask, say};
pub use exit::{explain_usage, print_version, report};

#[cfg(test)]
mod tests;
