//! The agent in each mode, with the same cases.

use anyhow::{Result, ensure};
use shunt::kernel::probe::{Need, ProbeOptions, probe_kernel};

use super::cases::{CASES, objects};
use super::kinds;
use super::node::Scene;
use super::report::Report;
use crate::Mode;

/// A line for each case and mode.
pub(super) fn run_all(report: &mut Report) -> Result<()> {
    let mut scene = Scene::create()?;
    for mode in Mode::ALL {
        let outcome = run(report, &mut scene, mode);
        if let Err(error) = outcome {
            report.failed(mode.name(), "agent", &format!("{error:#}"));
        }
    }
    Ok(())
}

fn run(report: &mut Report, scene: &mut Scene, mode: Mode) -> Result<()> {
    let objects = objects(scene)?;
    scene.apply(objects)?;
    scene.start(mode)?;
    if cases(report, scene, mode) {
        kinds::run(report, scene, mode);
    }
    if mode == Mode::Ebpf {
        report.outcome(mode.name(), "sockets are balanced", &sockets_are_balanced(scene));
    }
    if mode.is_ebpf() {
        report.outcome(mode.name(), "what the kernel lacks is named", &lacks_are_named(scene, mode));
    }
    tell(report, scene, mode);
    report.outcome(mode.name(), "stop", &scene.stop().map(|()| String::new()));
    report.outcome(mode.name(), "cleanup", &clean_up(scene));
    Ok(())
}

/// Whether anybody answered: otherwise there is nothing to see.
fn cases(report: &mut Report, scene: &mut Scene, mode: Mode) -> bool {
    for (number, (name, case)) in CASES.iter().enumerate() {
        let outcome = case(scene);
        report.outcome(mode.name(), name, &outcome);
        if number == 0 && outcome.is_err() {
            return false;
        }
    }
    true
}

/// Without, the same answers would have come by translated packets.
fn sockets_are_balanced(scene: &Scene) -> Result<String> {
    let metrics = scene.metrics()?;
    let count = |event| metrics.count("shunt_datapath_events_total", &[("event", event)]);
    let (connected, sent) = (count("socket_connect"), count("socket_send"));
    ensure!(
        connected > 0.0 && sent > 0.0,
        "{connected} sockets were connected to backends, {sent} datagrams sent"
    );
    Ok(format!("{connected} connected, {sent} datagrams"))
}

/// Of everything there is another way for, the agent says that it is done that way, also if nobody left it the choice.
fn lacks_are_named(scene: &Scene, mode: Mode) -> Result<String> {
    let status = scene.shunt(&["status"])?;
    let degraded: Vec<&str> = status.lines().filter(|line| line.starts_with("degraded: ")).collect();
    let probed = probe_kernel(&ProbeOptions::default());
    let mut lacking = probed.replaced(Need::Datapath).collect::<Vec<_>>();
    if mode == Mode::Ebpf {
        lacking.extend(probed.replaced(Need::SocketLb));
    }
    for feature in &lacking {
        let word = feature.name.split(' ').next().unwrap_or_default();
        ensure!(
            degraded.iter().any(|line| line.contains(word)),
            "{} is missing, and not in {degraded:?}",
            feature.name
        );
    }
    Ok(format!("{} of {} shortcomings", lacking.len(), degraded.len()))
}

/// What the agent says itself about this kernel.
fn tell(report: &mut Report, scene: &Scene, mode: Mode) {
    match scene.shunt(&["status"]) {
        Ok(status) => {
            let telling = ["mode ", "note: ", "degraded: ", "kernel: ", "refused "];
            let tells = |line: &&str| telling.iter().any(|start| line.starts_with(start));
            for line in status.lines().filter(tells) {
                report.note(mode.name(), "status", line);
            }
        }
        Err(error) => report.failed(mode.name(), "status", &format!("{error:#}")),
    }
    for warning in scene.warnings() {
        report.note(mode.name(), "log", &warning);
    }
}

fn clean_up(scene: &Scene) -> Result<String> {
    scene.shunt(&["cleanup"])?;
    let rules = scene.output("nft", &["list", "ruleset"])?;
    ensure!(!rules.contains("shunt"), "left in nftables: {rules}");
    let qdiscs = scene.output("tc", &["qdisc", "show"])?;
    let filters = qdiscs.lines().filter(|line| line.contains("clsact")).collect::<Vec<_>>();
    ensure!(filters.is_empty(), "left: {filters:?}");
    Ok("no rules, no queueing disciplines left".to_owned())
}
