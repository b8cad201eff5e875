//! Links, addresses and routes, by way of ip(8) in batch mode.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Namespace;

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both versions.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The version of an address.
    pub fn of(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Prefix length of a single address.
    pub fn host_prefix(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::V4 => "-4",
            Self::V6 => "-6",
        }
    }
}

/// Runs ip(8) commands (without the leading `ip`) in a namespace.
///
/// `family` decides what is meant where the words do not say, for example in
/// `rule add`. Stops at the first command that fails; the error quotes it.
pub fn ip<S: AsRef<str>>(namespace: &Namespace, family: Option<Family>, commands: &[S]) -> Result<()> {
    run(Some(namespace), family, commands)
}

/// Runs ip(8) commands outside of any lab namespace, for links that join two.
pub(crate) fn ip_outside<S: AsRef<str>>(commands: &[S]) -> Result<()> {
    run(None, None, commands)
}

fn run<S: AsRef<str>>(namespace: Option<&Namespace>, family: Option<Family>, commands: &[S]) -> Result<()> {
    if commands.is_empty() {
        return Ok(());
    }
    let mut program = Command::new("ip");
    program.args(family.map(Family::flag));
    if let Some(namespace) = namespace {
        program.args(["-n", namespace.name()]);
    }
    let batch: String = commands.iter().flat_map(|line| [line.as_ref(), "\n"]).collect();
    let mut child = program
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip (package iproute2)")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(batch.as_bytes()).context("cannot send commands to ip")?;
    }
    let output = child.wait_with_output().context("cannot wait for ip")?;
    if !output.status.success() {
        let name = namespace.map_or("the host", Namespace::name);
        bail!("ip failed in {name}: {}\n{batch}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
