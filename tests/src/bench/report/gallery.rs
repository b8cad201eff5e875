//! Which charts are made of which figures.

use std::collections::BTreeSet;

use anyhow::Result;

use super::Report;
use super::plot::{Axis, Bar, Bars, Curve, Curves, Group, Look, Point};
use crate::bench::figure::{Figure, Unit};
use crate::bench::show::{grouped, ratio, services as services_of, show};
use crate::bench::table::in_order;

/// Percentiles that are labelled and marked.
const PERCENTILES: [(f64, &str); 6] =
    [(0.0, "min"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];

/// Ratios above this are beyond the chart of ratios, which would show nothing else otherwise.
const FAR: f64 = 2.0;

/// Charts that belong together.
pub(super) struct Room {
    pub(super) title: &'static str,
    /// What is to be seen.
    pub(super) caption: &'static str,
    /// `<svg>` elements.
    pub(super) charts: Vec<String>,
}

/// What kind of thing a figure is, which decides on its charts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Latency,
    Throughput,
    Packets,
    Rate,
    Cpu,
    Sync,
    Change,
    Cost,
    PerPacket,
    /// Shown in tables only.
    Other,
}

const ROOMS: [(Kind, &str, &str); 8] = [
    (
        Kind::Latency,
        "Latency",
        "Median of each conversation over the number of services; the line through a mark is where it lies with 95 % confidence.",
    ),
    (
        Kind::Rate,
        "Transactions per second",
        "Connect, request, response, close, on one thread. More is better.",
    ),
    (Kind::Throughput, "Throughput", "Payload of a TCP stream. More is better."),
    (Kind::Packets, "Small packets", "Packets that arrive each second. More is better."),
    (Kind::Cpu, "CPU per transaction", "Processor time, the way of the packets included."),
    (Kind::Sync, "Start", "From the start of the process until services answer."),
    (Kind::Change, "Changes", "Median time from a write to the API server until traffic follows."),
    (Kind::Cost, "Processor and memory of the agent", ""),
];

/// All charts of a report.
pub(super) fn rooms(report: &Report) -> Result<Vec<Room>> {
    let gallery = Gallery { report };
    let mut rooms = Vec::new();
    for (kind, title, caption) in ROOMS {
        rooms.push(Room { title, caption, charts: gallery.over_services(kind)? });
        if kind == Kind::Latency {
            let title = "Latency distributions";
            let caption = "The largest number of services; each step to the right is ten times rarer.";
            rooms.push(Room { title, caption, charts: gallery.distributions(Kind::Latency)? });
        }
        if kind == Kind::Change {
            let title = "Distributions of changes";
            let caption = "The largest number of services; each step to the right is ten times rarer.";
            rooms.push(Room { title, caption, charts: gallery.distributions(Kind::Change)? });
        }
    }
    let caption = "One run of a BPF program for one packet, net of the empty program.";
    let charts = gallery.per_packet()?.into_iter().collect();
    rooms.push(Room { title: "Per packet", caption, charts });
    rooms.retain(|room| !room.charts.is_empty());
    Ok(rooms)
}

fn kind(figure: &Figure) -> Kind {
    let measure = figure.key.measure.as_str();
    match (figure.key.section.as_str(), figure.unit) {
        ("per packet", _) => Kind::PerPacket,
        (_, Unit::BitsPerSecond) => Kind::Throughput,
        (_, Unit::PacketsPerSecond) => Kind::Packets,
        (_, Unit::PerSecond) => Kind::Rate,
        (_, Unit::Bytes) => Kind::Cost,
        ("datapath", Unit::Nanoseconds) if measure.starts_with("CPU") => Kind::Cpu,
        ("datapath", Unit::Nanoseconds) => Kind::Latency,
        (_, Unit::Nanoseconds) if measure.starts_with("CPU") => Kind::Cost,
        (_, Unit::Nanoseconds) if measure.starts_with("start to") => Kind::Sync,
        (_, Unit::Nanoseconds) if !figure.distribution.is_empty() => Kind::Change,
        _ => Kind::Other,
    }
}

struct Gallery<'a> {
    report: &'a Report,
}

impl<'a> Gallery<'a> {
    /// The figures of one kind, by measure.
    fn measures(&self, wanted: Kind) -> Vec<(&'a str, Vec<&'a Figure>)> {
        let figures: Vec<_> = self.report.figures.iter().filter(|figure| kind(figure) == wanted).collect();
        let measures = in_order(figures.iter().map(|figure| figure.key.measure.as_str()));
        let of = |measure| figures.iter().copied().filter(|figure| figure.key.measure == measure).collect();
        measures.into_iter().map(|measure| (measure, of(measure))).collect()
    }

    /// Charts of values, each followed by one of ratios to direct where there are any.
    fn over_services(&self, kind: Kind) -> Result<Vec<String>> {
        let mut charts = Vec::new();
        for (measure, figures) in self.measures(kind) {
            charts.push(self.values(measure, &figures)?);
            if figures.iter().any(|figure| figure.ratio.is_some()) {
                charts.push(self.ratios(measure, &figures)?);
            }
        }
        Ok(charts)
    }

