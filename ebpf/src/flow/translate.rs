//! Changing packets of a flow on their way to the backend.

use aya_ebpf::bindings::tcx_action_base::TCX_NEXT;
use shunt_abi::{
    counter::Counter,
    flow::{ACCELERATED, HAIRPIN, HOST_CLIENT, MASQUERADED, REMAPPED},
    fragment::BY_LOOPBACK,
};

use super::{Work, accelerate, redirect, segment, source, work};
use crate::{
    count,
    family::{Family, Flow, FlowValue},
    maps,
    packet::{Fault, Packet, Side, Skb, rewrite_ports},
};

/// Flags that ask for more than a translated destination.
const SPECIAL: u16 = HAIRPIN | HOST_CLIENT | MASQUERADED | REMAPPED | ACCELERATED;

/// Puts the backend in the place of the frontend.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the hot path")]
pub(super) fn to_backend<F: Family>(skb: Skb, packet: &Packet<F>, flow: &F::FlowValue) -> Result<(), Fault> {
    F::rewrite(skb, packet, Side::Destination, flow.backend(), flow.backend_port())?;
    if segment::stands_alone(packet)
        && let Some(config) = maps::config()
    {
        skb.note_translated(config.node_note());
    }
    count::count(Counter::Forward);
    count::packet(skb, flow.service());
    Ok(())
}

/// Whether flags of a flow ask for more than a translated destination.
#[inline]
pub(crate) const fn needs_more(flags: u16) -> bool {
    flags & SPECIAL != 0
}

/// Notes for [`special`] a flow of which no more is known than the addresses of client, as the backend sees it, and backend.
#[inline]
pub(crate) fn note_special<F: Family>(work: &mut Work<F>, [client, address]: [F::Address; 2], flags: u16) {
    work.flow = F::flow_value(&Flow {
        frontend: address,
        backend: address,
        frontend_port: 0,
        backend_port: 0,
        flags,
        id: 0,
        generation: 0,
        service: 0,
        last_seen: 0,
        interface: 0,
    });
    if client != work.packet.tuple.source {
        work.flow.readdress(client);
    }
}

/// What else happens to a packet whose destination was translated; the notes hold it as it was.
pub(crate) fn special<F: Family>(skb: Skb) -> i32 {
    let Some(work) = work::get::<F>() else { return TCX_NEXT };
    let flow = work.flow;
    if flow.flags() & REMAPPED != 0
        && rewrite_ports(skb, &work.packet, Side::Source, flow.client_port()).is_err()
    {
        return count::drop(Counter::DropRewrite);
    }
    let tuple = &work.packet.tuple;
    let stays = tuple.destination == flow.backend() && tuple.destination_port == flow.backend_port();
    F::readdress(&mut work.packet, Side::Destination, flow.backend());
    if flow.flags() & HAIRPIN != 0 {
        return hairpin(skb, &work.packet);
    }
    if flow.flags() & HOST_CLIENT != 0 {
        // One that goes where it was going anyway is on its way.
        if stays && flow.flags() & REMAPPED == 0 {
            return TCX_NEXT;
        }
        if source::replace(skb, &mut work.packet, Side::Source, &flow).is_err() {
            return count::drop(Counter::DropRewrite);
        }
        return redirect::route(skb, &work.packet, flow.flags() & BY_LOOPBACK != 0);
    }
    if flow.flags() & ACCELERATED != 0 {
        return accelerate::request(skb, work);
    }
    if flow.flags() & MASQUERADED == 0 {
        return TCX_NEXT;
    }
    count::count(Counter::Masqueraded);
    if let Some(config) = maps::config() {
        skb.mark(config.masquerade_mark);
    }
    TCX_NEXT
}

/// Ports, source and destination, that a packet has on its way to the backend.
#[inline]
pub(super) fn ports<F: Family>(packet: &Packet<F>, flow: &F::FlowValue) -> [u16; 2] {
    let is_remapped = flow.flags() & REMAPPED != 0;
    [if is_remapped { flow.client_port() } else { packet.tuple.source_port }, flow.backend_port()]
}

/// A backend that is its own client gets the packet back, from an address that is not its own.
#[inline]
fn hairpin<F: Family>(skb: Skb, packet: &Packet<F>) -> i32 {
    let Some(config) = maps::config() else { return count::drop(Counter::DropRewrite) };
    if F::rewrite_address(skb, packet, Side::Source, F::hairpin(config)).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    count::count(Counter::Hairpin);
    redirect::bounce(skb, packet.network)
}
