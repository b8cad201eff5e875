//! `cargo xtask demo`: a small cluster in network namespaces, with the agent on its nodes.
//!
//! Services of each type are created through the API, real requests are sent, and the terminal shows where each
//! went. Everything that is shown is checked: the demo fails when something did not happen as it should.

mod agent;
mod arguments;
mod control;
mod controller;
mod explain;
mod keep;
mod lines;
mod machines;
mod names;
mod objects;
mod report;
mod restart;
mod rolling;
mod stage;
mod stream;
mod tally;
mod terminal;
mod tour_external;
mod tour_internal;
mod web;

use std::process::ExitCode;

use anyhow::Result;

use arguments::Settings;
use report::Report;
use stage::Stage;
use terminal::{Style, Terminal};

/// Parses the arguments, runs the demo, and says how it went.
pub fn main() -> ExitCode {
    let terminal = Terminal::new();
    let settings = match Settings::from_arguments(std::env::args_os().skip(1)) {
        Ok(settings) => settings,
        Err(error) => return fail(&terminal, &error),
    };
    match run(&settings, terminal) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&Terminal::new(), &error),
    }
}

#[expect(clippy::print_stderr, reason = "the demo talks to the person at the terminal")]
fn fail(terminal: &Terminal, error: &anyhow::Error) -> ExitCode {
    let text = terminal.styled(Style::Bad, "the demo failed:");
    eprintln!("\n{text} {error:#}");
    ExitCode::FAILURE
}

/// One part of the demo.
type Part = fn(&mut Stage) -> Result<()>;

const PARTS: [Part; 12] = [
    tour_internal::cluster_ip,
    tour_internal::no_endpoints,
    tour_internal::affinity,
    tour_internal::local_internal_policy,
    tour_internal::dns,
    tour_external::node_ports,
    tour_external::load_balancers,
    tour_external::external_ips,
    tour_internal::headless,
    explain::explain,
    rolling::rolling_update,
    restart::restart,
];

/// The whole demo; returns whether every claim held.
fn run(settings: &Settings, terminal: Terminal) -> Result<bool> {
    terminal.heading("A small cluster on this machine");
    let mut stage = Stage::set(settings, terminal)?;
    for part in PARTS {
        part(&mut stage)?;
    }
    stage.check_agents()?;
    let all_well = summary(&stage);
    if settings.keep {
        keep::wait(&mut stage)?;
    }
    drop(stage);
    Ok(all_well)
}

fn summary(stage: &Stage) -> bool {
    let Stage { terminal, report, .. } = stage;
    let Report { requests, .. } = report;
    let failures = report.failures();
    terminal.heading("Summary");
    terminal.verdict(
        failures.is_empty(),
        &format!(
            "{} of {} claims held, {requests} requests, {:.0} s",
            report.held(),
            report.held() + failures.len(),
            terminal.elapsed().as_secs_f64()
        ),
    );
    for failure in failures {
        terminal.verdict(false, failure);
    }
    failures.is_empty()
}
