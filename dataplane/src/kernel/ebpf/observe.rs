//! What the kernel has counted, and how full its tables are.

use std::sync::atomic::{AtomicU64, Ordering};

use shunt_abi::counter::Counter;
use shunt_abi::name;

use super::maps::Maps;
use super::model::Model;
use super::room::Room;
use super::shared::Shared;
use super::sizes::Sizes;
use crate::domain::IpFamily;
use crate::kernel::{EventCount, Observations};

/// Maps that may have no room for a frontend.
const LIMITING: [&str; 7] = [
    name::FRONTENDS4,
    name::FRONTENDS6,
    name::BACKENDS,
    name::POOL,
    name::SERVICES,
    name::RANGES4,
    name::RANGES6,
];

/// Everything there is to see.
pub(super) fn observe(shared: &Shared, sizes: &Sizes) -> Observations {
    let tally = &shared.tally;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut seen = Observations {
        events: events(shared),
        occupancy: occupancy_of_flows(shared),
        flows: vec![
            (IpFamily::V4, "established", read(&tally.flows4)),
            (IpFamily::V6, "established", read(&tally.flows6)),
            (IpFamily::V4, "opening", read(&tally.opening4)),
            (IpFamily::V6, "opening", read(&tally.opening6)),
        ],
        ..Observations::default()
    };
    let interfaces = count(shared.attachments().interfaces());
    seen.occupancy.push((name::INTERFACES, interfaces, name::capacity::INTERFACES.into()));
    let state = shared.state();
    if let Some(model) = &state.model {
        seen.occupancy.extend(occupancy(model, &shared.maps, sizes));
        let shortage = model.shortage();
        seen.left_out = LIMITING.map(|map| (map, shortage.get(map).copied().unwrap_or(0))).into();
        if let Some(counters) = &shared.maps.services {
            let ports = model.numbers.iter();
            let counted =
                ports.filter_map(|(owner, (id, _))| Some((owner.clone(), counters.traffic(*id).ok()?)));
            seen.services = counted.collect();
        }
    }
    seen
}

/// What programs have counted, and this agent's threads.
fn events(shared: &Shared) -> Vec<EventCount> {
    let counted = Counter::ALL.iter().filter_map(|counter| {
        let count = shared.maps.counters.sum(counter.index()).ok()?;
        Some(EventCount { event: counter.label(), drops: counter.is_drop(), count })
    });
    let own = [("flow_collected", &shared.tally.collected), ("socket_destroyed", &shared.tally.sockets)];
    let own =
        own.map(|(event, count)| EventCount { event, drops: false, count: count.load(Ordering::Relaxed) });
    counted.chain(own).collect()
}

/// As they were at the last look; a flow has two entries. Affinity, sockets and fragments are not counted: nobody looks
/// through those tables for another reason, and when they are full they evict what was longest unused.
fn occupancy_of_flows(shared: &Shared) -> Vec<(&'static str, u64, u64)> {
    let (maps, tally) = (&shared.maps, &shared.tally);
    let halves = |flows: &AtomicU64| flows.load(Ordering::Relaxed) * 2;
    vec![
        (name::FLOWS4, halves(&tally.flows4), u64::from(maps.flows4.capacity())),
        (name::FLOWS6, halves(&tally.flows6), u64::from(maps.flows6.capacity())),
        (name::OPENING4, halves(&tally.opening4), u64::from(maps.opening4.capacity())),
        (name::OPENING6, halves(&tally.opening6), u64::from(maps.opening6.capacity())),
    ]
}

fn occupancy(model: &Model, maps: &Maps, sizes: &Sizes) -> [(&'static str, u64, u64); 7] {
    let resources = &model.resources;
    let room = |room: Room| u64::from(room.used());
    // Number 0 is nobody's.
    let numbers = |capacity: u32| u64::from(capacity.saturating_sub(1));
    [
        (name::FRONTENDS4, room(resources.frontends.v4), maps.frontends4.capacity().into()),
        (name::FRONTENDS6, room(resources.frontends.v6), maps.frontends6.capacity().into()),
        (name::RANGES4, room(resources.source_ranges.v4), sizes.source_ranges.into()),
        (name::RANGES6, room(resources.source_ranges.v6), sizes.source_ranges.into()),
        (name::SERVICES, count(model.service_ids.used()), numbers(sizes.services)),
        (name::BACKENDS, count(resources.backends.used()), numbers(maps.backends.capacity())),
        (name::POOL, resources.pool.used().into(), maps.pool.capacity().into()),
    ]
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
