//! All figures as a table for a terminal of 100 columns: a block for each
//! measure, a line for each lane, a column for each number of services.

use std::collections::BTreeSet;

use super::figure::Figure;
use super::goal::{Subject, Verdict};
use super::report::Report;
use super::show::{self, grouped, show};

/// For the names of lanes.
const LANE: usize = 27;
/// For a value with its ratio to direct and marks.
const CELL: usize = 18;
/// Columns beside each other.
const COLUMNS: usize = 4;

/// What the marks mean.
pub(super) const LEGEND: &str = "A ratio beside a value is to direct; two values are p50 / p99.\n\
    Floors: empty tcx programs; where connections are tracked, conntrack.\n\
    Goals: ✓ met, ✗ missed, ? open, within the noise. ~ rounds too far apart to say much.";

/// The lines of a section.
pub(super) fn section(report: &Report, section: &str) -> Vec<String> {
    let figures: Vec<_> = report.figures.iter().filter(|figure| figure.key.section == section).collect();
    let mut lines = Vec::new();
    for measure in in_order(figures.iter().map(|figure| figure.key.measure.as_str())) {
        let block: Vec<_> = figures.iter().copied().filter(|figure| figure.key.measure == measure).collect();
        let services: BTreeSet<_> = block.iter().map(|figure| figure.key.services).collect();
        for services in services.into_iter().collect::<Vec<_>>().chunks(COLUMNS) {
            lines.extend(heading(measure, services));
            lines.extend(rows(&block, services));
            lines.push(String::new());
        }
    }
    lines
}

/// Goals in numbers, and those that are missed.
pub(super) fn goals(report: &Report) -> Vec<String> {
    let mut lines = vec![format!("goals: {}", report.goals())];
    for figure in &report.figures {
        for goal in figure.goals.iter().filter(|goal| goal.verdict == Verdict::Missed) {
            let key = &figure.key;
            let (of, measured, bound) = goal.words(figure);
            lines.push(format!(
                "  missed: {}, N = {}, {}: {of} {measured}, goal {bound}",
                key.measure,
                grouped(key.services),
                key.lane
            ));
        }
    }
    lines
}

/// Each once, in the order of the first time.
pub(super) fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

/// One line, or two where the measure has a long name.
fn heading(measure: &str, services: &[usize]) -> Vec<String> {
    let columns: Vec<_> =
        services.iter().map(|services| format!("{:>CELL$}", format!("N = {}", grouped(*services)))).collect();
    let columns = columns.concat();
    let room = LANE + columns.len() - columns.trim_start().len();
    if measure.chars().count() < room {
        vec![format!("{measure:<room$}{}", columns.trim_start())]
    } else {
        vec![measure.to_owned(), format!("{:LANE$}{columns}", "")]
    }
}

fn rows(block: &[&Figure], services: &[usize]) -> Vec<String> {
    let mut lines = Vec::new();
    let related = block.iter().any(|figure| figure.ratio.is_some());
    for lane in in_order(block.iter().map(|figure| figure.key.lane.as_str())) {
        let at = |services: &usize| {
            block.iter().copied().find(|figure| figure.key.lane == lane && figure.key.services == *services)
        };
        let figures: Vec<_> = services.iter().map(at).collect();
        let cells =
            figures.iter().map(|figure| figure.map(|figure| cell(figure, related)).unwrap_or_default());
        lines.push(row(lane, cells));
        for (name, relation) in RELATIONS {
            let cells: Vec<_> = figures.iter().map(|figure| figure.and_then(relation)).collect();
            if cells.iter().any(Option::is_some) {
                lines.push(row(name, cells.into_iter().map(Option::unwrap_or_default)));
            }
        }
    }
    lines
}

fn row(name: &str, cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<_> = cells.map(|cell| format!("{cell:>CELL$}")).collect();
    format!(" {name:<width$}{}", cells.concat(), width = LANE - 1).trim_end().to_owned()
}

