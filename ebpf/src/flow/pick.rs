//! Choosing a backend.

use aya_ebpf::{bindings::BPF_ANY, helpers::generated::bpf_ktime_get_ns};
use shunt_abi::{
    affinity::AffinityValue,
    backend::{BackendValue, ELIGIBLE_INSIDE, ELIGIBLE_INTERNAL, ELIGIBLE_OUTSIDE},
    config::Config,
    counter::Counter,
    frontend::{FrontendValue, INSIDE_REJECT, INTERNAL, OUTSIDE_REJECT, SPLIT},
};

use super::work::{Client, Work};
use crate::{
    count,
    family::{Family, FlowValue},
    maps::{self, POOL},
    packet::Packet,
};

const NANOSECONDS: u64 = 1_000_000_000;

/// The part of a frontend that concerns one client.
#[derive(Clone, Copy)]
pub(crate) struct Pool {
    offset: u32,
    pub(crate) length: u32,
    /// Whether an empty one rejects.
    pub(crate) rejects: u8,
    /// The flag of backends that are in it.
    eligible: u16,
}

impl Pool {
    #[inline]
    pub(crate) fn of(frontend: &FrontendValue, client: Client) -> Self {
        let flags = frontend.flags;
        if flags & SPLIT != 0 && client == Client::Outside {
            return Self {
                offset: frontend.outside_offset,
                length: frontend.outside_length,
                rejects: u8::from(flags & OUTSIDE_REJECT != 0),
                eligible: ELIGIBLE_OUTSIDE,
            };
        }
        Self {
            offset: frontend.inside_offset,
            length: frontend.inside_length,
            rejects: u8::from(flags & INSIDE_REJECT != 0),
            eligible: if flags & INTERNAL == 0 { ELIGIBLE_INSIDE } else { ELIGIBLE_INTERNAL },
        }
    }

    /// The backend at a place that `hash` names, `attempt` places further.
    #[inline]
    pub(crate) fn at(&self, hash: u32, attempt: u32) -> Option<Picked> {
        let place = (u64::from(hash) * u64::from(self.length)) >> 32;
        let place = u32::try_from(place).ok()?.wrapping_add(attempt);
        let place = if place < self.length { place } else { attempt % self.length.max(1) };
        self.picked(place)
    }

    /// The backend at a place that `hash` names; `None` of an empty pool.
    #[inline]
    pub(crate) fn first(&self, hash: u32) -> Option<Picked> {
        if self.length == 0 {
            return None;
        }
        let place = (u64::from(hash) * u64::from(self.length)) >> 32;
        self.picked(u32::try_from(place).ok()?)
    }

    #[inline]
    fn picked(&self, place: u32) -> Option<Picked> {
        let id = *POOL.get(self.offset.wrapping_add(place))?;
        let backend = maps::backend(id)?;
        // Id 0 is nobody, and so is a backend without a generation.
        (id != 0 && backend.generation != 0).then_some(Picked { id, backend })
    }
}

/// A backend and its id.
#[derive(Clone, Copy)]
pub(crate) struct Picked {
    pub(crate) id: u32,
    pub(crate) backend: &'static BackendValue,
}

/// The hash by which the flow of `packet` finds its place in a pool.
#[inline]
pub(super) fn hash<F: Family>(packet: &Packet<F>, service: u32, config: &Config) -> u32 {
    F::flow_hash(&packet.tuple, service, config.hash_seed)
}

/// The backend that the client had last, if that may be it again.
#[inline(never)]
pub(super) fn by_affinity<F: Family>(work: &Work<F>, frontend: &FrontendValue) -> Option<Picked> {
    let entry = F::affinity().get_ptr_mut(F::affinity_key(work.packet.tuple.source, frontend.service))?;
    // SAFETY: the pointer comes from a map look-up. The element may be given to another client, but only once it is the
    // least recently used of all.
    let entry: &mut AffinityValue = unsafe { &mut *entry };
    let now = nanoseconds();
    if now.wrapping_sub(entry.last_used) > u64::from(frontend.affinity_seconds) * NANOSECONDS {
        return None;
    }
    let backend = maps::backend(entry.backend)?;
    if backend.generation != entry.generation || backend.flags & work.pool.eligible == 0 {
        return None;
    }
    entry.last_used = now;
    count::count(Counter::AffinityHit);
    Some(Picked { id: entry.backend, backend })
}

/// Remembers which backend the client has.
#[inline(never)]
pub(super) fn remember<F: Family>(work: &Work<F>) {
    let value = AffinityValue {
        last_used: nanoseconds(),
        backend: work.flow.id(),
        generation: work.flow.generation(),
    };
    let key = F::affinity_key(work.packet.tuple.source, work.flow.service());
    // A map that evicts is never full.
    let _full = F::affinity().insert(key, value, u64::from(BPF_ANY));
}

#[inline]
fn nanoseconds() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_ktime_get_ns() }
}
