//! Packets from backends back to clients.

use aya_ebpf::bindings::tcx_action_base::TCX_NEXT;
use shunt_abi::{
    counter::Counter,
    flow::{HAIRPIN, HOST_CLIENT, REMAPPED},
    tail::Tail,
};

use super::{continue_in, fragment, icmp, ingress::is_unusual};
use crate::{
    count,
    family::{self, Family, FlowValue},
    flow,
    packet::{Fault, Packet, Position, Side, Skb, is_beyond_checksum, rewrite_ports, rewrite_sctp_checksum},
};

/// Puts the frontend in the place of the backend.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the hot path")]
pub(super) fn translate<F: Family>(skb: Skb, packet: &Packet<F>, flow: &F::FlowValue) -> Result<(), Fault> {
    F::rewrite(skb, packet, Side::Source, flow.frontend(), flow.frontend_port())?;
    count::count(Counter::Reverse);
    count::packet(skb, flow.service());
    Ok(())
}

/// A packet about to leave; the verdict on it if it belongs to a flow.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the hot path: a function of its own lies in memory of its own, which is cold"
)]
pub(super) fn to_client<F: Family>(skb: Skb, packet: &Packet<F>) -> Option<i32> {
    let flow = flow::reply(packet, packet.tuple.destination)?;
    if translate(skb, packet, flow).is_err() {
        return Some(count::drop(Counter::DropRewrite));
    }
    if flow.flags() & (HOST_CLIENT | REMAPPED) == 0 {
        return Some(TCX_NEXT);
    }
    if restore_port(skb, packet, flow).is_err() {
        return Some(count::drop(Counter::DropRewrite));
    }
    // Client and backend are both this node: conntrack, which knows the packet by its old source, is to look again.
    if flow.flags() & HOST_CLIENT != 0 {
        return Some(flow::deliver_to_host(skb, packet.network, flow.interface()));
    }
    Some(TCX_NEXT)
}

/// The client gets the packet at its own port, whatever port the backend sees.
#[inline]
fn restore_port<F: Family>(skb: Skb, packet: &Packet<F>, flow: &F::FlowValue) -> Result<(), Fault> {
    if flow.flags() & REMAPPED == 0 {
        return Ok(());
    }
    rewrite_ports(skb, packet, Side::Destination, flow.client_port())
}

/// A packet from what may be a backend that enters, to nobody whom programs have to do with: replies of accelerated flows
/// are among them.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
pub(super) fn unawaited<F: Family>(skb: Skb, network: u32) -> i32 {
    let Some(packet) = F::parse(skb, network) else { return TCX_NEXT };
    if !is_unusual(&packet) {
        let is_reply = family::from_reached(&packet.tuple);
        return if is_reply { past_stack(skb, &packet).unwrap_or(TCX_NEXT) } else { TCX_NEXT };
    }
    if packet.position != Position::Later && flow::note(&packet).is_some() {
        continue_in::<F>(skb, Tail::UnusualReply);
    }
    TCX_NEXT
}

/// A reply that enters, if it is of an accelerated flow and can go on past the host's stack.
#[inline]
pub(super) fn past_stack<F: Family>(skb: Skb, packet: &Packet<F>) -> Option<i32> {
    let flow = flow::accelerated::<F>(skb, &packet.tuple)?;
    let mut way = flow::Way::none();
    if !flow::find(skb, packet, flow.interface(), &mut way) {
        return None;
    }
    flow::note_reply(packet, flow);
    if translate(skb, packet, flow).is_err() {
        return Some(count::drop(Counter::DropRewrite));
    }
    Some(flow::send(skb, packet, &way))
}

/// A fragment, or an ICMP error, of what may be a backend, that enters.
pub(crate) fn unusual_reply<F: Family>(skb: Skb) -> i32 {
    let Some(work) = flow::notes::<F>() else { return TCX_NEXT };
    match work.packet.position {
        Position::Whole if work.packet.tuple.protocol == F::ICMP => {
            if let Some(verdict) = icmp::past_stack(skb, work) {
                return verdict;
            }
        }
        Position::First => {
            if let Some(flow) = flow::accelerated::<F>(skb, &work.packet.tuple) {
                flow.slow_down();
            }
        }
        _ => {}
    }
    continue_in::<F>(skb, Tail::UnusualIngress);
    TCX_NEXT
}

/// Ports, source and destination, that a packet of a backend has on its way to the client.
#[inline]
pub(super) fn ports<F: Family>(packet: &Packet<F>, flow: &F::FlowValue) -> [u16; 2] {
    let is_remapped = flow.flags() & REMAPPED != 0;
    [flow.frontend_port(), if is_remapped { flow.client_port() } else { packet.tuple.destination_port }]
}

/// A packet of a backend to this host or to the address that stands for itself.
pub(crate) fn to_host_or_itself<F: Family>(skb: Skb) -> i32 {
    let Some(work) = flow::notes::<F>() else { return TCX_NEXT };
    let Some(flow) = flow::reply(&work.packet, flow::client(&work.packet.tuple)) else { return TCX_NEXT };
    if flow.flags() & (HOST_CLIENT | HAIRPIN) == 0 {
        return TCX_NEXT;
    }
    let ports = ports(&work.packet, flow);
    let is_translated = !is_beyond_checksum(&work.packet, ports);
    fragment::remember_reply(work, flow, is_translated);
    if !is_translated {
        return count::drop(Counter::DropFragment);
    }
    if rewrite_sctp_checksum(skb, &work.packet, ports).is_err()
        || translate(skb, &work.packet, flow).is_err()
        || restore_port(skb, &work.packet, flow).is_err()
    {
        return count::drop(Counter::DropRewrite);
    }
    if flow.flags() & HAIRPIN != 0 {
        return to_itself(skb, &mut work.packet, flow);
    }
    if restore_client(skb, &mut work.packet, flow).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    to_host(skb, work.packet.network, flow.interface())
}

/// The client gets the packet, whose source was translated, at its own address, whatever address the backend sees.
#[inline]
fn restore_client<F: Family>(skb: Skb, packet: &mut Packet<F>, flow: &F::FlowValue) -> Result<(), Fault> {
    if !flow.is_readdressed() {
        return Ok(());
    }
    F::readdress(packet, Side::Source, flow.frontend());
    flow::replace_client(skb, packet, Side::Destination, flow)
}

/// It continues as if it had come the way that the client's packets would have gone: there the kernel expects the
/// frontend (strict `rp_filter`).
#[inline]
pub(super) fn to_host(skb: Skb, network: u32, interface: u32) -> i32 {
    if interface == skb.interface() { TCX_NEXT } else { flow::deliver_to_host(skb, network, interface) }
}

#[inline]
fn to_itself<F: Family>(skb: Skb, packet: &mut Packet<F>, flow: &F::FlowValue) -> i32 {
    let itself = packet.tuple.source;
    F::readdress(packet, Side::Source, flow.frontend());
    if F::rewrite_address(skb, packet, Side::Destination, itself).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    flow::bounce(skb, packet.network)
}
