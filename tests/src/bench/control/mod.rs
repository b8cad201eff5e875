//! The control plane: from a write to the API server to its effect on traffic, and what that costs.
//!
//! One network namespace stands for a node with all pods on it: every
//! endpoint address is local there, so one listener answers for all of them
//! and says, by the address a connection was accepted at, which endpoint was
//! reached ([`Probe`]). Each proxy and number of services gets a namespace of
//! its own ([`Scene`]) and goes through the same cases.

mod change;
mod churn;
mod floor;
mod moving;
mod new_service;
mod outage;
mod probe;
mod scene;
mod start;

use anyhow::{Context, Result};

use super::arguments::{ControlCase, Plan, Proxy};
use super::figure::{Figure, Key, Unit};
use super::terminal::Terminal;
use probe::Probe;
use scene::Scene;

/// What a case gets.
struct Case<'a> {
    plan: &'a Plan,
    proxy: &'a Proxy,
    services: usize,
    terminal: &'a Terminal,
    figures: Vec<Figure>,
}

impl Case<'_> {
    fn key(&self, measure: &str) -> Key {
        Key {
            section: "control plane".to_owned(),
            measure: measure.to_owned(),
            services: self.services,
            lane: self.proxy.lane.clone(),
        }
    }

    fn record(&mut self, figure: Figure) {
        self.terminal.figure(&figure);
        self.figures.push(figure);
    }

    fn single(&mut self, measure: &str, unit: Unit, value: f64) {
        self.record(Figure::single(self.key(measure), unit, value));
    }
}

/// Every proxy at every number of services.
pub(super) fn run(plan: &Plan, terminal: &Terminal) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for &services in &plan.services {
        let wanted = |proxy: &&Proxy| proxy.control && services <= proxy.up_to && plan.wants(&proxy.lane);
        for proxy in plan.proxies.iter().filter(wanted) {
            terminal.say(&format!("control plane, N = {services}, {}", proxy.lane));
            let case = Case { plan, proxy, services, terminal, figures: Vec::new() };
            let found = measure(case).with_context(|| format!("{} at N = {services}", proxy.lane))?;
            figures.extend(found);
        }
    }
    Ok(figures)
}

fn measure(mut case: Case<'_>) -> Result<Vec<Figure>> {
    let mut scene = Scene::create(case.services)?;
    // Sockets belong to the namespace and the cgroup of the thread that opens them.
    let namespace = std::sync::Arc::clone(scene.namespace());
    namespace.run(|| {
        scene.seat().enter()?;
        go_through(&mut case, &mut scene).with_context(|| format!("last words:\n{}", scene.last_words()))
    })??;
    Ok(case.figures)
}

fn go_through(case: &mut Case<'_>, scene: &mut Scene) -> Result<()> {
    let mut probe = Probe::open()?;
    start::measure(case, scene, &mut probe)?;
    let mut moving = moving::Moving::new(scene)?;
    for name in case.plan.cases.clone() {
        match name {
            ControlCase::Change => change::measure(case, scene, &mut probe, &mut moving)?,
            ControlCase::NewService => new_service::measure(case, scene, &mut probe)?,
            ControlCase::Churn => churn::measure(case, scene, &mut probe, &mut moving)?,
            ControlCase::Outage if !case.plan.outage_at.contains(&case.services) => {}
            ControlCase::Outage => outage::measure(case, scene, &mut probe, &mut moving)?,
        }
    }
    let usage = scene.proxy()?.usage()?;
    case.single("RSS at the end", Unit::Bytes, as_value(usage.resident));
    case.single("RSS peak", Unit::Bytes, as_value(usage.peak));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures of this size are exact enough")]
fn as_value(number: u64) -> f64 {
    number as f64
}

fn nanoseconds(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}
