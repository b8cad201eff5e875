//! Flows between their first packet and the one that establishes them: each has a place in a ring, and whoever takes the
//! place next ends it. So there are never more than places, and a flood of them costs no other flow anything.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use shunt_abi::{
    config::Config,
    counter::Counter,
    flow::{ALIAS, ANSWERED, ESTABLISHED, REMAPPED},
};

use super::{Work, ended, slots};
use crate::{
    count,
    family::{Family, FlowKey, FlowValue},
    maps,
};

/// Gives the flow in the notes, about to be stored under the key in the notes, the next place of this CPU.
#[inline]
pub(super) fn enter<F: Family>(work: &mut Work<F>, config: &Config) {
    work.flow.set_place(0);
    let place = next(&mut work.cursor, config);
    let Some(entry) = F::half_open().get_ptr_mut(place) else { return };
    // SAFETY: the pointer comes from a map look-up. Other CPUs at most empty the element.
    let entry = unsafe { &mut *entry };
    if entry.protocol() != 0 {
        work.other_key = *entry;
        evict(work, place + 1);
    }
    *entry = work.key;
    work.flow.set_place(place + 1);
}

/// Gives `flow`, about to be stored under `key`, the next place of this CPU. Not, and nothing has happened, where it takes
/// more than a glance at whoever was there to end it.
#[inline(always)]
#[expect(clippy::inline_always, reason = "called once, for every new flow")]
pub(super) fn enter_at_once<F: Family>(
    cursor: &mut u32,
    key: &F::FlowKey,
    flow: &mut F::FlowValue,
    config: &Config,
) -> bool {
    let before = *cursor;
    let place = next(cursor, config);
    let Some(entry) = F::half_open().get_ptr_mut(place) else { return true };
    // SAFETY: as in `enter`.
    let entry = unsafe { &mut *entry };
    if entry.protocol() != 0 && !evict_at_once::<F>(entry, key, place + 1) {
        *cursor = before;
        return false;
    }
    *entry = *key;
    flow.set_place(place + 1);
    true
}

/// Ends the flow whose key is in the ring, if it is half-open and in that place. Not where other elements have to do with
/// it.
#[inline(never)]
fn evict_at_once<F: Family>(entry: &F::FlowKey, key: &F::FlowKey, place: u32) -> bool {
    let Some(flow) = slots::get::<F>(entry) else { return true };
    if flow.place() != place || flow.is_established() || flow.is_vacant() {
        return true;
    }
    if entry.slot() != 0 || flow.has_more() || flow.flags() & (REMAPPED | ALIAS) != 0 || entry.is_port_of(key)
    {
        return false;
    }
    count::count(Counter::FlowEvicted);
    let _absent = F::flows().remove(entry);
    true
}

/// The index of the next place: each CPU has a part of the ring of its own.
#[inline]
fn next(cursor: &mut u32, config: &Config) -> u32 {
    let places = 1_u32.wrapping_shl(config.half_open_shift);
    let place = *cursor & places.wrapping_sub(1);
    *cursor = cursor.wrapping_add(1);
    // SAFETY: the helper takes nothing.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    cpu.wrapping_mul(places).wrapping_add(place)
}

/// Ends the flow whose key is noted as the other one, if it is half-open and in that place.
#[inline(never)]
fn evict<F: Family>(work: &mut Work<F>, place: u32) {
    if is_in(work, place) {
        count::count(Counter::FlowEvicted);
        ended::forget(work);
    }
}

/// Whether the flow whose key is noted as the other one is half-open and in that place.
#[inline]
fn is_in<F: Family>(work: &Work<F>, place: u32) -> bool {
    slots::get::<F>(&work.other_key)
        .is_some_and(|flow| flow.place() == place && !flow.is_established() && !flow.is_vacant())
}

/// Makes room in the map for an element: one of the next half-open flows goes. Whether there was one.
#[inline(never)]
pub(super) fn make_room<F: Family>(work: &mut Work<F>, config: &Config) -> bool {
    for _ in 0..ATTEMPTS {
        if is_anybody_next(work, config) {
            count::count(Counter::FlowEvicted);
            ended::forget(work);
            return true;
        }
    }
    false
}

/// Places that are looked at for somebody who makes room.
const ATTEMPTS: u32 = 16;

/// Whether a half-open flow is in the next place, which gets empty; its key is noted as the other one.
#[inline(never)]
fn is_anybody_next<F: Family>(work: &mut Work<F>, config: &Config) -> bool {
    let place = next(&mut work.cursor, config);
    let Some(entry) = F::half_open().get_ptr_mut(place) else { return false };
    // SAFETY: as in `enter`.
    let entry = unsafe { &mut *entry };
    // Not the flow in hand.
    if entry.protocol() == 0 || place + 1 == work.flow.place() {
        return false;
    }
    work.other_key = *entry;
    *entry = F::FlowKey::nobody();
    is_in(work, place + 1)
}

/// The flow is established with a packet of the client: unless there are as many already as there may be.
#[inline(never)]
pub(super) fn establish<F: Family>(flow: &mut F::FlowValue) {
    if is_admitted::<F>(flow) {
        flow.note_client(ESTABLISHED);
    }
}

/// A datagram of the backend, of a flow that is not established.
#[inline(never)]
pub(super) fn answer<F: Family>(flow: &mut F::FlowValue) {
    // The first element of a flow with an alias is not known here.
    if flow.flags() & ALIAS != 0 {
        return;
    }
    if flow.by_backend() & ANSWERED == 0 {
        flow.note_backend(ANSWERED);
    } else if is_admitted::<F>(flow) {
        flow.note_backend(ESTABLISHED);
    }
}

/// Whether the flow may be established; it is counted then, and has left the ring.
#[inline]
fn is_admitted<F: Family>(flow: &mut F::FlowValue) -> bool {
    let Some(config) = maps::config() else { return false };
    if !is_room_left::<F>(config) {
        count::count(Counter::FlowsFull);
        return false;
    }
    add::<F>(1);
    leave::<F>(flow);
    count::count(Counter::FlowEstablished);
    true
}

#[inline]
fn leave<F: Family>(flow: &mut F::FlowValue) {
    if flow.place() == 0 {
        return;
    }
    if let Some(entry) = F::half_open().get_ptr_mut(flow.place() - 1) {
        // SAFETY: as in `enter`.
        unsafe { *entry = F::FlowKey::nobody() };
    }
    flow.set_place(0);
}

#[inline]
fn is_room_left<F: Family>(config: &Config) -> bool {
    maps::ESTABLISHED.get(F::INDEX).is_some_and(|established| *established < i64::from(config.established))
}

/// An established flow is no more.
#[inline]
pub(super) fn subtract<F: Family>() {
    add::<F>(-1);
}

#[inline]
fn add<F: Family>(number: i64) {
    let Some(established) = maps::ESTABLISHED.get_ptr_mut(F::INDEX) else { return };
    // SAFETY: the pointer comes from a map look-up, and the instruction adds to the eight bytes there, atomically. (The one
    // that returns the sum, which compilers prefer, is not known to kernels before 5.12.)
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({established} + 0) += {number}",
            established = in(reg) established,
            number = in(reg) number,
            options(nostack),
        );
    }
}
