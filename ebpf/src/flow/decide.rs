//! Packets to what may be a frontend that do not simply follow what is in the first slot of their client's port.

use aya_ebpf::bindings::tcx_action_base::TCX_NEXT;
use shunt_abi::{counter::Counter, tail::Tail};

use super::{Decision, Work, begin, conclude::conclude, ended, half_open, segment, slots, work};
use crate::{
    count,
    family::{Family, FlowKey as _, FlowValue as _},
    packet::Skb,
    programs,
};

/// A packet of a client's port that may have flows, or of a Service that asks for more than most.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
pub(crate) fn decide<F: Family>(skb: Skb) -> i32 {
    let Some(work) = work::get::<F>() else { return TCX_NEXT };
    let tuple = &work.packet.tuple;
    work.key = F::flow_key(tuple.source, tuple.source_port, tuple.protocol);
    let decision = follow_or_begin(skb, work);
    if decision == Decision::Begin || (work.is_left != 0 && decision != Decision::Translate) {
        work.decision = decision;
        programs::continue_in::<F>(skb, Tail::Store);
        return TCX_NEXT;
    }
    conclude(skb, work, decision)
}

#[inline]
fn follow_or_begin<F: Family>(skb: Skb, work: &mut Work<F>) -> Decision {
    work.slots = slots::Slots::EMPTY;
    work.is_left = 0;
    if work.may_be_present != 0 {
        slots::survey(work);
        match meet(work) {
            Met::Nobody => {}
            Met::Followed => return Decision::Translate,
            Met::Left => work.is_left = 1,
        }
    }
    begin::begin(skb, work)
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
    work::copy(present, &mut work.flow);
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
