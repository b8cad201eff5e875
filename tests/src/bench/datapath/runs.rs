//! How often BPF programs run in traffic, and for how long, as the kernel counts it.
//!
//! Counting takes time itself, so this is done after the lanes were timed, and times are net of what the kernel counts for
//! a program that returns at once. Programs that another one continues in are part of its run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};

use super::lane::Lane;
use super::measure::{Block, MEASURES, Measure, WARM_UP};
use crate::bench::arguments::Plan;
use crate::bench::figure::{Figure, Key, Unit};

/// Name of the section.
const SECTION: &str = "programs in traffic";
/// The conversations that are looked at.
const COUNTED: [&str; 5] = ["connect", "CRR", "RR", "UDP exchange", "NodePort connect, local endpoint"];

/// Runs of a program so far, and the nanoseconds they took.
#[derive(Debug, Clone, Copy, Default)]
struct Runs {
    count: u64,
    nanoseconds: u64,
}

/// Every program of every lane that has some, in every kind of conversation.
pub(super) fn figures(plan: &Plan, lanes: &[Lane], services: usize) -> Result<Vec<Figure>> {
    // The kernel counts until this is closed.
    let _counting = enable_stats(Stats::RunTime).context("having the kernel count runs of programs")?;
    let names = names();
    let mut figures = Vec::new();
    let wanted = |name| COUNTED.contains(&name) && plan.wants_measure(name);
    for measure in MEASURES.iter().filter(|measure| wanted(measure.name)) {
        let mut clock = 0.0;
        for lane in lanes.iter().filter(|lane| lane.serves(measure.route) && lane.bears(services)) {
            let Some(process) = lane.holder_of_programs() else { continue };
            let before = of_process(process)?;
            let conversations = converse(measure, lane, plan)?;
            let after = of_process(process)?.into_iter();
            let since = after.map(|(id, now)| (id, now.since(before.get(&id).copied().unwrap_or_default())));
            // The agent runs some for itself.
            let programs: Vec<_> = since.filter(|(_, runs)| runs.count >= conversations / 2).collect();
            if lane.is_empty() {
                clock = programs.last().map_or(clock, |(_, runs)| runs.mean());
            }
            let key = |name: &str| Key {
                section: SECTION.to_owned(),
                measure: format!("{}: {name}", measure.name),
                services,
                lane: lane.name().to_owned(),
            };
            for (id, runs) in &programs {
                let name = names.get(id).map_or("?", String::as_str);
                figures.extend(runs.figures(key, name, clock, conversations));
            }
            if !lane.is_empty() && !programs.is_empty() {
                figures.push(sum(key("programs, sum"), &programs, clock, conversations));
            }
        }
    }
    Ok(figures)
}

/// One block of conversations; how many there were.
fn converse(measure: &Measure, lane: &Lane, plan: &Plan) -> Result<u64> {
    let named = || format!("{}: {}, counted", lane.name(), measure.name);
    let block = measure.run(lane, plan).with_context(named)?;
    let Block::Times(samples) = block else { return Ok(0) };
    Ok(samples.count() + u64::try_from(WARM_UP)?)
}