/// `related`: others in this block have ratios.
fn cell(figure: &Figure, related: bool) -> String {
    let value = show(figure.unit, figure.value);
    let mark = mark(figure, |of| !matches!(of, Subject::Floor | Subject::Peer));
    match (figure.ratio, figure.p99) {
        (Some(ratio), _) => {
            format!("{value} {:>5}{}{mark}", show::ratio(ratio.median), wave(ratio.is_noisy()))
        }
        (None, _) if related => format!("{value}{}      {mark}", wave(figure.noisy)),
        (None, Some(p99)) => format!("{}{mark}", pair(&value, &show(figure.unit, p99))),
        (None, None) => format!("{value}{}{mark}", wave(figure.noisy)),
    }
}

/// The unit once, if it is the same.
fn pair(value: &str, tail: &str) -> String {
    match (value.split_once(' '), tail.split_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number} / {tail}"),
        _ => format!("{value} / {tail}"),
    }
}

/// How a figure stands beside a lane that is not direct.
type Relation = fn(&Figure) -> Option<String>;

/// What stands below a lane that is compared with others than direct.
const RELATIONS: [(&str, Relation); 2] = [("  / its floor", floor), ("  / kube-proxy's nftables", peer)];

fn floor(figure: &Figure) -> Option<String> {
    let ratio = figure.floor?;
    let mark = mark(figure, |of| of == Subject::Floor);
    Some(format!("{}{}{mark}", show::ratio(ratio.median), wave(ratio.is_noisy())))
}

fn peer(figure: &Figure) -> Option<String> {
    let ratio = figure.peer?;
    let mark = mark(figure, |of| of == Subject::Peer);
    Some(format!("{}{}{mark}", show::ratio(ratio.median), wave(ratio.is_noisy())))
}

const fn wave(noisy: bool) -> char {
    if noisy { '~' } else { ' ' }
}

fn mark(figure: &Figure, wanted: impl Fn(Subject) -> bool) -> char {
    let verdict = figure.goals.iter().filter(|goal| wanted(goal.of)).map(|goal| goal.verdict).max();
    verdict.map_or(' ', Verdict::mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::sample;

    #[test]
    fn seven_lanes_at_four_numbers_of_services_fit_on_a_terminal() {
        let report = sample::report(7, &[1, 1000, 10_000, 30_000]);
        let lines = ["control plane", "datapath"].into_iter().flat_map(|name| section(&report, name));
        let lines: Vec<_> = lines.chain(LEGEND.lines().map(str::to_owned)).collect();
        assert!(lines.len() > 60, "{} lines", lines.len());
        for line in lines {
            assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
        }
    }

    #[test]
    fn values_stand_below_their_number_of_services() {
        let lines = section(&sample::report(3, &[1, 1000]), "datapath");
        let (heading, first) = (&lines[0], &lines[1]);
        assert_eq!(heading, "connect                                 N = 1         N = 1,000");
        assert!(first.starts_with(" direct"), "{first}");
        assert!(first.chars().count() <= heading.chars().count(), "{first}");
    }

    #[test]
    fn a_unit_is_told_once() {
        assert_eq!(pair("1.25 ms", "1.47 ms"), "1.25 / 1.47 ms");
        assert_eq!(pair("419 µs", "1.47 ms"), "419 µs / 1.47 ms");
    }

    #[test]
    fn a_missed_goal_is_told_in_words() {
        let mut report = sample::report(2, &[1]);
        let figure = report.figures.iter_mut().find(|figure| figure.ratio.is_some()).unwrap();
        figure.judge(vec![crate::bench::Goal::new(Subject::Direct, 0.5)]);
        let lines = goals(&report);
        assert!(lines.iter().any(|line| line.contains("missed: connect, N = 1, ")), "{lines:?}");
        assert!(lines.iter().any(|line| line.ends_with("goal at most 0.50")), "{lines:?}");
    }
}
