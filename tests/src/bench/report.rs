//! All figures of a run, with its conditions.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::arguments::Plan;
use super::figure::Figure;
use super::machine::{self, Machine};
use super::targets;

/// Raised when a reader of old reports would misunderstand new ones.
const FORMAT: u32 = 2;

/// How the figures came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// UTC.
    pub started: String,
    /// UTC, empty while it runs.
    pub finished: String,
    /// Fewer samples than a full run.
    pub quick: bool,
    /// Load averages at the start and at the end.
    pub load: (f64, f64),
    /// The commit measured, if that can be told.
    pub commit: String,
    /// How it was measured, in sentences.
    pub notes: Vec<String>,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form.
    pub format: u32,
    /// Where.
    pub machine: Machine,
    /// How.
    pub conditions: Conditions,
    /// What came out.
    pub figures: Vec<Figure>,
}

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        let (load, _) = machine::load();
        Self {
            format: FORMAT,
            machine: Machine::look(),
            conditions: Conditions {
                started: now(),
                finished: String::new(),
                quick: plan.quick,
                load: (load, load),
                commit: commit(),
                notes: notes(),
            },
            figures: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, mut figures: Vec<Figure>) {
        figures.iter_mut().for_each(targets::apply);
        self.figures.append(&mut figures);
    }

    pub(super) fn finish(&mut self) {
        self.conditions.finished = now();
        self.conditions.load.1 = machine::load().0;
    }

    /// One line about the machine.
    pub(super) fn headline(&self) -> String {
        let machine = &self.machine;
        let kind = if machine.virtualization.is_empty() { "" } else { " (virtual)" };
        format!(
            "{} x {}{kind}, {} GiB, Linux {}, {}; load {:.2}",
            machine.cpus,
            machine.cpu,
            machine.memory >> 30,
            machine.kernel,
            machine.nft,
            self.conditions.load.0
        )
    }

    /// Reasons to doubt the figures.
    pub(super) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        #[expect(clippy::cast_precision_loss, reason = "a number of processors")]
        let cpus = self.machine.cpus.max(1) as f64;
        let load = self.conditions.load.0;
        if load > cpus / 2.0 {
            doubts.push(format!(
                "other programs were running: load {load:.2} on {cpus} processors at the start"
            ));
        }
        let noisy = self.figures.iter().filter(|figure| figure.ratio.is_some() && figure.noisy).count();
        if noisy > 0 {
            let all = self.figures.iter().filter(|figure| figure.ratio.is_some()).count();
            doubts.push(format!(
                "{noisy} of {all} ratios are unsure by more than 10 %: their rounds lie too far apart"
            ));
        }
        doubts
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let text = serde_json::to_string_pretty(self).context("writing the report as JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn commit() -> String {
    let output = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn notes() -> Vec<String> {
    [
        "A service has a TCP and a UDP port and two endpoints; one more service is the one that is changed.",
        "Control plane: objects come from an API server in the process of the benchmark, over TLS, as JSON. \
         Endpoints are addresses of the node's namespace; a change is in effect when a TCP connection to the \
         cluster IP is accepted at the new address. The watch is a plain one that saw the same write.",
        "Datapath: client, node and pod are namespaces joined by veth pairs. One thread holds both ends of a \
         conversation, so no figure contains a wake-up: ratios to direct are larger than those of programs that \
         wait for each other. Lanes take turns within each round; ratios are taken within a round.",
    ]
    .map(str::to_owned)
    .into()
}
