//! ICMP errors about translated packets: the packet they quote must be the one that the receiver sent, and their source
//! an address that it knows.

use aya_ebpf::bindings::tcx_action_base::TCX_NEXT;
use shunt_abi::{
    counter::Counter,
    flow::{HAIRPIN, HOST_CLIENT, REMAPPED},
};

use crate::{
    count,
    family::{Family, FlowValue},
    flow::{self, Work},
    packet::{Fault, Packet, Side, Skb, quoted},
};

/// Whether the packet in hand is an ICMP message that quotes a packet; it is noted then.
#[inline]
fn read_quoted<F: Family>(skb: Skb, work: &mut Work<F>) -> bool {
    let kind = skb.load::<u8>(work.packet.transport);
    kind.is_some_and(F::is_icmp_error) && quoted::read(skb, &work.packet, &mut work.quoted)
}

/// An ICMP message that enters.
#[inline(never)]
pub(super) fn ingress<F: Family>(skb: Skb, work: &mut Work<F>) -> i32 {
    if !read_quoted(skb, work) {
        return TCX_NEXT;
    }
    if let Some(flow) = flow::of_client(&work.quoted.tuple.turned()) {
        return finish(to_backend(skb, work, flow));
    }
    match flow::of_backend(&work.quoted.tuple.turned()) {
        Some(flow) if flow.flags() & HOST_CLIENT != 0 => finish(to_client(skb, work, flow)),
        _ => TCX_NEXT,
    }
}

/// An ICMP message that leaves.
#[inline(never)]
pub(super) fn egress<F: Family>(skb: Skb, work: &mut Work<F>) -> i32 {
    if !read_quoted(skb, work) {
        return TCX_NEXT;
    }
    match flow::of_backend(&work.quoted.tuple.turned()) {
        Some(flow) => finish(to_client(skb, work, flow)),
        None => TCX_NEXT,
    }
}

#[inline]
fn finish(done: Result<(), Fault>) -> i32 {
    if done.is_err() {
        return count::drop(Counter::DropRewrite);
    }
    count::count(Counter::IcmpError);
    TCX_NEXT
}

/// The client's side complains of what the frontend seemed to send: the backend is told.
#[inline(never)]
fn to_backend<F: Family>(skb: Skb, work: &Work<F>, flow: &F::FlowValue) -> Result<(), Fault> {
    if flow.flags() & HAIRPIN != 0 {
        return Ok(());
    }
    quoted::rewrite(skb, &work.packet, &work.quoted, Side::Source, (flow.backend(), flow.backend_port()))?;
    rewrite_client_port(skb, work, Side::Destination, flow)?;
    rewrite_outer(skb, &work.packet, Side::Destination, flow.backend())
}

/// The backend's side complains of what the client sent: the client is told of what it did send.
#[inline(never)]
fn to_client<F: Family>(skb: Skb, work: &Work<F>, flow: &F::FlowValue) -> Result<(), Fault> {
    quoted::rewrite(
        skb,
        &work.packet,
        &work.quoted,
        Side::Destination,
        (flow.frontend(), flow.frontend_port()),
    )?;
    rewrite_client_port(skb, work, Side::Source, flow)?;
    if work.packet.tuple.source != work.quoted.tuple.destination {
        return Ok(());
    }
    rewrite_outer(skb, &work.packet, Side::Source, flow.frontend())
}

/// The receiver knows the client, which is `side` of the quoted packet, by another port.
#[inline]
fn rewrite_client_port<F: Family>(
    skb: Skb,
    work: &Work<F>,
    side: Side,
    flow: &F::FlowValue,
) -> Result<(), Fault> {
    if flow.flags() & REMAPPED == 0 {
        return Ok(());
    }
    quoted::rewrite_port(skb, &work.packet, &work.quoted, side, flow.client_port())
}

#[inline]
fn rewrite_outer<F: Family>(
    skb: Skb,
    packet: &Packet<F>,
    side: Side,
    address: F::Address,
) -> Result<(), Fault> {
    F::rewrite_address(skb, packet, side, address)
}