    fn values(&self, measure: &str, figures: &[&Figure]) -> Result<String> {
        let unit = figures.first().map_or(Unit::Count, |figure| figure.unit);
        let values: Vec<f64> = figures.iter().flat_map(|figure| extent(figure)).collect();
        let axis = Axis::fitting(unit, values.into_iter());
        let measured = |figure: &Figure| Some((figure.value, figure.interval));
        self.chart((measure, quantity(figures)), figures, axis, measured)
    }

    fn ratios(&self, measure: &str, figures: &[&Figure]) -> Result<String> {
        let related = |figure: &Figure| match figure.ratio {
            Some(ratio) => Some((ratio.median, Some(ratio.interval))),
            None if figure.key.lane == "direct" => Some((1.0, None)),
            None => None,
        };
        let values = figures.iter().filter_map(|figure| related(figure));
        let ends = |(value, interval): (f64, Option<(f64, f64)>)| {
            let (low, high) = interval.unwrap_or((value, value));
            // A long interval may leave the chart, the value itself does not because of that.
            [low, value, if value <= FAR { high.min(FAR) } else { high }]
        };
        let axis = Axis::ratios(values.flat_map(ends).collect::<Vec<_>>().into_iter(), FAR);
        let far = figures.iter().filter(|figure| figure.ratio.is_some_and(|ratio| ratio.median > FAR));
        let far = in_order(far.map(|figure| figure.key.lane.as_str())).join(", ");
        let better = if less_is_better(figures) { "less is better" } else { "more is better" };
        let subtitle = match far.as_str() {
            "" => format!("ratio to direct; {better}"),
            far => format!("ratio to direct; {better}; beyond {FAR}: {far}"),
        };
        self.chart((measure, subtitle), figures, axis, related)
    }

    /// Curves over the number of services; bars where there is but one.
    fn chart(
        &self,
        (title, subtitle): (&str, String),
        figures: &[&Figure],
        y: Axis,
        of: impl Fn(&Figure) -> Option<(f64, Option<(f64, f64)>)>,
    ) -> Result<String> {
        let services: BTreeSet<usize> = figures.iter().map(|figure| figure.key.services).collect();
        let title = title.to_owned();
        if services.len() < 2 {
            let count = services.first().copied().unwrap_or(0);
            let bars = figures.iter().filter_map(|figure| {
                let (value, interval) = of(figure)?;
                let own = self.bar(figure, figure.key.lane.clone());
                let label = if value.total_cmp(&figure.value).is_eq() { own.label } else { ratio(value) };
                Some(Bar { value, interval, label, ..own })
            });
            let groups = vec![Group { name: String::new(), bars: bars.collect() }];
            let subtitle = format!("{subtitle}, {}", services_of(count));
            return Bars { title, subtitle, axis: y, groups }.svg();
        }
        let ticks: Vec<_> = services.iter().map(|services| (number(*services), grouped(*services))).collect();
        let curve = |lane: &str| {
            let own = figures.iter().filter(|figure| figure.key.lane == lane);
            let points = own.filter_map(|figure| {
                let (y, interval) = of(figure)?;
                Some(Point { x: number(figure.key.services), y, interval, marked: true })
            });
            Curve { name: lane.to_owned(), look: self.look(lane), points: points.collect() }
        };
        let lanes = in_order(figures.iter().map(|figure| figure.key.lane.as_str()));
        let lanes = lanes.into_iter().map(curve).collect();
        let x_name = "services, log scale".to_owned();
        Curves { title, subtitle, x: Axis::at(&ticks), x_name, y, lanes }.svg()
    }

    fn distributions(&self, kind: Kind) -> Result<Vec<String>> {
        let mut charts = Vec::new();
        for (measure, mut figures) in self.measures(kind) {
            let most = figures.iter().map(|figure| figure.key.services).max();
            figures.retain(|figure| Some(figure.key.services) == most && !figure.distribution.is_empty());
            if !figures.is_empty() {
                charts.push(self.distribution(measure, &figures)?);
            }
        }
        Ok(charts)
    }

    fn distribution(&self, measure: &str, figures: &[&Figure]) -> Result<String> {
        let unit = figures.first().map_or(Unit::Count, |figure| figure.unit);
        let services = figures.first().map_or(0, |figure| figure.key.services);
        let curve = |figure: &&Figure| {
            // The largest of all has no place on this scale.
            let told = figure.distribution.iter().filter(|(quantile, _)| *quantile < 1.0);
            let points = told.map(|(quantile, value)| Point {
                x: rarity(*quantile),
                y: *value,
                interval: None,
                marked: PERCENTILES.iter().skip(1).any(|(labelled, _)| (labelled - quantile).abs() < 1e-9),
            });
            let lane = &figure.key.lane;
            Curve { name: lane.clone(), look: self.look(lane), points: points.collect() }
        };
        let curves: Vec<_> = figures.iter().map(curve).collect();
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let rarest = points().map(|point| point.x).fold(0.1, f64::max);
        let ticks = PERCENTILES.iter().map(|(quantile, name)| (rarity(*quantile), (*name).to_owned()));
        let ticks = ticks.filter(|(place, _)| *place <= rarest + 1e-9).collect();
        let values: Vec<f64> = points().map(|point| point.y).collect();
        let chart = Curves {
            title: measure.to_owned(),
            subtitle: format!("time within which that share was done, {}", services_of(services)),
            x: Axis::between(ticks, rarest * 1.02),
            x_name: "percentile".to_owned(),
            y: Axis::fitting(unit, values.into_iter()),
            lanes: curves,
        };
        chart.svg()
    }

