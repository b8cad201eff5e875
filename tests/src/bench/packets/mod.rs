//! Nanoseconds of the BPF programs per packet: those that a real agent has attached, with its maps, run on packets that
//! nobody sends (`BPF_PROG_TEST_RUN`), beside a program that does nothing.
//!
//! *Hot* runs repeat one packet within one test run; the packet has to come out as it went in. *Single* runs have a fresh
//! packet each, and the clock's own cost in them; going through 100,000 flows in no order, each finds its flow outside of
//! the processor's caches.

mod cases;
mod packet;
mod scene;

use anyhow::{Context, Result};

use super::arguments::Plan;
use super::figure::{Figure, Key, Unit, median};
use super::terminal::Terminal;
use packet::Family;
use scene::Scene;

/// Both families, at the smallest and the largest number of services; in a quick run, at the largest.
pub(super) fn run(plan: &Plan, terminal: &Terminal) -> Result<Vec<Figure>> {
    let least = plan.services.first().filter(|_| !plan.quick);
    let mut sizes: Vec<_> = least.into_iter().chain(plan.services.last()).copied().collect();
    sizes.dedup();
    let Some(proxy) = plan.proxies.iter().find(|proxy| proxy.mode == "ebpf" && !proxy.socket_lb) else {
        return Ok(Vec::new());
    };
    let mut figures = Vec::new();
    for family in [Family::V4, Family::V6] {
        for services in sizes.iter().copied() {
            terminal.say(&format!("per packet, N = {services}, {}", family.name()));
            let named = || format!("{} at N = {services}", family.name());
            let scene = Scene::create(plan, proxy, family, services).with_context(named)?;
            for measured in scene.within(|| cases::measure(&scene, services)).with_context(named)? {
                let figure = measured.figure(family, services);
                terminal.figure(&figure);
                figures.push(figure);
            }
        }
    }
    Ok(figures)
}

/// Lanes: one packet again and again, hot; the same, a fresh packet each time; packets of many flows.
pub(super) const ONE_HOT: &str = "one flow";
const ONE_SINGLE: &str = "one flow, single";
const MANY: &str = "100,000 flows";

/// How a case was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Hot,
    Single,
}

/// What a case came to, in nanoseconds, series by series.
#[derive(Debug)]
struct Measured {
    name: String,
    /// How many flows, and how they were gone through.
    flows: &'static str,
    manner: Manner,
    /// Medians of the series, net of the empty program just before.
    net: Vec<f64>,
    /// The same of the empty program.
    empty: Vec<f64>,
    samples: u64,
}

impl Measured {
    fn new(name: &str, flows: &'static str, manner: Manner) -> Self {
        Self { name: name.to_owned(), flows, manner, net: Vec::new(), empty: Vec::new(), samples: 0 }
    }

    fn add(&mut self, gross: f64, empty: f64, samples: u64) {
        self.net.push((gross - empty).round());
        self.empty.push(empty);
        self.samples += samples;
    }

    fn figure(self, family: Family, services: usize) -> Figure {
        let key = Key {
            section: "per packet".to_owned(),
            measure: format!("{}, {}", self.name, family.name()),
            services,
            lane: self.flows.to_owned(),
        };
        let empty = median(&self.empty);
        let manner = match self.manner {
            Manner::Hot => "many runs on one packet",
            Manner::Single => "one run a packet",
        };
        Figure {
            samples: self.samples,
            conditions: format!("{manner}, net of the empty program's {empty:.0} ns"),
            rounds: self.net.clone(),
            ..Figure::single(key, Unit::Nanoseconds, median(&self.net))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_net_of_the_empty_program_just_before_it() {
        let mut measured = Measured::new("reply", MANY, Manner::Single);
        for (gross, empty) in [(130.0, 50.0), (170.0, 80.0), (150.0, 60.0)] {
            measured.add(gross, empty, 1000);
        }
        let figure = measured.figure(Family::V6, 10);
        assert_eq!((figure.value, figure.samples), (90.0, 3000));
        assert_eq!(figure.rounds, [80.0, 90.0, 90.0]);
        assert_eq!((figure.key.measure.as_str(), figure.key.lane.as_str()), ("reply, IPv6", MANY));
        assert!(figure.conditions.contains("60 ns"), "{}", figure.conditions);
    }
}
