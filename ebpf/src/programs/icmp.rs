//! ICMP errors about translated packets: the packet they quote must be the one that the receiver sent, and their source
//! an address that it knows.

use aya_ebpf::bindings::tcx_action_base::TCX_NEXT;
use shunt_abi::{
    counter::Counter,
    flow::{ACCELERATED, HAIRPIN, HOST_CLIENT, REMAPPED},
};

use super::reverse::to_host;
use crate::{
    count,
    family::{Family, FlowValue},
    flow::{self, Way, Work},
    packet::{Fault, Packet, Side, Skb, quoted},
};

/// Whether the packet in hand is an ICMP message that quotes a packet; it is noted then.
#[inline]
fn read_quoted<F: Family>(skb: Skb, work: &mut Work<F>) -> bool {
    let kind = skb.load::<u8>(work.packet.transport);
    kind.is_some_and(F::is_icmp_error) && quoted::read(skb, &work.packet, &mut work.quoted)
}

/// Whether the packet asks for an echo.
#[inline]
pub(super) fn is_echo_request<F: Family>(skb: Skb, packet: &Packet<F>) -> bool {
    packet.tuple.protocol == F::ICMP && skb.load::<u8>(packet.transport) == Some(F::ECHO_REQUEST)
}

/// An ICMP message that enters.
#[inline(never)]
pub(super) fn ingress<F: Family>(skb: Skb, work: &mut Work<F>) -> i32 {
    if !read_quoted(skb, work) {
        return TCX_NEXT;
    }
    if let Some(flow) = flow::of_client(&work.quoted.tuple.turned()) {
        let verdict = tell_backend(skb, work, flow);
        let is_next = verdict == TCX_NEXT && flow.flags() & ACCELERATED != 0;
        return if is_next { follow(skb, work, flow) } else { verdict };
    }
    match flow::of_backend(&work.quoted.tuple.turned()) {
        Some(flow) if flow.flags() & HOST_CLIENT != 0 => {
            let verdict = tell_client(skb, work, flow);
            if verdict == TCX_NEXT { to_host(skb, work.packet.network, flow.interface()) } else { verdict }
        }
        _ => TCX_NEXT,
    }
}

/// An ICMP message that enters from a backend, or from behind it: one about a packet of an accelerated flow goes the same way
/// as that flow's packets; the verdict on it.
#[inline(never)]
pub(super) fn past_stack<F: Family>(skb: Skb, work: &mut Work<F>) -> Option<i32> {
    if !read_quoted(skb, work) {
        return None;
    }
    let flow = flow::accelerated::<F>(skb, &work.quoted.tuple.turned())?;
    let mut way = Way::none();
    if !flow::find(skb, &work.packet, flow.interface(), &mut way) {
        return None;
    }
    match tell_client(skb, work, flow) {
        TCX_NEXT => Some(flow::send(skb, &work.packet, &way)),
        dropped => Some(dropped),
    }
}

/// An ICMP message that leaves.
#[inline(never)]
pub(super) fn egress<F: Family>(skb: Skb, work: &mut Work<F>) -> i32 {
    if !read_quoted(skb, work) {
        return TCX_NEXT;
    }
    if let Some(flow) = flow::of_backend(&work.quoted.tuple.turned()) {
        return tell_client(skb, work, flow);
    }
    match flow::of_client(&work.quoted.tuple.turned()) {
        Some(flow) if flow.flags() & HOST_CLIENT != 0 && skb.ingress_interface() == 0 => {
            of_this_node(skb, work, flow)
        }
        _ => TCX_NEXT,
    }
}

/// What was translated for the backend of an accelerated flow.
#[inline(never)]
fn follow<F: Family>(skb: Skb, work: &mut Work<F>, flow: &F::FlowValue) -> i32 {
    let mut way = Way::none();
    let is_client_side = flow.backend_interface() != 0 && skb.interface() == flow.interface();
    if is_client_side && flow::find(skb, &work.packet, flow.backend_interface(), &mut way) {
        flow::send(skb, &work.packet, &way)
    } else {
        TCX_NEXT
    }
}

/// This node itself complains of what the frontend seemed to send.
#[inline]
fn of_this_node<F: Family>(skb: Skb, work: &mut Work<F>, flow: &F::FlowValue) -> i32 {
    let verdict = tell_backend(skb, work, flow);
    if verdict != TCX_NEXT {
        return verdict;
    }
    flow::route(skb, &work.packet, false)
}

/// The client's side complains of what the frontend seemed to send: the backend is told.
#[inline]
fn tell_backend<F: Family>(skb: Skb, work: &mut Work<F>, flow: &F::FlowValue) -> i32 {
    if to_backend(skb, work, flow).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    F::readdress(&mut work.packet, Side::Destination, flow.backend());
    if replace_client(skb, work, Side::Source, flow).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    count::count(Counter::IcmpError);
    TCX_NEXT
}

/// The backend's side complains of what the client sent: the client is told of what it did send.
#[inline]
fn tell_client<F: Family>(skb: Skb, work: &mut Work<F>, flow: &F::FlowValue) -> i32 {
    if to_client(skb, work, flow).is_err() || replace_client(skb, work, Side::Destination, flow).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    count::count(Counter::IcmpError);
    TCX_NEXT
}

/// All but the client's address.
#[inline(never)]
fn to_backend<F: Family>(skb: Skb, work: &mut Work<F>, flow: &F::FlowValue) -> Result<(), Fault> {
    if flow.flags() & HAIRPIN != 0 {
        return Ok(());
    }
    quoted::rewrite(skb, &work.packet, &work.quoted, Side::Source, (flow.backend(), flow.backend_port()))?;
    rewrite_client_port(skb, work, Side::Destination, flow)?;
    rewrite_outer(skb, &work.packet, Side::Destination, flow.backend())?;
    Ok(())
}

/// All but the client's address.
#[inline(never)]
fn to_client<F: Family>(skb: Skb, work: &mut Work<F>, flow: &F::FlowValue) -> Result<(), Fault> {
    let backend = work.quoted.tuple.destination;
    quoted::rewrite(
        skb,
        &work.packet,
        &work.quoted,
        Side::Destination,
        (flow.frontend(), flow.frontend_port()),
    )?;
    rewrite_client_port(skb, work, Side::Source, flow)?;
    if work.packet.tuple.source == backend {
        rewrite_outer(skb, &work.packet, Side::Source, flow.frontend())?;
        F::readdress(&mut work.packet, Side::Source, flow.frontend());
    }
    Ok(())
}

/// The receiver may know the client, which is `side` of the message and the other side of the quoted packet, by another address.
#[inline(never)]
fn replace_client<F: Family>(
    skb: Skb,
    work: &mut Work<F>,
    side: Side,
    flow: &F::FlowValue,
) -> Result<(), Fault> {
    if !flow.is_readdressed() {
        return Ok(());
    }
    let (quoted_side, peer) = match side {
        Side::Source => (Side::Destination, flow.backend()),
        Side::Destination => (Side::Source, flow.frontend()),
    };
    F::readdress(&mut work.quoted, side, peer);
    quoted::rewrite_address(skb, &work.packet, &work.quoted, quoted_side, flow.client())?;
    flow::replace_client(skb, &mut work.packet, side, flow)
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
