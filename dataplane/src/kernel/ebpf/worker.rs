//! What goes on beside the changes: collecting flows, and telling sockets that their backend is gone. On a thread of its
//! own, because it waits for the kernel.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shunt_abi::address::{UDP, mapped_words};
use shunt_abi::socket::OriginKey;

use super::attachments::AttachError;
use super::collector::Census;
use super::map::MapError;
use super::maps::Maps;
use super::patience::{Judge, Pace, Patience, pause};
use super::shared::Shared;
use super::sockets::{self, Connected};
use super::{namespaces, words};
use crate::domain::IpFamily;
use crate::kernel::Allowance;

/// What the worker is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Look for connected UDP sockets whose backend is gone.
    Sockets,
}

/// What the worker has counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Established flows at the last look, IPv4.
    pub(super) flows4: AtomicU64,
    /// The same, IPv6.
    pub(super) flows6: AtomicU64,
    /// Half-open flows, IPv4.
    pub(super) half_open4: AtomicU64,
    /// The same, IPv6.
    pub(super) half_open6: AtomicU64,
    /// Flows removed so far.
    pub(super) collected: AtomicU64,
    /// Sockets destroyed so far.
    pub(super) sockets: AtomicU64,
}

/// Works until the other end of `jobs` is gone.
pub(super) fn run(shared: &Arc<Shared>, jobs: &Receiver<Job>, cgroup: Option<&Path>, patience: Patience) {
    let mut pace = Pace::default();
    let mut censuses = [IpFamily::V4, IpFamily::V6].map(Census::new);
    let now = Instant::now();
    let (mut collect_at, mut look_at) = (now + pause_after(shared), now);
    let mut looking = Allowance::new(now);
    let mut owes_look = false;
    loop {
        let next = if owes_look { collect_at.min(look_at) } else { collect_at };
        match jobs.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Job::Sockets) => {
                // Changes come together.
                while jobs.try_recv().is_ok() {}
                owes_look = cgroup.is_some();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        if let Some(cgroup) = cgroup.filter(|_| owes_look && now >= look_at) {
            // Each time, the kernel walks through its tables of sockets in every network namespace.
            destroy_sockets(shared, cgroup);
            look_at = now + looking.spend(now, now.elapsed());
            owes_look = false;
        }
        if now >= collect_at {
            if let Err(error) = collect(shared, (&mut pace, patience), &mut censuses) {
                tracing::warn!("collecting flows: {}", words(&error));
            }
            collect_at = Instant::now() + pause_after(shared);
        }
    }
}

/// The pause after a look through all flows.
fn pause_after(shared: &Shared) -> Duration {
    let tally = &shared.tally;
    pause(tally.flows4.load(Ordering::Relaxed) + tally.flows6.load(Ordering::Relaxed))
}

/// One look through all flows.
fn collect(
    shared: &Shared,
    (pace, patience): (&mut Pace, Patience),
    [census4, census6]: &mut [Census; 2],
) -> Result<(), AttachError> {
    shared.attachments().programs.read_clock()?;
    let reading = shared.maps.clock.get(&0)?.unwrap_or_default();
    pace.take(reading);
    if !pace.is_known() {
        return Ok(());
    }
    let judge = Judge { pace: *pace, now: reading.tick(), patience };
    let maps = &shared.maps;
    let four = census4.look(&maps.flows4, &maps.established, &judge)?;
    let six = census6.look(&maps.flows6, &maps.established, &judge)?;
    let tally = &shared.tally;
    for (counter, number) in [
        (&tally.flows4, four.established),
        (&tally.flows6, six.established),
        (&tally.half_open4, four.half_open),
        (&tally.half_open6, six.half_open),
    ] {
        counter.store(number, Ordering::Relaxed);
    }
    shared.end_masquerading(IpFamily::V4, four.masqueraded);
    shared.end_masquerading(IpFamily::V6, six.masqueraded);
    tally.collected.fetch_add(four.removed + six.removed, Ordering::Relaxed);
    Ok(())
}

/// In every network namespace of the cgroup's processes.
fn destroy_sockets(shared: &Shared, cgroup: &Path) {
    let destroyed = AtomicU64::new(0);
    let each =
        || match sockets::destroy_stale(&|connected| is_stale(&shared.maps, connected).unwrap_or(false)) {
            Ok(number) => drop(destroyed.fetch_add(number, Ordering::Relaxed)),
            Err(error) => tracing::warn!("UDP sockets of backends that are gone stay: {}", words(&error)),
        };
    if let Err(error) = namespaces::for_each(cgroup, &each) {
        tracing::warn!("visiting the network namespaces of pods: {}", words(&error));
    }
    let destroyed = destroyed.into_inner();
    shared.tally.sockets.fetch_add(destroyed, Ordering::Relaxed);
    if destroyed > 0 {
        tracing::info!(destroyed, "connected UDP sockets lost their backend");
    }
}

/// The socket was connected to a frontend, and the backend it got is gone.
fn is_stale(maps: &Maps, connected: &Connected) -> Result<bool, MapError> {
    let key = OriginKey {
        cookie: connected.cookie,
        address: mapped_words(connected.peer.ip()),
        port: connected.peer.port().to_be(),
        protocol: UDP,
        pad: [0; 5],
    };
    let Some(origin) = maps.origin(&key)? else { return Ok(false) };
    let backend = maps.backends.get(&origin.backend)?.unwrap_or_default();
    Ok(backend.generation != origin.generation)
}

/// What a thread left that ended in the middle is still of use.
pub(super) fn unpoisoned<'a, T>(
    lock: Result<MutexGuard<'a, T>, PoisonError<MutexGuard<'a, T>>>,
) -> MutexGuard<'a, T> {
    lock.unwrap_or_else(PoisonError::into_inner)
}
