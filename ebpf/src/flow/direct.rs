//! Packets to backends themselves.

use aya_ebpf::bindings::tcx_action_base::TCX_NEXT;
use shunt_abi::flow::{ALIAS, HOST_CLIENT};

use super::{Work, ended, segment, slots, work};
use crate::{
    family::{Family, FlowKey, FlowValue},
    maps,
    packet::Skb,
};

/// A packet to a backend itself. If there was a flow through a frontend that had the same ports, replies must not be
/// translated any more. (A packet may pass several interfaces: what this node translated is of the flow.)
pub(crate) fn direct<F: Family>(skb: Skb) -> i32 {
    let Some(config) = maps::config() else { return TCX_NEXT };
    if skb.was_translated(config.node_note()) {
        return TCX_NEXT;
    }
    if let Some(work) = work::get::<F>() {
        forget_if_ended(work);
    }
    TCX_NEXT
}

/// A connection that is opening, or open, ends with its own packets only, unless nothing was heard of it for a while.
/// One that is closing, or a flow of datagrams, has nothing left to come that matters.
#[inline(never)]
fn forget_if_ended<F: Family>(work: &mut Work<F>) {
    let tuple = &work.packet.tuple;
    work.other_key = F::flow_key(tuple.source, tuple.source_port, tuple.protocol);
    let Some(mut flow) = slots::from::<F>(&mut work.other_key, &tuple.destination, tuple.destination_port)
    else {
        return;
    };
    if flow.flags() & HOST_CLIENT != 0 {
        return;
    }
    if flow.flags() & ALIAS != 0 {
        let Some(first) = first_element(work, flow) else { return };
        flow = first;
    }
    let (key, is_recent) = (work.other_key, flow.last_seen() == segment::now());
    if segment::is_datagram(&work.packet) || !is_recent || ended::is_over(work, key, flow) {
        // The packet in hand has no flow.
        work.key = F::FlowKey::nobody();
        work.other_key = key;
        ended::forget(work);
    }
}

/// The first element of a flow, of which the alias has the key that is noted as the other one: the one that is so from
/// now on.
#[inline(never)]
fn first_element<F: Family>(work: &mut Work<F>, alias: &F::FlowValue) -> Option<&'static mut F::FlowValue> {
    work.other_key = F::twin(&work.other_key, alias)?;
    slots::to::<F>(&mut work.other_key, &alias.frontend(), alias.frontend_port())
}
