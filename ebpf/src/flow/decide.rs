//! Packets to what may be a frontend that do not simply follow what is in the first slot of their client's port.

use shunt_abi::counter::Counter;

use super::{Decision, Work, begin, ended, half_open, segment, slots};
use crate::{
    count,
    family::{Family, FlowKey, FlowValue},
    packet::Skb,
};

/// What is to be done with the packet in hand. With [`Decision::Translate`], the notes hold its flow.
#[inline]
pub(super) fn decide<F: Family>(skb: Skb, work: &mut Work<F>) -> Decision {
    work.slots = slots::Slots::EMPTY;
    let mut is_left = false;
    if work.may_be_present != 0 {
        slots::survey(work);
        match meet(work) {
            Met::Nobody => {}
            Met::Followed => return Decision::Translate,
            Met::Left => is_left = true,
        }
    }
    let decision = begin::begin(skb, work);
    if is_left && decision != Decision::Translate {
        forget_own(work);
    }
    decision
}

/// What a packet has to do with the flow that is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    /// None is there, or one that begins, as the packet does: it may be the same request.
    Nobody,
    /// It follows the flow, which is in the notes.
    Followed,
    /// It begins another in its place.
    Left,
}

#[inline(never)]
fn meet<F: Family>(work: &mut Work<F>) -> Met {
    let Some(present) = own(work) else { return Met::Nobody };
    let begins = segment::begins(&work.packet);
    if begins && !present.is_established() {
        return Met::Nobody;
    }
    if !holds(work, present) {
        if !begins {
            count::count(Counter::FlowMoved);
        }
        return Met::Left;
    }
    segment::touch_by_client(&work.packet, present);
    if !present.is_established() {
        half_open::establish::<F>(present);
    }
    work.flow = *present;
    Met::Followed
}

/// The packet's own flow, as far as one has a slot; its key is noted.
#[inline]
pub(super) fn own<F: Family>(work: &mut Work<F>) -> Option<&'static mut F::FlowValue> {
    if work.slots.own == slots::NONE {
        return None;
    }
    work.key.set_slot(work.slots.own);
    slots::get::<F>(&work.key)
}

/// Whether the flow that is there is that of the packet: a request for a connection may be for a new one on the same
/// ports.
#[inline]
fn holds<F: Family>(work: &mut Work<F>, present: &F::FlowValue) -> bool {
    if segment::begins(&work.packet) {
        let key = work.key;
        return segment::is_current(present) && !ended::is_over(work, key, present);
    }
    segment::may_follow(&work.packet, present)
}

/// Forgets the flow that the packet left, for none.
#[inline(never)]
fn forget_own<F: Family>(work: &mut Work<F>) {
    work.key.set_slot(work.slots.own);
    work.other_key = work.key;
    work.key = F::FlowKey::NOBODY;
    ended::forget(work);
}
