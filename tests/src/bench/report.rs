//! All figures of a run, with its conditions.

mod changes;
mod compare;
mod gallery;
mod html;
mod plot;
#[cfg(test)]
pub(super) mod sample;
mod tables;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::arguments::Plan;
use super::datapath::lacks_a_processor;
use super::figure::Figure;
use super::goal::Verdict;
use super::machine::{self, Machine};
use super::table::in_order;
use super::targets;

pub(super) use changes::print as print_changes;

/// Raised when a reader of old reports would misunderstand new ones.
const FORMAT: u32 = 2;
/// A share of noisy figures that casts doubt on all of them.
const TOO_MANY_NOISY: f64 = 0.25;

/// What is said where measures are missing for want of a processor.
const ONE_PROCESSOR: &str = "one processor: conversations whose ends are apart, on two, were left out";

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
    /// Reasons to doubt the figures, in sentences.
    pub doubts: Vec<String>,
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
                doubts: lacks_a_processor(plan).then(|| ONE_PROCESSOR.to_owned()).into_iter().collect(),
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
        let doubts = self.doubts();
        self.conditions.doubts.extend(doubts);
    }

    /// Names of the sections, in order.
    pub(super) fn sections(&self) -> Vec<&str> {
        in_order(self.figures.iter().map(|figure| figure.key.section.as_str()))
    }

    /// In numbers: goals that are met, open and missed.
    pub(super) fn goals(&self) -> String {
        let goals = || self.figures.iter().flat_map(|figure| &figure.goals);
        let count = |verdict| goals().filter(|goal| goal.verdict == verdict).count();
        let (met, open, missed) = (count(Verdict::Met), count(Verdict::Open), count(Verdict::Missed));
        format!("{met} met, {open} open, {missed} missed")
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

    /// Reads a report that a run has written.
    pub(super) fn read(path: &Path) -> Result<Self> {
        /// What every format has.
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let name = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let Versioned { format } = serde_json::from_str(&text)
            .with_context(|| format!("{name} is not a report of the benchmark"))?;
        ensure!(
            format == FORMAT,
            "{name} is a report of format {format}, and this program reads format {FORMAT}: measure again"
        );
        serde_json::from_str(&text).with_context(|| format!("{name} is not a report of the benchmark"))
    }

    /// Writes the report as JSON to `path`, and as a page beside it. A report that is there already is kept beside it as
    /// `….previous.json`.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        if path.exists() {
            let previous = path.with_extension("previous.json");
            fs::rename(path, &previous).with_context(|| format!("cannot write {}", previous.display()))?;
        }
        let text = serde_json::to_string_pretty(self).context("writing the report as JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        self.write_page(&path.with_extension("html"))
    }

    /// Writes the page.
    pub(super) fn write_page(&self, path: &Path) -> Result<()> {
        let page = html::page(self).context("drawing the report")?;
        fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
    }

    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let cpus = share(self.machine.cpus.max(1), 1);
        let load = self.conditions.load.0;
        if load > cpus / 2.0 {
            doubts.push(format!(
                "other programs were running: load {load:.2} on {cpus} processors at the start"
            ));
        }
        let judged = || self.figures.iter().filter(|figure| figure.rounds.len() > 1);
        let (noisy, all) = (judged().filter(|figure| figure.noisy).count(), judged().count());
        if noisy > 0 {
            let verdict = if share(noisy, all) > TOO_MANY_NOISY {
                "this run is too noisy to be believed"
            } else {
                "do not rely on those"
            };
            doubts.push(format!("{noisy} of {all} figures have rounds too far apart: {verdict}"));
        }
        if self.conditions.quick {
            doubts.push("a quick run: fewer samples and rounds, so wider intervals".to_owned());
        }
        doubts
    }
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
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
         wait for each other. Only where a measure is called so, the ends are two threads that wake each other up: \
         in turn on one processor, or apart on two. Lanes take turns within each round; ratios are taken within a round.",
        "Noise: a ratio is the median over the rounds, and its interval is where the true median lies with 95 % \
         confidence (with fewer than six rounds: the smallest and the largest). A figure is noisy if that is wider \
         than 10 % of a ratio or 30 % of another value. A goal is open if its bound lies within the interval.",
    ]
    .map(str::to_owned)
    .into()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::compare::Comparison;
    use super::*;
    use crate::bench::arguments::Arguments;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let report = sample::report(3, &[1, 1000]);
        report.write(&path).unwrap();
        let read = Report::read(&path).unwrap();
        assert_eq!((&read.machine, &read.conditions), (&report.machine, &report.conditions));
        // Not equal: numbers may differ in their last digit.
        let comparison = Comparison::of(&report, &read);
        assert_eq!((comparison.same, comparison.changes.len()), (report.figures.len(), 0));
        report.write(&path).unwrap();
        assert!(folder.path().join("report.previous.json").exists());
        assert!(folder.path().join("report.html").exists());
    }

    #[test]
    fn another_format_is_refused_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.json");
        fs::write(&path, r#"{"format": 1, "figures": [{"unit": "parsecs"}]}"#).unwrap();
        let error = Report::read(&path).unwrap_err().to_string();
        assert!(error.contains("old.json is a report of format 1"), "{error}");
    }

    #[test]
    fn a_machine_with_one_processor_says_what_is_missing() {
        let doubts = |measures: &str| {
            let own = std::env::current_exe().unwrap().display().to_string();
            let words = ["bench", "--shunt", &own, "--measures", measures];
            let mut plan = Arguments::try_parse_from(words).unwrap().plan().unwrap();
            plan.processors.second = None;
            let mut report = Report::new(&plan);
            report.finish();
            report.conditions.doubts.join("\n")
        };
        assert!(doubts("connect").contains("one processor"), "{}", doubts("connect"));
        assert!(!doubts("=connect,in turn").contains("one processor"));
    }

    #[test]
    fn a_noisy_run_says_so() {
        let mut report = sample::report(4, &[1, 1000]);
        assert_eq!(report.doubts(), Vec::<String>::new());
        for figure in &mut report.figures {
            figure.noisy = true;
        }
        report.conditions.load.0 = 7.5;
        report.conditions.quick = true;
        let doubts = report.doubts().join("\n");
        assert!(doubts.contains("too noisy to be believed"), "{doubts}");
        assert!(doubts.contains("load 7.50 on 2 processors"), "{doubts}");
        assert!(doubts.contains("quick"), "{doubts}");
    }
}
