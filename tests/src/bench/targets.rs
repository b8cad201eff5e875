//! What the nftables dataplane is to reach: figures at or below what the best
//! mode of kube-proxy reaches on the reference machine, or far below.

use super::figure::{Figure, Unit};

const MILLISECOND: f64 = 1e6;
const SECOND: f64 = 1e9;
const MEBIBYTE: f64 = 1_048_576.0;

/// Measures of the control plane: median, and 99th percentile where it counts.
const CONTROL_PLANE: [(&str, f64, Option<f64>); 8] = [
    ("one change, over the watch", 5.0 * MILLISECOND, Some(20.0 * MILLISECOND)),
    ("new service", 25.0 * MILLISECOND, None),
    ("change during 50 changes/s", 50.0 * MILLISECOND, Some(50.0 * MILLISECOND)),
    ("CPU for 1,000 changes", SECOND, None),
    ("start to all services", 3.0 * SECOND, None),
    ("RSS after sync", 90.0 * MEBIBYTE, None),
    ("first change after API outage", 2.0 * SECOND, None),
    ("failed connections in API outage", 0.0, None),
];

/// The datapath is nowhere slower than that of kube-proxy's nftables mode, in the same round; this much is noise.
const NOISE: f64 = 0.02;
/// A connection costs the same however many services there are.
const GROWTH: f64 = 1.03;

/// Sets the targets of a figure of shunt's nftables lane.
pub(super) fn apply(figure: &mut Figure) {
    if figure.key.lane != "shunt nftables" {
        return;
    }
    let measure = figure.key.measure.as_str();
    if let Some((_, target, tail)) = CONTROL_PLANE.iter().find(|(name, ..)| *name == measure) {
        figure.target = Some(*target);
        figure.target_p99 = *tail;
    }
    if figure.peer.is_some() {
        figure.target = Some(if figure.unit.less_is_better() { 1.0 + NOISE } else { 1.0 - NOISE });
    }
    if figure.unit == Unit::Ratio {
        figure.target = Some(GROWTH);
    }
    if figure.target.is_some() && figure.unit == Unit::Bytes && figure.key.services == 1 {
        figure.target = Some(25.0 * MEBIBYTE);
    }
}
