//! The datapath: what each way to reach a pod costs per connection.
//!
//! A [`Lane`] is a set of machines of its own ([`Site`]) and something that
//! programs its node: nothing (*direct*), a proxy, or a ruleset laid out like
//! kube-proxy's. All lanes exist at the same time; each round goes through
//! every measure, and within a measure through the lanes, in an order that
//! turns with the rounds. Ratios are taken between neighbours in time.

mod bulk;
mod conversation;
mod empty_programs;
mod iptables_layout;
mod lane;
mod measure;
mod nftables_layout;
mod runs;
mod site;
mod two_threads;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context, Result};

use super::arguments::Plan;
use super::figure::{Figure, Key, Ratio, Unit, median};
use super::machine;
use super::samples::Samples;
use super::terminal::Terminal;
use lane::Lane;
use measure::{Block, MEASURES, Measure};

/// Whether a plan has measures in it that take a second processor, and there is none.
pub(super) fn lacks_a_processor(plan: &Plan) -> bool {
    let wanted = MEASURES.iter().filter(|measure| plan.datapath && plan.wants_measure(measure.name));
    plan.processors.second.is_none() && wanted.into_iter().any(Measure::is_apart)
}

/// The lane all others are compared with.
const DIRECT: &str = "direct";
/// Plain routing with connection tracking: the floor for lanes that need it.
const CONNTRACK: &str = "conntrack";
/// The lane that is compared with that floor.
const TRACKING: &str = "shunt ebpf, masquerading";
/// How the names of lanes with programs on every interface begin: their floor is that of programs that do nothing.
const WITH_PROGRAMS: &str = "shunt ebpf";
/// kube-proxy's nftables mode, the program and its layout: shunt is compared with the first that is there.
const PEERS: [&str; 2] = ["kube-proxy nftables", nftables_layout::LANE];
/// Measures that would show a cost per service.
const GROWING: [&str; 3] = ["connect", "UDP exchange", "NodePort connect, local endpoint"];

/// Every lane at every number of services.
pub(super) fn run(plan: &Plan, terminal: &Terminal) -> Result<Vec<Figure>> {
    let mut lanes = lane::all(plan)?;
    let mut figures = Vec::new();
    for &services in &plan.services {
        for lane in lanes.iter_mut().filter(|lane| lane.bears(services)) {
            terminal.say(&format!("datapath, N = {services}: programming {}", lane.name()));
            lane.program(services).with_context(|| format!("{} at N = {services}", lane.name()))?;
        }
        let mut collected = Collected::default();
        let before = machine::load().0;
        let begun = Instant::now();
        for round in 0..plan.rounds {
            terminal.step(begun, round, plan.rounds, &format!("datapath, N = {services}: round"));
            for measure in MEASURES.iter().filter(|measure| measure.is_taken(plan)) {
                // No lane is always the first.
                let shift = round % lanes.len().max(1);
                let turn = lanes.iter().cycle().skip(shift).take(lanes.len());
                for lane in turn.filter(|lane| lane.serves(measure.route) && lane.bears(services)) {
                    let named = || format!("{}: {}", lane.name(), measure.name);
                    let block = measure.run(lane, plan).or_else(|error| {
                        // Once may be an accident; it is told, and counted.
                        terminal.say(&format!("again: {}: {error:#}", named()));
                        collected.fail(lane);
                        measure.run(lane, plan)
                    });
                    collected.add(measure, lane, block.with_context(named)?)?;
                }
            }
        }
        lanes.iter_mut().try_for_each(Lane::check)?;
        let load = (before, machine::load().0);
        figures.extend(collected.figures(services, &lanes, load));
        figures.extend(runs::figures(plan, &lanes, services)?);
    }
    let growth = growth(&figures);
    Ok(figures.into_iter().chain(growth).collect())
}

