//! The command line: kube-proxy's flags, our own, and the subcommands.

pub mod args;

mod agent_flags;
mod flag_values;
mod host_flags;
mod proxy_flags;

#[cfg(test)]
mod tests;

pub use args::{Args, Client, Command, Output, Target};
