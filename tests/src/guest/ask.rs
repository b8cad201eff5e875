//! A client that is a process of its own: in a network namespace, and in the cgroup whose sockets are balanced.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use crate::lab::{Answer, Dial, Outcome, Protocol};

/// Arguments of `guest ask`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// File of the network namespace
    #[arg(long)]
    namespace: PathBuf,
    /// Directory of the cgroup
    #[arg(long)]
    cgroup: PathBuf,
    /// How often, each time from a fresh socket
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// Seconds for each time
    #[arg(long, default_value_t = 1)]
    patience: u64,
    /// Bytes to send and to ask for
    #[arg(long, default_value_t = 0)]
    payload: usize,
    /// Do not connect the socket (UDP)
    #[arg(long)]
    unconnected: bool,
    /// Talk UDP, not TCP
    #[arg(long)]
    udp: bool,
    /// Whom to ask
    to: SocketAddr,
}

/// Moves this process, asks, and prints what came back, a line each time.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    // 0 stands for the process that writes it.
    fs::write(arguments.cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("cannot move to cgroup {}", arguments.cgroup.display()))?;
    let namespace = File::open(&arguments.namespace).context("cannot open the network namespace")?;
    setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for _ in 0..arguments.count {
        let outcome = runtime.block_on(arguments.dial().once()).outcome;
        writeln!(std::io::stdout(), "{}", encode(&outcome)).context("cannot print what came back")?;
    }
    Ok(())
}

impl Arguments {
    fn dial(&self) -> Dial {
        let protocol = if self.udp { Protocol::Udp } else { Protocol::Tcp };
        Dial {
            unconnected: self.unconnected,
            payload: self.payload,
            reply_size: self.payload,
            timeout: Duration::from_secs(self.patience),
            ..Dial::new(protocol, self.to)
        }
    }
}

/// Starts this program as such a client and waits for what it prints.
pub(super) fn in_process(
    namespace: PathBuf,
    cgroup: PathBuf,
    dial: &Dial,
    count: usize,
) -> Result<Vec<Outcome>> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let mut command = Command::new(program);
    command.arg("ask").arg("--namespace").arg(namespace).arg("--cgroup").arg(cgroup);
    command.args(["--count", &count.to_string(), "--patience", &dial.timeout.as_secs().to_string()]);
    command.args(["--payload", &dial.payload.to_string()]);
    command.args(dial.unconnected.then_some("--unconnected"));
    command.args((dial.protocol == Protocol::Udp).then_some("--udp"));
    let output = command.arg(dial.to.to_string()).output().context("cannot start a client")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the client failed ({}): {}", output.status, errors.trim());
    String::from_utf8_lossy(&output.stdout).lines().map(decode).collect()
}

fn encode(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Answer(answer) => {
            json!({"local": answer.local, "peer": answer.peer, "problem": answer.problem})
        }
        Outcome::Timeout => json!({"end": "timeout"}),
        Outcome::Denied => json!({"end": "denied"}),
        Outcome::Rejected(text) => json!({"end": "rejected", "text": text}),
        Outcome::Failed(text) => json!({"end": "failed", "text": text}),
    }
}

fn decode(line: &str) -> Result<Outcome> {
    let value: Value = serde_json::from_str(line).with_context(|| format!("a client printed {line:?}"))?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(match (text("end").as_deref(), text("local"), text("peer")) {
        (None, Some(local), Some(peer)) => {
            Outcome::Answer(Answer { local: local.parse()?, peer: peer.parse()?, problem: text("problem") })
        }
        (Some("timeout"), ..) => Outcome::Timeout,
        (Some("denied"), ..) => Outcome::Denied,
        (Some("rejected"), ..) => Outcome::Rejected(text("text").unwrap_or_default()),
        (Some("failed"), ..) => Outcome::Failed(text("text").unwrap_or_default()),
        _ => bail!("a client printed {line:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_back_survives_being_printed() {
        let answer = Answer {
            local: "[fd00::1]:80".parse().unwrap(),
            peer: "10.0.0.1:9".parse().unwrap(),
            problem: Some("damaged".to_owned()),
        };
        let outcomes = [
            Outcome::Answer(answer),
            Outcome::Timeout,
            Outcome::Denied,
            Outcome::Rejected("refused".to_owned()),
            Outcome::Failed("odd".to_owned()),
        ];
        for outcome in outcomes {
            assert_eq!(decode(&encode(&outcome).to_string()).unwrap(), outcome);
        }
    }

    #[test]
    fn something_else_is_an_error_that_quotes_it() {
        for line in ["", "{}", "no"] {
            let error = format!("{:#}", decode(line).unwrap_err());
            assert!(error.contains(&format!("{line:?}")), "{error}");
        }
    }
}