    fn per_packet(&self) -> Result<Option<String>> {
        let measures = self.measures(Kind::PerPacket);
        let all = measures.iter().flat_map(|(_, figures)| figures.iter().copied());
        let values: Vec<f64> = all.clone().flat_map(extent).collect();
        let name = |figure: &Figure| format!("{}, N = {}", figure.key.lane, grouped(figure.key.services));
        let states: Vec<String> = all.map(name).collect();
        let states = in_order(states.iter().map(String::as_str));
        let group = |(measure, figures): &(&str, Vec<&Figure>)| {
            let bar = |figure: &&Figure| {
                let name = name(figure);
                let index = states.iter().position(|state| *state == name).unwrap_or(0);
                Bar { look: Look::numbered(index), ..self.bar(figure, name) }
            };
            Group { name: (*measure).to_owned(), bars: figures.iter().map(bar).collect() }
        };
        let groups: Vec<_> = measures.iter().map(group).collect();
        if groups.is_empty() {
            return Ok(None);
        }
        let axis = Axis::linear(Unit::Nanoseconds, values.into_iter().fold(0.0, f64::max));
        let title = "Nanoseconds a packet".to_owned();
        Bars { title, subtitle: "median; less is better".to_owned(), axis, groups }.svg().map(Some)
    }

    fn bar(&self, figure: &Figure, name: String) -> Bar {
        Bar {
            name,
            look: self.look(&figure.key.lane),
            value: figure.value,
            interval: figure.interval,
            label: show(figure.unit, figure.value),
        }
    }

    fn look(&self, lane: &str) -> Look {
        let lanes = in_order(self.report.figures.iter().map(|figure| figure.key.lane.as_str()));
        Look::of(lane, lanes.iter().position(|other| *other == lane).unwrap_or(0))
    }
}

/// Where a percentile is: 1 for one in ten, 2 for one in a hundred.
fn rarity(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn extent(figure: &Figure) -> Vec<f64> {
    let interval = figure.interval.map(|(low, high)| [low, high]);
    std::iter::once(figure.value).chain(interval.into_iter().flatten()).collect()
}

fn less_is_better(figures: &[&Figure]) -> bool {
    figures.first().is_none_or(|figure| figure.unit.less_is_better())
}

/// What the values of a chart are.
fn quantity(figures: &[&Figure]) -> String {
    let Some(first) = figures.first() else { return String::new() };
    let better = if less_is_better(figures) { "less is better" } else { "more is better" };
    let what = match first.unit {
        Unit::Nanoseconds if first.distribution.is_empty() => "time",
        Unit::Nanoseconds => "median time",
        Unit::Bytes => "memory",
        Unit::PerSecond => "transactions per second",
        Unit::PacketsPerSecond => "packets per second",
        Unit::BitsPerSecond => "bits per second",
        Unit::Count => "number",
        Unit::Ratio => "ratio",
    };
    format!("{what}; {better}")
}

#[expect(clippy::cast_precision_loss, reason = "numbers of services")]
fn number(services: usize) -> f64 {
    services as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::sample;

    fn titles(report: &Report) -> Vec<&'static str> {
        rooms(report).unwrap().iter().map(|room| room.title).collect()
    }

    #[test]
    fn a_full_report_fills_every_room() {
        assert_eq!(titles(&sample::report(7, &[1, 1000])).len(), ROOMS.len() + 3);
    }

    #[test]
    fn rooms_without_figures_are_left_out() {
        let mut report = sample::report(3, &[1, 1000]);
        report.figures.retain(|figure| figure.key.section == "per packet");
        assert_eq!(titles(&report), ["Per packet"]);
        report.figures.clear();
        assert_eq!(titles(&report), [""; 0]);
    }

    #[test]
    fn every_lane_is_in_the_legend_of_each_latency() {
        let report = sample::report(7, &[1, 1000]);
        let rooms = rooms(&report).unwrap();
        for chart in &rooms[0].charts {
            for lane in ["direct", "shunt ebpf per-packet", "kube-proxy iptables layout"] {
                assert!(chart.contains(lane), "{lane}");
            }
        }
    }

    #[test]
    fn a_single_number_of_services_makes_bars() {
        let report = sample::report(7, &[1000]);
        let rooms = rooms(&report).unwrap();
        assert!(rooms[0].charts[0].contains("1,000 services"));
        assert!(
            !rooms[0].charts[0].contains("log scale</text>") || rooms[0].charts[0].contains("median time")
        );
    }
}
