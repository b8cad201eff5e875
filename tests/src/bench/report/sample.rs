//! A made-up report, for tests of what is made from reports.

use std::time::Duration;

use super::{Conditions, FORMAT, Report};
use crate::bench::figure::{Figure, Key, Ratio, Unit};
use crate::bench::machine::Machine;
use crate::bench::samples::Samples;

const LANES: [(&str, f64, f64); 7] = [
    // Name, ratio to direct, growth per service.
    ("direct", 1.0, 0.0),
    ("shunt ebpf", 1.01, 0.0),
    ("shunt ebpf per-packet", 1.05, 0.0),
    ("shunt nftables", 1.38, 0.0),
    ("kube-proxy nftables", 1.44, 0.0),
    ("kube-proxy nftables layout", 1.41, 0.0),
    ("kube-proxy iptables layout", 1.45, 0.004),
];
const LATENCIES: [(&str, f64); 5] = [
    ("connect", 11_000.0),
    ("CRR", 31_000.0),
    ("RR", 9_000.0),
    ("UDP exchange", 8_000.0),
    ("NodePort connect, remote endpoint", 14_500.0),
];
const RATES: [(&str, Unit, f64); 3] = [
    ("CRR rate", Unit::PerSecond, 31_000.0),
    ("TCP stream", Unit::BitsPerSecond, 28e9),
    ("small packets, NodePort to a remote endpoint", Unit::PacketsPerSecond, 820e3),
];
const ROUNDS: usize = 9;

/// With the first of seven lanes.
pub(in crate::bench) fn report(lanes: usize, services: &[usize]) -> Report {
    let mut noise = Noise(7);
    let mut report =
        Report { format: FORMAT, machine: machine(), conditions: conditions(), figures: Vec::new() };
    for &services in services {
        for lane in LANES.iter().take(lanes).filter(|lane| lane.0 != "direct" && !lane.0.contains("layout")) {
            report.add(control_plane(lane, services, &mut noise));
        }
    }
    for &services in services {
        for (measure, base) in LATENCIES {
            report.add(beside_direct(lanes, services, &mut noise, (measure, Unit::Nanoseconds, base)));
        }
        for rate in RATES {
            report.add(beside_direct(lanes, services, &mut noise, rate));
        }
        report.add(beside_direct(lanes, services, &mut noise, ("CPU per CRR", Unit::Nanoseconds, 30_000.0)));
    }
    for services in [1, 30_000] {
        report.add(per_packet(services, &mut noise));
    }
    report
}

fn key(section: &str, measure: &str, services: usize, lane: &str) -> Key {
    Key { section: section.to_owned(), measure: measure.to_owned(), services, lane: lane.to_owned() }
}

fn beside_direct(
    lanes: usize,
    services: usize,
    noise: &mut Noise,
    (measure, unit, base): (&str, Unit, f64),
) -> Vec<Figure> {
    let mut figures: Vec<Figure> = Vec::new();
    for (lane, ratio, growth) in LANES.iter().take(lanes) {
        let ratio = ratio + growth * number(services);
        let base = if unit.less_is_better() { base * ratio } else { base / ratio };
        let rounds: Vec<f64> = (0..ROUNDS).map(|_| base * noise.around(0.02)).collect();
        let key = key("datapath", measure, services, lane);
        let latency = unit == Unit::Nanoseconds && !measure.starts_with("CPU");
        let mut figure = if latency {
            Figure { rounds, ..Figure::durations(key, &samples(base, 200, noise)) }
        } else {
            Figure::rounds(key, unit, rounds)
        };
        let beside = |name| figures.iter().find(|figure| figure.key.lane == name);
        figure.ratio = beside("direct").map(|direct| Ratio::between(&figure.rounds, &direct.rounds));
        figures.push(figure);
    }
    let peer = figures.iter().find(|figure| figure.key.lane == "kube-proxy nftables").cloned();
    if let Some(peer) = peer {
        for figure in figures.iter_mut().filter(|figure| figure.key.lane.starts_with("shunt")) {
            figure.peer = Some(Ratio::between(&figure.rounds, &peer.rounds));
        }
    }
    figures
}

