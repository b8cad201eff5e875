//! Packets of flows that are known: the hot path.

use aya_ebpf::bindings::tcx_action_base::TCX_NEXT;
use shunt_abi::{counter::Counter, tail::Tail};

use super::{Hook, accelerate, half_open, segment, slots, translate, work};
use crate::{
    count,
    family::{Family, FlowValue},
    maps,
    packet::{Packet, Skb, Tuple},
    programs,
};

/// A packet to what may be a frontend. With `ACCELERATED`, those of accelerated flows go on here at once.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the hot path")]
pub(crate) fn forward<F: Family, const ACCELERATED: bool>(skb: Skb, packet: &Packet<F>, hook: Hook) -> i32 {
    let tuple = &packet.tuple;
    let present = slots::get::<F>(&F::flow_key(tuple.source, tuple.source_port, tuple.protocol));
    let is_present = present.is_some();
    if let Some(flow) = present
        && flow.is_to(tuple.destination, tuple.destination_port)
        && segment::may_follow(packet, flow)
    {
        segment::touch_by_client(packet, flow);
        if !flow.is_established() {
            half_open::establish::<F>(flow);
        }
        return follow::<F, ACCELERATED>(skb, packet, flow);
    }
    let Some(work) = work::on(packet) else { return TCX_NEXT };
    work.hook = hook;
    if is_present {
        work.may_be_present = 1;
        programs::continue_in::<F>(skb, Tail::Decide);
    } else {
        work.may_be_present = 0;
        programs::continue_in::<F>(skb, Tail::Consider);
    }
    TCX_NEXT
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "the hot path")]
fn follow<F: Family, const ACCELERATED: bool>(skb: Skb, packet: &Packet<F>, flow: &F::FlowValue) -> i32 {
    if translate::to_backend(skb, packet, flow).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    if !translate::needs_more(flow.flags()) {
        return TCX_NEXT;
    }
    if ACCELERATED && accelerate::is_decided(flow) {
        return accelerate::follow(skb, packet, flow);
    }
    if let Some(work) = work::on(packet) {
        work.flow = *flow;
        programs::continue_in::<F>(skb, Tail::Special);
    }
    TCX_NEXT
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
