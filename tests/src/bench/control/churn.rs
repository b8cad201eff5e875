//! Changes that go on all the time: how long one takes among them, and what they cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::moving::{Moving, PATIENCE};
use super::scene::NODE;
use super::{Case, Probe, Scene, as_value, nanoseconds};
use crate::apiserver::Store;
use crate::bench::cpu::settle;
use crate::bench::figure::{Figure, Unit};
use crate::bench::objects::{filler_endpoints, filler_name, slice};
use crate::bench::samples::Samples;

/// 40 changes a second by the writer, and up to 10 that are timed.
const WRITER_PERIOD: Duration = Duration::from_millis(25);
const TIMED_PERIOD: Duration = Duration::from_millis(100);
/// How many services change.
const CHANGING: usize = 500;

pub(super) fn measure(
    case: &mut Case<'_>,
    scene: &mut Scene,
    probe: &mut Probe,
    moving: &mut Moving,
) -> Result<()> {
    let before = scene.proxy()?.usage()?.cpu;
    let writer = Writer::start(scene.api().store(), case.services)?;
    let (mut total, mut over) = (Samples::new()?, Samples::new()?);
    let mut timed = 0;
    let mut next = Instant::now();
    while writer.written() + timed < case.plan.churn {
        let moved = moving.go(scene, probe)?;
        total.add(moved.total)?;
        over.add(moved.over())?;
        timed += 1;
        next = (next + TIMED_PERIOD).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let changes = writer.stop()? + timed;
    // What it is still busy with belongs to the changes.
    settle(scene.proxy()?.id(), PATIENCE)?;
    let cpu = scene.proxy()?.usage()?.cpu.saturating_sub(before);
    case.record(Figure::durations(case.key("change during 50 changes/s"), &total));
    case.record(Figure::durations(case.key("the same, over the watch"), &over));
    let per_thousand = nanoseconds(cpu) * 1000.0 / as_value(u64::try_from(changes)?);
    case.single("CPU for 1,000 changes", Unit::Nanoseconds, per_thousand);
    Ok(())
}

/// A thread that changes slices of other services, one after the other, at a fixed rate.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    thread: JoinHandle<Result<()>>,
}

impl Writer {
    fn start(store: Store, services: usize) -> Result<Self> {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&written));
        let body = move || {
            let mut next = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let number = count.fetch_add(1, Ordering::Relaxed);
                store.put(changed(number, services)).context("writing to the API server")?;
                next += WRITER_PERIOD;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("churn".to_owned()).spawn(body)?;
        Ok(Self { stop, written, thread })
    }

    fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    fn stop(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_panic| anyhow!("the writer panicked"))??;
        Ok(self.written.load(Ordering::Relaxed))
    }
}

/// The slice of one service, in turn; every time around the other endpoint is the one that is replaced.
fn changed(number: usize, services: usize) -> serde_json::Value {
    let changing = CHANGING.min(services);
    let index = (number % changing) * (services / changing);
    let [first, second, third] = filler_endpoints(index);
    let endpoints = if (number / changing).is_multiple_of(2) { [first, third] } else { [first, second] };
    slice(&filler_name(index), &endpoints, NODE)
}

#[cfg(test)]
mod tests {
    use super::changed;

    #[test]
    fn every_write_changes_something() {
        for services in [1, 7, 1000] {
            let writes: Vec<_> = (0..2 * services).map(|number| changed(number, services)).collect();
            assert_ne!(writes[0].get("endpoints"), writes[services.min(500)].get("endpoints"));
        }
    }
}
