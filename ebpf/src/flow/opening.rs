//! Flows that are not established yet, and those that have to be looked at again.

use aya_ebpf::bindings::BPF_ANY;
use shunt_abi::{
    counter::Counter,
    flow::{FINISHED, HAIRPIN, HOST_BACKEND, HOST_CLIENT, MASQUERADED, REMAPPED, RESET},
};

use super::{Decision, Work, begin, segment};
use crate::{
    count,
    family::{Family, Flow, FlowValue},
    maps,
    packet::Skb,
};

/// Flags that both halves of a flow have.
const SHARED: u16 = HAIRPIN | HOST_BACKEND | HOST_CLIENT | MASQUERADED | REMAPPED;

/// A packet to what may be a frontend that follows no established flow. With [`Decision::Translate`], the notes hold its
/// flow.
#[inline]
pub(super) fn decide<F: Family>(skb: Skb, work: &mut Work<F>) -> Decision {
    if is_known(work) { Decision::Translate } else { begin::begin(skb, work) }
}

/// Whether the packet follows a flow that is there; that is in the notes then. (A request that is repeated is recognised
/// when its flow is stored: most are not.)
#[inline]
fn is_known<F: Family>(work: &mut Work<F>) -> bool {
    let established = if work.may_be_established == 0 { None } else { F::flows().get_ptr_mut(&work.key) };
    if let Some(present) = established {
        return follows(work, present, true);
    }
    if segment::begins(&work.packet) {
        return false;
    }
    F::opening().get_ptr_mut(&work.key).is_some_and(|present| follows(work, present, false))
}

/// Whether the packet is of the flow that is there, which is forgotten if not.
#[inline(never)]
fn follows<F: Family>(work: &mut Work<F>, present: *mut F::FlowValue, established: bool) -> bool {
    // SAFETY: the pointer comes from a map look-up. (An opening flow's element may be given to another flow, but only
    // once it is the least recently used of all.)
    let present = unsafe { &mut *present };
    present.touch(segment::now(), segment::state(&work.packet));
    work.flow = *present;
    note_other_half(work);
    if holds(work) {
        if !established {
            establish(work);
        }
        return true;
    }
    if !segment::begins(&work.packet) {
        count::count(Counter::FlowMoved);
    }
    forget::<F>(&work.key, &work.other_key);
    false
}

/// Whether the flow that is there is that of the packet: a request for a connection may be for a new one on the same
/// ports.
#[inline]
fn holds<F: Family>(work: &Work<F>) -> bool {
    if segment::begins(&work.packet) {
        return segment::is_current(&work.flow) && !is_over(work);
    }
    segment::may_follow(&work.packet, &work.flow)
}

/// Whether either side has ended the established connection in the notes.
#[inline]
pub(super) fn is_over<F: Family>(work: &Work<F>) -> bool {
    // SAFETY: the map frees its elements after a grace period, which the program's run is within.
    let other = unsafe { F::flows().get(&work.other_key) };
    let other = other.map_or(RESET, FlowValue::flags);
    (work.flow.flags() | other) & (FINISHED | RESET) != 0
}

/// Notes the other half of the flow in the notes, whose packet is the client's.
#[inline]
pub(super) fn note_other_half<F: Family>(work: &mut Work<F>) {
    let hairpin = maps::config().map_or(work.flow.address(), F::hairpin);
    work.other_key = F::other_half(&work.key, &work.flow, hairpin);
    work.other = F::flow_value(&Flow {
        address: work.packet.tuple.destination,
        port: work.packet.tuple.destination_port,
        flags: work.flow.flags() & SHARED,
        backend: work.flow.backend(),
        generation: work.flow.generation(),
        service: work.flow.service(),
        last_seen: segment::now(),
        interface: work.flow.interface(),
        // Means nothing unless the flow is remapped.
        client_port: if work.flow.flags() & REMAPPED == 0 { 0 } else { work.packet.tuple.source_port },
    });
}

/// Removes both halves of a flow, wherever they are. That one is not there is no error.
#[inline(never)]
pub(super) fn forget<F: Family>(key: &F::FlowKey, other: &F::FlowKey) {
    let _absent = F::flows().remove(key);
    let _absent = F::flows().remove(other);
    let _absent = F::opening().remove(key);
    let _absent = F::opening().remove(other);
}

/// Moves both halves of a flow to the map that evicts nothing. If that is full the flow stays where it is.
#[inline(never)]
fn establish<F: Family>(work: &mut Work<F>) {
    work.flow.touch(segment::now(), segment::state(&work.packet));
    if F::flows().insert(&work.key, &work.flow, u64::from(BPF_ANY)).is_err() {
        return count::count(Counter::FlowsFull);
    }
    if F::flows().insert(&work.other_key, &work.other, u64::from(BPF_ANY)).is_err() {
        let _absent = F::flows().remove(&work.key);
        return count::count(Counter::FlowsFull);
    }
    let _absent = F::opening().remove(&work.key);
    let _absent = F::opening().remove(&work.other_key);
    count::count(Counter::FlowEstablished);
}
