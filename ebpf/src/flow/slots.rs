//! The elements of a client's port: one for each of its flows, in slots without gaps.

use shunt_abi::flow::SLOTS;

use super::Work;
use crate::family::{Family, FlowKey, FlowValue};

/// No slot.
pub(super) const NONE: u8 = u8::MAX;

/// What is in the slots of the packet in hand, as far as it matters to its flow.
#[derive(Clone, Copy)]
pub(crate) struct Slots {
    /// That of the packet's own flow: of its frontend.
    pub(super) own: u8,
    /// The first that a flow may begin in.
    pub(super) free: u8,
    /// Whether an element is there that may be replaced; 0: the slot is empty.
    pub(super) is_vacant: u8,
    /// Bits of the other flows' ways back ([`FlowValue::way_back`]); 0: there is none.
    pub(super) ways_back: u64,
}

impl Slots {
    /// All slots are empty.
    pub(super) const EMPTY: Self = Self { own: NONE, free: 0, is_vacant: 0, ways_back: 0 };

    /// Whether the flow in hand replaces what is in a slot.
    #[inline]
    pub(super) const fn is_replaced(&self) -> bool {
        self.own != NONE || self.is_vacant != 0 || self.free == NONE
    }

    /// Whether there is a slot for it.
    #[inline]
    pub(super) const fn is_somewhere(&self) -> bool {
        self.own != NONE || self.free != NONE
    }

    /// The slot that it takes.
    #[inline]
    pub(super) const fn taken(&self) -> u8 {
        if self.own == NONE { self.free } else { self.own }
    }

    #[inline]
    const fn note_free(&mut self, slot: u8, is_vacant: u8) {
        if self.free == NONE && slot < SLOTS {
            self.free = slot;
            self.is_vacant = is_vacant;
        }
    }
}

/// The element with this key.
#[inline]
pub(super) fn get<F: Family>(key: &F::FlowKey) -> Option<&'static mut F::FlowValue> {
    let flow = F::flows().get_ptr_mut(key)?;
    // SAFETY: the pointer comes from a map look-up; elements are freed after a grace period at the earliest. (Or given to
    // another flow, whose packets then are as likely translated wrong as those of a flow that ends at that moment.)
    Some(unsafe { &mut *flow })
}

/// Looks through the slots of the packet in hand.
#[inline(never)]
pub(super) fn survey<F: Family>(work: &mut Work<F>) {
    work.slots = Slots { free: NONE, ..Slots::EMPTY };
    for slot in 0..SLOTS {
        work.key.set_slot(slot);
        let Some(present) = get::<F>(&work.key) else { return work.slots.note_free(slot, 0) };
        note(work, slot, present);
        if !present.has_more() {
            return work.slots.note_free(slot + 1, 0);
        }
    }
}

#[inline]
fn note<F: Family>(work: &mut Work<F>, slot: u8, present: &F::FlowValue) {
    let tuple = &work.packet.tuple;
    if present.is_vacant() {
        work.slots.note_free(slot, 1);
    } else if present.is_to(tuple.destination, tuple.destination_port) {
        work.slots.own = slot;
    } else {
        work.slots.ways_back |= present.way_back();
    }
}

/// Whether a flow of another slot than the own one has the way back of the one in the notes, which is about to begin.
#[inline(never)]
pub(super) fn is_taken<F: Family>(work: &mut Work<F>) -> bool {
    for slot in 0..SLOTS {
        work.key.set_slot(slot);
        let Some(present) = get::<F>(&work.key) else { return false };
        if slot != work.slots.own && present.is_from(work.flow.backend(), work.flow.backend_port()) {
            return true;
        }
        if !present.has_more() {
            return false;
        }
    }
    false
}

/// The flow of the client's packets that go there; the key gets its slot.
#[inline(never)]
pub(super) fn to<F: Family>(
    key: &mut F::FlowKey,
    address: &F::Address,
    port: u16,
) -> Option<&'static mut F::FlowValue> {
    find::<F>(key, |flow| flow.is_to(*address, port))
}

/// The element that packets to the client that come from there belong to; the key gets its slot.
#[inline(never)]
pub(super) fn from<F: Family>(
    key: &mut F::FlowKey,
    address: &F::Address,
    port: u16,
) -> Option<&'static mut F::FlowValue> {
    find::<F>(key, |flow| flow.is_from(*address, port))
}

/// The first element of the client's port that is meant; the key gets its slot.
#[inline(always)]
#[expect(clippy::inline_always, reason = "one call less: the kernel allows eight that call each other")]
fn find<F: Family>(
    key: &mut F::FlowKey,
    is_meant: impl Fn(&F::FlowValue) -> bool,
) -> Option<&'static mut F::FlowValue> {
    for slot in 0..SLOTS {
        key.set_slot(slot);
        let flow = get::<F>(key)?;
        if is_meant(flow) {
            return Some(flow);
        }
        if !flow.has_more() {
            return None;
        }
    }
    None
}
