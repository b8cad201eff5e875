//! Packets of flows that are known: the hot path.

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use shunt_abi::{counter::Counter, tail::Tail};

use super::{Decision, Hook, Work, decide, half_open, segment, slots, translate, work};
use crate::{
    count,
    family::{Family, FlowValue},
    maps,
    packet::{Packet, Position, Skb, Tuple, is_beyond_checksum, rewrite_sctp_checksum},
    programs::{self, fragment},
};

/// A packet to what may be a frontend.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the hot path")]
pub(crate) fn forward<F: Family>(skb: Skb, packet: &Packet<F>, hook: Hook) -> i32 {
    let tuple = &packet.tuple;
    let present = slots::get::<F>(&F::flow_key(tuple.source, tuple.source_port, tuple.protocol));
    let may_be_present = u8::from(present.is_some());
    if let Some(flow) = present
        && flow.is_to(tuple.destination, tuple.destination_port)
        && segment::may_follow(packet, flow)
    {
        segment::touch_by_client(packet, flow);
        if !flow.is_established() {
            half_open::establish::<F>(flow);
        }
        return follow(skb, packet, flow);
    }
    if let Some(work) = work::on(packet) {
        work.hook = hook;
        work.may_be_present = may_be_present;
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

/// A packet that does not follow the flow in the first slot.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
pub(crate) fn consider<F: Family>(skb: Skb) -> i32 {
    let Some(work) = work::get::<F>() else { return TCX_NEXT };
    let tuple = &work.packet.tuple;
    work.key = F::flow_key(tuple.source, tuple.source_port, tuple.protocol);
    let mut decision = decide::decide(skb, work);
    if work.packet.position == Position::First {
        decision = note_first(skb, work, decision);
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
fn note_first<F: Family>(skb: Skb, work: &mut Work<F>, mut decision: Decision) -> Decision {
    if decision == Decision::Translate
        && is_beyond_checksum(&work.packet, translate::ports(&work.packet, &work.flow))
    {
        count::count(Counter::DropFragment);
        decision = Decision::Drop;
    }
    if !matches!(decision, Decision::Leave | Decision::Absent) {
        fragment::remember(skb, work, decision == Decision::Translate);
    }
    decision
}

/// The flow of a client's packets with this tuple; none is noted.
#[inline]
pub(crate) fn of_client<F: Family>(tuple: &Tuple<F>) -> Option<&'static F::FlowValue> {
    let mut key = F::flow_key(tuple.source, tuple.source_port, tuple.protocol);
    slots::to::<F>(&mut key, &tuple.destination, tuple.destination_port).map(|flow| &*flow)
}

/// The flow of a backend's packets with this tuple; none is noted.
#[inline]
pub(crate) fn of_backend<F: Family>(tuple: &Tuple<F>) -> Option<&'static F::FlowValue> {
    let mut key = F::flow_key(client(tuple), tuple.destination_port, tuple.protocol);
    slots::from::<F>(&mut key, &tuple.source, tuple.source_port).map(|flow| &*flow)
}

/// The client that a backend's packets go to: it may be the backend itself.
#[inline]
pub(crate) fn client<F: Family>(tuple: &Tuple<F>) -> F::Address {
    let is_itself = maps::config().is_some_and(|config| tuple.destination == F::hairpin(config));
    if is_itself { tuple.source } else { tuple.destination }
}

/// The flow that `packet`, from what may be a backend to `client`, belongs to; its packet is noted.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the hot path")]
pub(crate) fn reply<F: Family>(packet: &Packet<F>, client: F::Address) -> Option<&'static F::FlowValue> {
    let tuple = &packet.tuple;
    let mut key = F::flow_key(client, tuple.destination_port, tuple.protocol);
    let mut flow = slots::get::<F>(&key)?;
    if !flow.is_from(tuple.source, tuple.source_port) {
        if !flow.has_more() {
            return None;
        }
        flow = slots::from::<F>(&mut key, &tuple.source, tuple.source_port)?;
    }
    segment::touch_by_backend(packet, flow);
    if segment::is_datagram(packet) && !flow.is_established() {
        half_open::answer::<F>(flow);
    }
    Some(flow)
}
