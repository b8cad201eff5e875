use super::*;
use crate::bench::report::sample;

fn figure(measure: &str, lane: &str, unit: Unit, rounds: &[f64]) -> Figure {
    let key = Key {
        section: "datapath".to_owned(),
        measure: measure.to_owned(),
        services: 1000,
        lane: lane.to_owned(),
    };
    let mut figure = Figure::rounds(key, unit, rounds.to_vec());
    figure.judge(Vec::new());
    figure
}

fn related(rounds: &[f64]) -> Figure {
    let mut figure = figure(
        "connect",
        "shunt nftables",
        Unit::Nanoseconds,
        &rounds.iter().map(|ratio| ratio * 1e4).collect::<Vec<_>>(),
    );
    figure.ratio = Some(Ratio::between(rounds, &vec![1.0; rounds.len()]));
    figure
}

fn report(figures: Vec<Figure>) -> Report {
    Report { figures, ..sample::report(1, &[]) }
}

fn compare(old: Vec<Figure>, new: Vec<Figure>) -> Comparison {
    Comparison::of(&report(old), &report(new))
}

#[test]
fn a_report_has_not_changed_beside_itself() {
    let report = sample::report(7, &[1, 1000]);
    let comparison = Comparison::of(&report, &report);
    assert_eq!(comparison.changes, []);
    assert_eq!(comparison.same, report.figures.len());
    assert!(comparison.remarks.is_empty() && !comparison.is_worse());
}

#[test]
fn rounds_that_meet_are_no_change() {
    let comparison = compare(vec![related(&[1.30, 1.38, 1.41])], vec![related(&[1.40, 1.44, 1.50])]);
    assert_eq!(comparison.changes, []);
    assert_eq!(comparison.same, 1);
}

#[test]
fn rounds_apart_are_a_change_for_the_worse() {
    let comparison = compare(vec![related(&[1.36, 1.38, 1.40])], vec![related(&[1.50, 1.52, 1.55])]);
    let [change] = &comparison.changes[..] else { panic!("{comparison:?}") };
    assert_eq!((change.basis, change.worse), (Basis::Ratio, true));
    assert_eq!((change.old.value, change.new.interval), (1.38, Some((1.50, 1.55))));
    assert!(comparison.is_worse());
}

#[test]
fn steady_rounds_hardly_apart_are_no_change() {
    let comparison = compare(vec![related(&[1.380, 1.381, 1.382])], vec![related(&[1.390, 1.391, 1.392])]);
    assert_eq!(comparison.changes, []);
}

#[test]
fn ratios_count_and_not_the_speed_of_the_machine() {
    let mut slow = related(&[1.36, 1.38, 1.40]);
    slow.value *= 3.0;
    slow.interval = slow.interval.map(|(low, high)| (low * 3.0, high * 3.0));
    assert_eq!(compare(vec![related(&[1.36, 1.38, 1.40])], vec![slow]).changes, []);
}

#[test]
fn more_of_a_rate_is_better() {
    let rate = |rounds: &[f64]| vec![figure("CRR rate", "shunt nftables", Unit::PerSecond, rounds)];
    let comparison = compare(rate(&[20e3, 20.1e3, 20.2e3]), rate(&[30e3, 30.1e3, 30.2e3]));
    assert!(!comparison.changes[0].worse);
    assert!(compare(rate(&[30e3, 30.1e3, 30.2e3]), rate(&[20e3, 20.1e3, 20.2e3])).is_worse());
}

#[test]
fn a_value_taken_once_has_to_change_by_a_quarter_and_by_more_than_a_tick() {
    let start = |value| vec![figure("start to all services", "shunt nftables", Unit::Nanoseconds, &[value])];
    assert_eq!(compare(start(840e6), start(1000e6)).changes, []);
    assert_eq!(compare(start(840e6), start(1100e6)).changes.len(), 1);
    assert_eq!(compare(start(20e6), start(30e6)).changes, [], "10 ms are a tick");
}

#[test]
fn failures_where_there_were_none_are_a_change() {
    let failed =
        |value| vec![figure("failed connections in API outage", "shunt nftables", Unit::Count, &[value])];
    assert!(compare(failed(0.0), failed(3.0)).is_worse());
    assert_eq!(compare(failed(0.0), failed(0.0)).changes, []);
}

#[test]
fn a_tail_twice_as_long_is_a_change_beside_the_median() {
    let with = |p99| vec![Figure { p99: Some(p99), ..related(&[1.36, 1.38, 1.40]) }];
    assert_eq!(compare(with(6e6), with(11e6)).changes, []);
    let comparison = compare(with(6e6), with(14e6));
    assert_eq!(comparison.changes[0].basis, Basis::P99);
    assert_eq!(comparison.same, 0);
}

#[test]
fn what_others_do_is_told_last_and_is_not_our_fault() {
    let all = |kube, ours| {
        vec![
            figure("connect", "kube-proxy nftables", Unit::Nanoseconds, &[kube, kube * 1.01, kube * 1.02]),
            figure("connect", "shunt nftables", Unit::Nanoseconds, &[ours, ours * 1.01, ours * 1.02]),
        ]
    };
    let comparison = compare(all(1e4, 2e4), all(9e4, 1e4));
    assert_eq!(comparison.changes[0].key.lane, "shunt nftables");
    assert!(comparison.changes[1].worse && !comparison.is_worse());
}

#[test]
fn figures_in_one_report_only_are_named() {
    let comparison = compare(
        vec![related(&[1.3; 3]), figure("gone", "direct", Unit::Nanoseconds, &[1.0])],
        vec![related(&[1.3; 3]), figure("fresh", "direct", Unit::Nanoseconds, &[1.0])],
    );
    let measures = |keys: &[Key]| keys.iter().map(|key| key.measure.clone()).collect::<Vec<_>>();
    assert_eq!(measures(&comparison.only_old), ["gone"]);
    assert_eq!(measures(&comparison.only_new), ["fresh"]);
    assert_eq!(comparison.same, 1);
}

#[test]
fn a_changed_unit_is_named_and_not_compared() {
    let comparison = compare(
        vec![figure("small packets", "shunt nftables", Unit::PerSecond, &[1.0, 1.0])],
        vec![figure("small packets", "shunt nftables", Unit::PacketsPerSecond, &[9.0, 9.0])],
    );
    assert_eq!((comparison.changes.len(), comparison.same), (0, 0));
    assert!(comparison.remarks[0].contains("another unit"), "{:?}", comparison.remarks);
}

#[test]
fn what_makes_runs_hard_to_compare_is_said() {
    let direct = |value: f64| vec![figure("connect", "direct", Unit::Nanoseconds, &[value, value, value])];
    let (old, mut new) = (report(direct(1e4)), report(direct(2e4)));
    new.machine.kernel = "7.0.0".to_owned();
    new.conditions.quick = true;
    new.conditions.doubts = vec!["busy".to_owned()];
    let remarks = Comparison::of(&old, &new).remarks.join("\n");
    for part in ["7.0.0 now", "a full run before, a quick one now", "2.00 times", "new report: busy"] {
        assert!(remarks.contains(part), "{part} is not in: {remarks}");
    }
}