/// How the ratio to plain routing at the largest number of services relates to that at the smallest.
fn growth(figures: &[Figure]) -> Vec<Figure> {
    let mut growth = Vec::new();
    for first in figures.iter().filter(|figure| GROWING.contains(&figure.key.measure.as_str())) {
        let same =
            |figure: &&Figure| figure.key.measure == first.key.measure && figure.key.lane == first.key.lane;
        let services = |figure: &&Figure| figure.key.services;
        let (least, most) = (
            figures.iter().filter(same).min_by_key(services),
            figures.iter().filter(same).max_by_key(services),
        );
        let (Some(least), Some(most)) = (least, most) else { continue };
        let (Some(few), Some(many)) = (least.ratio, most.ratio) else { continue };
        if least.key == first.key && most.key != first.key {
            let measure = format!("growth of {}", first.key.measure);
            let key = Key { measure, ..most.key.clone() };
            let interval = Some((many.interval.0 / few.interval.1, many.interval.1 / few.interval.0));
            growth.push(Figure { interval, ..Figure::single(key, Unit::Ratio, many.median / few.median) });
        }
    }
    growth
}

/// Result that is there only if something failed.
const FAILED: &str = "blocks in which a conversation failed";

/// What has come out so far, at one number of services.
#[derive(Default)]
struct Collected {
    /// By measure and lane.
    rounds: BTreeMap<(&'static str, String), Rounds>,
    /// Blocks that had to be repeated, by lane.
    failed: BTreeMap<String, u32>,
}

/// What one lane did in all rounds so far.
struct Rounds {
    unit: Unit,
    values: Vec<f64>,
    samples: Option<Samples>,
}

impl Collected {
    fn fail(&mut self, lane: &Lane) {
        *self.failed.entry(lane.name().to_owned()).or_default() += 1;
    }

    fn add(&mut self, measure: &'static Measure, lane: &Lane, block: Block) -> Result<()> {
        for (name, unit, value, samples) in block.values(measure) {
            let entry = self.rounds.entry((name, lane.name().to_owned()));
            let rounds = entry.or_insert_with(|| Rounds { unit, values: Vec::new(), samples: None });
            rounds.values.push(value);
            match (&mut rounds.samples, samples) {
                (Some(all), Some(samples)) => all.merge(&samples)?,
                (all, samples) => *all = samples,
            }
        }
        Ok(())
    }

    fn figures(&self, services: usize, lanes: &[Lane], load: (f64, f64)) -> Vec<Figure> {
        let names = MEASURES.iter().flat_map(Measure::results);
        let wanted = names.flat_map(|name| lanes.iter().map(move |lane| (name, lane)));
        let figures = wanted.filter_map(|(name, lane)| {
            let figure = self.figure(services, name, lane.name())?;
            let rounds = figure.rounds.len();
            let conditions =
                format!("{rounds} rounds; {}; load {:.1} to {:.1}", lane.conditions(), load.0, load.1);
            Some(Figure { conditions, ..figure })
        });
        let failed = self.failed.iter().map(|(lane, count)| {
            let key = Key {
                section: "datapath".to_owned(),
                measure: FAILED.to_owned(),
                services,
                lane: lane.clone(),
            };
            Figure::single(key, Unit::Count, f64::from(*count))
        });
        figures.chain(failed).collect()
    }

    fn figure(&self, services: usize, measure: &'static str, lane: &str) -> Option<Figure> {
        let rounds = self.rounds.get(&(measure, lane.to_owned()))?;
        let key = Key {
            section: "datapath".to_owned(),
            measure: measure.to_owned(),
            services,
            lane: lane.to_owned(),
        };
        let value = median(&rounds.values);
        let mut figure = match &rounds.samples {
            Some(samples) => Figure { value, ..Figure::durations(key, samples) },
            None => Figure::rounds(key, rounds.unit, rounds.values.clone()),
        };
        figure.rounds.clone_from(&rounds.values);
        let of = |lane: &str| self.rounds.get(&(measure, lane.to_owned()));
        figure.ratio = of(DIRECT).filter(|_| lane != DIRECT).map(|direct| rounds.relative_to(direct));
        let floor = match lane {
            TRACKING => of(CONNTRACK),
            _ if lane.starts_with(WITH_PROGRAMS) => of(empty_programs::LANE),
            _ => None,
        };
        figure.floor = floor.map(|floor| rounds.relative_to(floor));
        let peer = PEERS.into_iter().find_map(of).filter(|_| lane.starts_with("shunt"));
        figure.peer = peer.map(|peer| rounds.relative_to(peer));
        Some(figure)
    }
}

/// A line of a ruleset.
fn add_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    if text.write_fmt(line).is_ok() {
        text.push('\n');
    }
}

impl Rounds {
    /// Round by round.
    fn relative_to(&self, other: &Self) -> Ratio {
        Ratio::between(&self.values, &other.values)
    }
}
