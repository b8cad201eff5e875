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
        occupancy: occupancy_of_flows(shared).into(),
        flows: vec![
            (IpFamily::V4, "established", read(&tally.flows4)),
            (IpFamily::V6, "established", read(&tally.flows6)),
            (IpFamily::V4, "opening", read(&tally.half_open4)),
            (IpFamily::V6, "opening", read(&tally.half_open6)),
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

/// As they were at the last look. Half-open flows are in the same maps, but have room of their own there, that of the
/// rings. Affinity, sockets and fragments are not counted: nobody looks through those tables for another reason, and when
/// they are full they evict what was longest unused.
fn occupancy_of_flows(shared: &Shared) -> [(&'static str, u64, u64); 4] {
    let (maps, tally) = (&shared.maps, &shared.tally);
    let read = |flows: &AtomicU64| flows.load(Ordering::Relaxed);
    let limit = |family| u64::from(maps.established_limit(family));
    [
        (name::FLOWS4, read(&tally.flows4), limit(IpFamily::V4)),
        (name::FLOWS6, read(&tally.flows6), limit(IpFamily::V6)),
        (name::HALF_OPEN4, read(&tally.half_open4), maps.half_open4.capacity().into()),
        (name::HALF_OPEN6, read(&tally.half_open6), maps.half_open6.capacity().into()),
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