fn control_plane((lane, ..): &(&str, f64, f64), services: usize, noise: &mut Noise) -> Vec<Figure> {
    let shunt = lane.starts_with("shunt");
    let per_service = if shunt { 80_000.0 } else { 6_000_000.0 };
    let start = (60e6 + per_service * number(services)) * noise.around(0.1);
    let change = if shunt { 400e3 } else { 12e6 + 1.3e6 * number(services) };
    let single =
        |measure, unit, value| Figure::single(key("control plane", measure, services, lane), unit, value);
    let durations =
        |measure, samples| Figure::durations(key("control plane", measure, services, lane), &samples);
    vec![
        single("start to first service", Unit::Nanoseconds, start * 0.6),
        single("start to all services", Unit::Nanoseconds, start),
        single("CPU to start", Unit::Nanoseconds, start * 0.5),
        single("RSS after sync", Unit::Bytes, (19e6 + 4.5e3 * number(services)) * noise.around(0.02)),
        durations("one change, in all", samples(change + 1.3e6, 100, noise)),
        durations("one change, over the watch", samples(change, 100, noise)),
        durations("new service", samples(change * 3.0, 50, noise)),
        single("CPU for 1,000 changes", Unit::Nanoseconds, change * 900.0),
        single("failed connections in API outage", Unit::Count, 0.0),
    ]
}

fn per_packet(services: usize, noise: &mut Noise) -> Vec<Figure> {
    let cases = [
        ("established, IPv4", 58.0),
        ("reply, IPv4", 59.0),
        ("first packet, IPv4", 323.0),
        ("not ours, IPv4", 19.0),
    ];
    let lanes = [("one flow", 1.0), ("100,000 flows", 2.6)];
    let figures = cases.iter().flat_map(|(case, base)| lanes.iter().map(move |lane| (*case, base, lane)));
    figures
        .map(|(case, base, (lane, factor))| {
            let rounds = (0..5).map(|_| base * factor * noise.around(0.02)).collect();
            Figure::rounds(key("per packet", case, services, lane), Unit::Nanoseconds, rounds)
        })
        .collect()
}

fn samples(median: f64, count: u16, noise: &mut Noise) -> Samples {
    let mut samples = Samples::new().unwrap();
    for _ in 0..count {
        let tail = 1.0 + 0.02 / (1.002 - noise.next());
        let nanoseconds = median * tail * noise.around(0.05);
        samples.add(Duration::from_secs_f64(nanoseconds / 1e9)).unwrap();
    }
    samples
}

#[expect(clippy::cast_precision_loss, reason = "numbers of services")]
fn number(services: usize) -> f64 {
    services as f64
}

/// The same numbers each time.
struct Noise(u64);

impl Noise {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }

    /// Around 1, by so much at most.
    fn around(&mut self, width: f64) -> f64 {
        1.0 + width * (2.0 * self.next() - 1.0)
    }
}

fn machine() -> Machine {
    Machine {
        cpu: "Example Processor 1000 @ 2.00GHz".to_owned(),
        cpus: 2,
        memory: 24 << 30,
        kernel: "6.18.0".to_owned(),
        virtualization: "virtual machine".to_owned(),
        system: "Example Linux 12".to_owned(),
        nft: "nftables v1.0.6".to_owned(),
        spectre_v2: "Mitigation: Retpolines".to_owned(),
    }
}

fn conditions() -> Conditions {
    Conditions {
        started: "2026-01-02T03:04:05Z".to_owned(),
        finished: "2026-01-02T03:19:05Z".to_owned(),
        quick: false,
        load: (0.4, 1.8),
        commit: "0123abc".to_owned(),
        notes: super::notes(),
        doubts: Vec::new(),
    }
}
