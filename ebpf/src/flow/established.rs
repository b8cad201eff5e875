//! Packets of flows that are known: the hot path.

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use shunt_abi::{
    counter::Counter,
    flow::{FORWARD, REVERSE},
    tail::Tail,
};

use super::{Decision, Hook, Work, opening, segment, translate, work};
use crate::{
    count,
    family::{Family, FlowValue},
    packet::{Packet, Position, Skb, is_beyond_checksum, rewrite_sctp_checksum},
    programs::{self, fragment},
};

/// A packet to what may be a frontend.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the hot path")]
pub(crate) fn forward<F: Family>(skb: Skb, packet: &Packet<F>, hook: Hook) -> i32 {
    let key = F::flow_key(&packet.tuple, FORWARD);
    let present = F::flows().get_ptr_mut(&key);
    if let Some(flow) = present {
        // SAFETY: the pointer comes from a map look-up; elements are freed after a grace period at the earliest.
        let flow = unsafe { &mut *flow };
        if segment::may_follow(packet, flow) {
            flow.touch(segment::now(), segment::state(packet));
            return follow(skb, packet, flow);
        }
    }
    if let Some(work) = work::on(packet) {
        work.hook = hook;
        work.may_be_established = u8::from(present.is_some());
        programs::continue_in::<F>(skb, Tail::Consider);
    }
    TCX_NEXT
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "the hot path")]
fn follow<F: Family>(skb: Skb, packet: &Packet<F>, flow: &F::FlowValue) -> i32 {
    if translate::to_backend(skb, packet, flow).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    if !translate::needs_more(flow.flags()) {
        return TCX_NEXT;
    }
    if let Some(work) = work::on(packet) {
        work.flow = *flow;
        programs::continue_in::<F>(skb, Tail::Special);
    }
    TCX_NEXT
}

/// A packet that follows no established flow.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
pub(crate) fn consider<F: Family>(skb: Skb) -> i32 {
    let Some(work) = work::get::<F>() else { return TCX_NEXT };
    work.key = F::flow_key(&work.packet.tuple, FORWARD);
    let mut decision = opening::decide(skb, work);
    if work.packet.position == Position::First {
        decision = note_first(work, decision);
    }
    match decision {
        Decision::Translate => {}
        Decision::Leave => return TCX_NEXT,
        Decision::Absent => {
            match work.hook {
                Hook::Ingress => programs::ingress::to_no_frontend(skb, work),
                Hook::HostEgress => programs::egress::to_no_frontend(skb, work),
            }
            return TCX_NEXT;
        }
        Decision::Drop => return TCX_DROP,
        Decision::Reject => {
            count::count(Counter::Rejected);
            programs::continue_in::<F>(skb, Tail::Reject);
            return TCX_DROP;
        }
    }
    // SCTP comes this way always, so this is where its checksum follows all that becomes of the ports.
    let ports = translate::ports(&work.packet, &work.flow);
    if rewrite_sctp_checksum(skb, &work.packet, ports).is_err()
        || translate::to_backend(skb, &work.packet, &work.flow).is_err()
    {
        return count::drop(Counter::DropRewrite);
    }
    if !translate::needs_more(work.flow.flags()) {
        return TCX_NEXT;
    }
    programs::continue_in::<F>(skb, Tail::Special);
    TCX_NEXT
}

/// Notes what becomes of the packet that the first fragment in hand belongs to.
#[inline(never)]
fn note_first<F: Family>(work: &Work<F>, mut decision: Decision) -> Decision {
    if decision == Decision::Translate
        && is_beyond_checksum(&work.packet, translate::ports(&work.packet, &work.flow))
    {
        count::count(Counter::DropFragment);
        decision = Decision::Drop;
    }
    if !matches!(decision, Decision::Leave | Decision::Absent) {
        fragment::remember(work, decision == Decision::Translate);
    }
    decision
}

/// The half of a flow with this key, its packet not noted.
#[inline]
pub(crate) fn find<F: Family>(key: &F::FlowKey) -> Option<&'static F::FlowValue> {
    let flow = match F::flows().get_ptr(key) {
        Some(flow) => flow,
        None => F::opening().get_ptr(key)?,
    };
    // SAFETY: as in `reverse`.
    Some(unsafe { &*flow })
}

/// The reverse half of the flow that `packet`, from what may be a backend, belongs to; its packet is noted.
#[inline]
pub(crate) fn reverse<F: Family>(packet: &Packet<F>) -> Option<&'static F::FlowValue> {
    let key = F::flow_key(&packet.tuple, REVERSE);
    let flow = match F::flows().get_ptr_mut(&key) {
        Some(flow) => flow,
        None => F::opening().get_ptr_mut(&key)?,
    };
    // SAFETY: the pointer comes from a map look-up; an opening flow's element may be given to another flow, but only
    // once it is the least recently used of all.
    let flow = unsafe { &mut *flow };
    flow.touch(segment::now(), segment::state(packet));
    Some(flow)
}
