//! Tables of the page.

use std::collections::BTreeSet;

use super::Report;
use super::html::{element, escaped};
use crate::bench::figure::{Figure, Key, Ratio};
use crate::bench::goal::{Goal, Subject, Verdict};
use crate::bench::show::{self, grouped, show};
use crate::bench::table::in_order;

/// Goals: those that are missed, and folded away the others.
pub(super) fn goals(report: &Report) -> String {
    let all = || report.figures.iter().flat_map(|figure| figure.goals.iter().map(move |goal| (figure, goal)));
    let of = |verdict| all().filter(move |(_, goal)| goal.verdict == verdict);
    let names = ["measure", "services", "lane", "of", "measured", "goal", ""];
    let missed: Vec<_> = of(Verdict::Missed).map(goal).collect();
    let missed = if missed.is_empty() { String::new() } else { table(&names, missed.into_iter()) };
    let others = [(Verdict::Open, "open, their bound lies within the noise"), (Verdict::Met, "met")];
    let others = others.into_iter().map(|(verdict, words)| match of(verdict).count() {
        0 => String::new(),
        count => folded(&format!("{count} {words}"), false, &table(&names, of(verdict).map(goal))),
    });
    let others: String = others.collect();
    if missed.is_empty() && others.is_empty() {
        return String::new();
    }
    format!("<section><h2>Goals</h2>{missed}{others}</section>")
}

fn goal((figure, goal): (&Figure, &Goal)) -> String {
    let (of, measured, bound) = goal.words(figure);
    let key = &figure.key;
    let cells = [grouped(key.services).as_str(), &key.lane, of, &measured, &bound]
        .map(|cell| element("td", &escaped(cell)));
    let verdict = format!("<td class=\"{0}\">{1} {0}</td>", goal.verdict.word(), goal.verdict.mark());
    row(&[&key.measure], cells.into_iter().chain([verdict]))
}

/// Ratios to direct, a table for each number of services; the largest is open.
pub(super) fn ratios(report: &Report) -> String {
    let related: Vec<_> = report.figures.iter().filter(|figure| figure.ratio.is_some()).collect();
    let lanes = in_order(related.iter().map(|figure| figure.key.lane.as_str()));
    let services: BTreeSet<_> = related.iter().map(|figure| figure.key.services).collect();
    let table = |count: &usize| {
        let rows =
            in_order(related.iter().map(|figure| figure.key.measure.as_str())).into_iter().map(|measure| {
                let cells =
                    lanes.iter().map(|lane| find(&related, measure, *count, lane).map_or_else(empty, ratio));
                row(&[measure], cells)
            });
        let names: Vec<_> = std::iter::once("measure").chain(lanes.iter().copied()).collect();
        folded(&show::services(*count), Some(count) == services.last(), &table(&names, rows))
    };
    let tables: String = services.iter().rev().map(table).collect();
    if tables.is_empty() {
        return String::new();
    }
    let caption = "Median over the rounds, in brackets the ratio to kube-proxy’s nftables mode; below, where the \
                   ratio to direct lies with 95 % confidence, and the value itself. Below 1 is less than plain \
                   routing. ~: the rounds lie too far apart to say much. =: cannot be told from plain routing. \
                   ✓ ✗ ?: the goal is met, missed, open.";
    format!("<section><h2>Ratios to direct</h2>{}{tables}</section>", element("p", caption))
}

/// Everything, a line for each measure and number of services.
pub(super) fn values(report: &Report) -> String {
    let tables = report.sections().into_iter().map(|section| {
        let figures: Vec<_> = report.figures.iter().filter(|figure| figure.key.section == section).collect();
        let lanes = in_order(figures.iter().map(|figure| figure.key.lane.as_str()));
        let mut lines = Vec::new();
        for measure in in_order(figures.iter().map(|figure| figure.key.measure.as_str())) {
            let own = figures.iter().filter(|figure| figure.key.measure == measure);
            let services: BTreeSet<_> = own.map(|figure| figure.key.services).collect();
            lines.extend(services.into_iter().map(|count| (measure, count)));
        }
        let rows = lines.into_iter().map(|(measure, count)| {
            let cells =
                lanes.iter().map(|lane| find(&figures, measure, count, lane).map_or_else(empty, value));
            row(&[measure, &grouped(count)], cells)
        });
        let names: Vec<_> = ["measure", "services"].into_iter().chain(lanes.iter().copied()).collect();
        folded(section, false, &table(&names, rows))
    });
    let tables: String = tables.collect();
    let caption = "Medians, and the 99th percentile where single times were taken.";
    format!("<section><h2>All values</h2>{}{tables}</section>", element("p", caption))
}

fn find<'a>(figures: &[&'a Figure], measure: &str, services: usize, lane: &str) -> Option<&'a Figure> {
    let wanted = |key: &Key| key.measure == measure && key.services == services && key.lane == lane;
    figures.iter().copied().find(|figure| wanted(&figure.key))
}

fn table(names: &[&str], rows: impl Iterator<Item = String>) -> String {
    let heading: Vec<_> =
        names.iter().map(|name| format!("<th scope=\"col\">{}</th>", escaped(name))).collect();
    let rows: String = rows.collect();
    format!("<div class=\"wide\"><table><tr>{}</tr>{rows}</table></div>", heading.concat())
}

/// A row: what it is about, then cells that are HTML already.
fn row(names: &[&str], cells: impl Iterator<Item = String>) -> String {
    let names: Vec<_> =
        names.iter().map(|name| format!("<th scope=\"row\">{}</th>", escaped(name))).collect();
    element("tr", &(names.concat() + &cells.collect::<String>()))
}

fn folded(summary: &str, open: bool, content: &str) -> String {
    let open = if open { " open" } else { "" };
    format!("<details{open}><summary>{}</summary>{content}</details>", escaped(summary))
}

fn empty() -> String {
    element("td", "")
}

fn ratio(figure: &Figure) -> String {
    let Some(ratio) = figure.ratio else { return element("td", "") };
    let Ratio { median, interval: (low, high), .. } = ratio;
    let marks = [(ratio.is_noisy(), "~"), (ratio.is_even(), "=")];
    let marks: String = marks.iter().filter(|(holds, _)| *holds).map(|(_, mark)| *mark).collect();
    let peer = figure.peer.map(|peer| format!(" ({})", show::ratio(peer.median))).unwrap_or_default();
    let (median, low, high) = (show::ratio(median), show::ratio(low), show::ratio(high));
    let small = format!("{low}–{high}, {}", show(figure.unit, figure.value));
    let of = |goal: &&Goal| matches!(goal.of, Subject::Direct | Subject::Floor | Subject::Peer);
    let verdict = figure.goals.iter().filter(of).map(|goal| goal.verdict).max();
    let class = verdict.map_or("none", Verdict::word);
    let mark = verdict.map(|verdict| format!(" {}", verdict.mark())).unwrap_or_default();
    format!("<td class=\"{class}\">{median}{marks}{peer}{mark}<small>{}</small></td>", escaped(&small))
}

fn value(figure: &Figure) -> String {
    let tail =
        figure.p99.map(|p99| format!("<small>p99 {}</small>", show(figure.unit, p99))).unwrap_or_default();
    let noisy = if figure.noisy { "~" } else { "" };
    format!("<td>{}{noisy}{tail}</td>", show(figure.unit, figure.value))
}
