//! The benchmark: what shunt costs beside plain routing and beside kube-proxy.
//!
//! Three parts, each a folder. `control` starts the real agent against the
//! API server of [`crate::apiserver`] and measures how long changes take, and
//! what they cost. `datapath` sends real packets through namespaces, one
//! set of them per *lane* (a way to reach the same pod), interleaved, and
//! compares each lane with plain routing in the same round. `packets` runs the BPF programs of a real agent on crafted
//! packets and counts nanoseconds.
//!
//! All results are [`Figure`]s in one flat list, keyed by lane, number of
//! services and measure, with the conditions of the run beside them
//! ([`Report`]); tables, the page with its plots and comparisons are made from that.

mod arguments;
mod control;
mod cpu;
mod datapath;
mod figure;
mod goal;
mod machine;
mod objects;
mod packets;
mod processors;
mod program;
mod report;
mod samples;
mod seat;
mod server;
mod show;
mod statistics;
mod table;
mod targets;
mod terminal;

pub use arguments::Arguments;
pub use figure::{Figure, Key, Ratio, Unit};
pub use goal::{Goal, Subject, Verdict};
pub use machine::Machine;
pub use report::{Conditions, Report};

use std::process::ExitCode;

use anyhow::{Context, Result};

use arguments::Plan;
use terminal::Terminal;

/// `--compare` found something of shunt's that got worse. An error is 1, wrong arguments are 2.
const WORSE: u8 = 3;

/// Does what the arguments ask for: measures, or looks at reports.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some((old, new)) = arguments.compared() {
        let worse = report::print_changes(&old, &new)?;
        return Ok(if worse { ExitCode::from(WORSE) } else { ExitCode::SUCCESS });
    }
    if let Some(path) = arguments.drawn() {
        let page = path.with_extension("html");
        Report::read(path)?.write_page(&page)?;
        Terminal::new().say(&format!("written: {}", page.display()));
        return Ok(ExitCode::SUCCESS);
    }
    measure(&arguments.plan()?)?;
    Ok(ExitCode::SUCCESS)
}

/// Measures, prints tables, writes the report.
fn measure(plan: &Plan) -> Result<()> {
    let terminal = Terminal::new();
    let mut report = Report::new(plan);
    terminal.say(&report.headline());
    if plan.control_plane {
        let figures = control::run(plan, &terminal).context("control plane")?;
        report.add(figures);
    }
    if plan.datapath {
        let figures = datapath::run(plan, &terminal).context("datapath")?;
        report.add(figures);
    }
    if plan.per_packet {
        let figures = packets::run(plan, &terminal).context("per packet")?;
        report.add(figures);
    }
    report.finish();
    Terminal::table(&report);
    report.write(&plan.output)?;
    terminal.say(&format!(
        "written: {}, {}",
        plan.output.display(),
        plan.output.with_extension("html").display()
    ));
    Ok(())
}
