//! The API server goes away and comes back.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::moving::{Moving, PATIENCE};
use super::scene::MOVING_ADDRESS;
use super::{Case, Probe, Scene, as_value, nanoseconds};
use crate::bench::figure::Unit;

/// Between two connections while the API server is away.
const PERIOD: Duration = Duration::from_millis(5);

pub(super) fn measure(
    case: &mut Case<'_>,
    scene: &mut Scene,
    probe: &mut Probe,
    moving: &mut Moving,
) -> Result<()> {
    let before = scene.proxy()?.usage()?.cpu;
    probe.forget()?;
    scene.api().stop()?;
    let failed = connect_throughout(probe, case.plan.outage)?;
    let busy = scene.proxy()?.usage()?.cpu.saturating_sub(before);
    scene.api().resume()?;
    let ready = Instant::now();
    let endpoint = moving.write(scene)?;
    let reached = probe.until(MOVING_ADDRESS, endpoint, PATIENCE)?;
    moving.watch_again(scene)?;
    let next = moving.go(scene, probe)?;
    case.single("failed connections in API outage", Unit::Count, as_value(failed));
    case.single("CPU in API outage", Unit::Nanoseconds, nanoseconds(busy));
    let first = reached.saturating_duration_since(ready);
    case.single("first change after API outage", Unit::Nanoseconds, nanoseconds(first));
    case.single("next change after API outage", Unit::Nanoseconds, nanoseconds(next.total));
    Ok(())
}

/// Connections that were not answered by the time of the next one.
fn connect_throughout(probe: &mut Probe, away: Duration) -> Result<u64> {
    let started = Instant::now();
    let (mut begun, mut answered) = (0_u64, 0_u64);
    while started.elapsed() < away {
        probe.knock(MOVING_ADDRESS)?;
        begun += 1;
        std::thread::sleep(PERIOD);
        answered += u64::try_from(probe.arrivals()?.len())?;
    }
    Ok(begun.saturating_sub(answered))
}