impl Runs {
    const fn since(self, before: Self) -> Self {
        Self {
            count: self.count.saturating_sub(before.count),
            nanoseconds: self.nanoseconds.saturating_sub(before.nanoseconds),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a second")]
    fn mean(self) -> f64 {
        self.nanoseconds as f64 / self.count.max(1) as f64
    }

    /// How often it runs in a conversation.
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    fn each(self, conversations: u64) -> f64 {
        self.count as f64 / conversations.max(1) as f64
    }

    /// Nanoseconds of a run. `clock` is what the kernel counts for a run of a program that returns at once.
    fn net(self, clock: f64) -> f64 {
        (self.mean() - clock).max(0.0)
    }

    /// Nanoseconds of a run, and runs in a conversation.
    fn figures(self, key: impl Fn(&str) -> Key, name: &str, clock: f64, conversations: u64) -> [Figure; 2] {
        let (each, net) = (self.each(conversations), self.net(clock));
        let conditions =
            format!("{each:.1} runs a conversation, {:.0} ns in all; net of {clock:.0} ns a run", each * net);
        let figure = |name: &str, unit, value| Figure {
            samples: self.count,
            conditions: conditions.clone(),
            ..Figure::single(key(name), unit, value)
        };
        [figure(name, Unit::Nanoseconds, net), figure(&format!("{name}, runs"), Unit::Ratio, each)]
    }
}

/// Nanoseconds that all programs take of a conversation.
fn sum(key: Key, programs: &[(u32, Runs)], clock: f64, conversations: u64) -> Figure {
    let all = programs.iter().map(|(_, runs)| runs.each(conversations) * runs.net(clock)).sum();
    Figure {
        samples: conversations,
        conditions: format!("all programs in a conversation; net of {clock:.0} ns a run"),
        ..Figure::single(key, Unit::Nanoseconds, all)
    }
}

/// Programs that a process holds, by their ids.
fn of_process(process: u32) -> Result<BTreeMap<u32, Runs>> {
    let folder = Path::new("/proc").join(process.to_string()).join("fdinfo");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    // Descriptors come and go.
    let texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
    Ok(texts.filter_map(|text| parse(&text)).collect())
}

/// Id and runs, if the text is about a program.
fn parse(text: &str) -> Option<(u32, Runs)> {
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().parse().ok()
    };
    let id = u32::try_from(field("prog_id")?).ok()?;
    Some((id, Runs { count: field("run_cnt")?, nanoseconds: field("run_time_ns")? }))
}

/// Names of all programs by their ids.
fn names() -> BTreeMap<u32, String> {
    let programs = loaded_programs().filter_map(Result::ok);
    programs.filter_map(|program| Some((program.id(), program.name_as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "pos:\t0\nlink_type:\ttcx\nlink_id:\t4\nprog_tag:\tabc\nprog_id:\t77\nifindex:\t2\n";
    const PROGRAM: &str = "pos:\t0\nprog_type:\t3\nprog_jited:\t1\nprog_tag:\t6deef7357e7b4530\nmemlock:\t4096\nprog_id:\t77\n\
                           run_time_ns:\t9000\nrun_cnt:\t100\nrecursion_misses:\t0\nverified_insns:\t9\n";

    #[test]
    fn descriptors_of_programs_tell_their_runs_and_those_of_links_do_not() {
        let (id, runs) = parse(PROGRAM).unwrap();
        assert_eq!((id, runs.count, runs.nanoseconds), (77, 100, 9000));
        assert!(parse(LINK).is_none());
    }

    #[test]
    fn runs_are_net_of_the_clock_and_told_for_a_conversation() {
        let (_, runs) = parse(PROGRAM).unwrap();
        let before = Runs { count: 40, nanoseconds: 3000 };
        let [time, number] = runs.since(before).figures(key, "program", 30.0, 10);
        assert_eq!((time.key.measure.as_str(), number.key.measure.as_str()), ("program", "program, runs"));
        assert!((time.value - 70.0).abs() < 1e-9, "{}", time.value);
        assert!((number.value - 6.0).abs() < 1e-9, "{}", number.value);
        assert!(time.conditions.starts_with("6.0 runs a conversation, 420 ns"), "{}", time.conditions);
    }

    #[test]
    fn the_sum_is_of_all_runs_in_a_conversation() {
        let fast = Runs { count: 30, nanoseconds: 30 * 50 };
        let slow = Runs { count: 10, nanoseconds: 10 * 530 };
        let faster_than_the_clock = Runs { count: 10, nanoseconds: 100 };
        let programs = [(1, fast), (2, slow), (3, faster_than_the_clock)];
        let sum = sum(key("sum"), &programs, 30.0, 10);
        assert!((sum.value - (3.0 * 20.0 + 500.0)).abs() < 1e-9, "{}", sum.value);
    }

    fn key(measure: &str) -> Key {
        Key { section: String::new(), measure: measure.to_owned(), services: 1, lane: String::new() }
    }
}
