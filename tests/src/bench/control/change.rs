//! One changed EndpointSlice, nothing else going on.

use std::time::Duration;

use anyhow::Result;

use super::moving::Moving;
use super::{Case, Probe, Scene};
use crate::bench::figure::Figure;
use crate::bench::samples::Samples;

pub(super) fn measure(
    case: &mut Case<'_>,
    scene: &mut Scene,
    probe: &mut Probe,
    moving: &mut Moving,
) -> Result<()> {
    let (mut total, mut floor, mut over) = (Samples::new()?, Samples::new()?, Samples::new()?);
    for _ in 0..case.plan.changes {
        // At odd times, so that changes do not fall into step with a timer of the proxy.
        std::thread::sleep(Duration::from_micros(rand::random_range(15_000..45_000)));
        let moved = moving.go(scene, probe)?;
        total.add(moved.total)?;
        floor.add(moved.floor)?;
        over.add(moved.over())?;
    }
    scene.proxy()?.check()?;
    case.record(Figure::durations(case.key("one change, in all"), &total));
    case.record(Figure::durations(case.key("one change, watch floor"), &floor));
    case.record(Figure::durations(case.key("one change, over the watch"), &over));
    Ok(())
}
