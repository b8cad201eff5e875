//! From the start of the process until all services answer.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::scene::{MOVING_ADDRESS, MOVING_ENDPOINTS};
use super::{Case, Probe, Scene, as_value, nanoseconds};
use crate::bench::cpu::settle;
use crate::bench::figure::Unit;
use crate::bench::objects::{filler_address, filler_endpoints};

/// How many services are asked; first and last are among them.
const SAMPLE: usize = 64;
/// Between two rounds of questions: often enough, and little work for the machine.
const PAUSE_PER_SERVICE: Duration = Duration::from_micros(150);
const PATIENCE: Duration = Duration::from_mins(5);

pub(super) fn measure(case: &mut Case<'_>, scene: &mut Scene, probe: &mut Probe) -> Result<()> {
    let mut waiting = sample(case.services);
    let started = Instant::now();
    scene.start(case.plan, case.proxy, case.services)?;
    let mut first = None;
    while !waiting.is_empty() {
        let services: BTreeSet<_> = waiting.values().copied().collect();
        services.into_iter().try_for_each(|service| probe.knock(service))?;
        for endpoint in probe.arrivals()? {
            if let Some(service) = waiting.get(&endpoint).copied() {
                waiting.retain(|_, other| *other != service);
                first.get_or_insert_with(|| started.elapsed());
            }
        }
        scene.proxy()?.check()?;
        ensure!(started.elapsed() < PATIENCE, "{} services do not answer after {PATIENCE:?}", waiting.len());
        if !waiting.is_empty() {
            std::thread::sleep(PAUSE_PER_SERVICE * u32::try_from(waiting.len()).unwrap_or(1));
        }
    }
    let all = started.elapsed();
    probe.forget()?;
    case.single("start to first service", Unit::Nanoseconds, nanoseconds(first.unwrap_or(all)));
    case.single("start to all services", Unit::Nanoseconds, nanoseconds(all));
    settle(scene.proxy()?.id(), PATIENCE)?;
    // And the one that is moved.
    scene.ensure_complete(case.services + 1)?;
    let usage = scene.proxy()?.usage()?;
    case.single("CPU to start", Unit::Nanoseconds, nanoseconds(usage.cpu));
    case.single("RSS after sync", Unit::Bytes, as_value(usage.resident));
    Ok(())
}

/// Services spread evenly over all, by each of their endpoints.
fn sample(services: usize) -> HashMap<Ipv4Addr, Ipv4Addr> {
    let count = SAMPLE.min(services);
    let last = services - 1;
    let chosen = (0..count).map(|number| if count == 1 { 0 } else { number * last / (count - 1) });
    let mut sample = HashMap::from([(MOVING_ENDPOINTS, MOVING_ADDRESS)]);
    for index in chosen {
        let [first, second, _] = filler_endpoints(index);
        sample.extend([(first, filler_address(index)), (second, filler_address(index))]);
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_holds_the_first_and_the_last_service() {
        for services in [1, 63, 64, 65, 1000, 10_000] {
            let sample = sample(services);
            assert_eq!(sample.len(), 1 + 2 * services.min(SAMPLE));
            assert_eq!(sample.get(&filler_endpoints(0)[1]), Some(&filler_address(0)));
            assert_eq!(sample.get(&filler_endpoints(services - 1)[0]), Some(&filler_address(services - 1)));
        }
    }
}
