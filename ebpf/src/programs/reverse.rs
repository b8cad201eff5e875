//! Packets from backends back to clients.

use aya_ebpf::bindings::tcx_action_base::TCX_NEXT;
use shunt_abi::{
    counter::Counter,
    flow::{HAIRPIN, HOST_CLIENT},
};

use super::fragment;
use crate::{
    count,
    family::{Family, FlowValue},
    flow,
    packet::{Fault, Packet, Side, Skb, is_beyond_checksum, rewrite_ports, rewrite_sctp_checksum},
};

/// Puts the frontend in the place of the backend.
#[inline]
pub(super) fn translate<F: Family>(skb: Skb, packet: &Packet<F>, flow: &F::FlowValue) -> Result<(), Fault> {
    rewrite_ports(skb, packet, Side::Source, flow.port())?;
    F::rewrite_address(skb, packet, Side::Source, flow.address())?;
    count::count(Counter::Reverse);
    count::packet(skb, flow.service());
    Ok(())
}

/// A packet about to leave; the verdict on it if it belongs to a flow.
#[inline]
pub(super) fn to_client<F: Family>(skb: Skb, packet: &Packet<F>) -> Option<i32> {
    let flow = flow::reverse(packet)?;
    if translate(skb, packet, flow).is_err() {
        return Some(count::drop(Counter::DropRewrite));
    }
    // Client and backend are both this node: conntrack, which knows the packet by its old source, is to look again.
    if flow.flags() & HOST_CLIENT != 0 {
        return Some(flow::deliver_to_host(skb, packet.network, flow.interface()));
    }
    Some(TCX_NEXT)
}

/// A packet of a backend to this host or to the address that stands for itself.
pub(crate) fn to_host_or_itself<F: Family>(skb: Skb) -> i32 {
    let Some(work) = flow::notes::<F>() else { return TCX_NEXT };
    let Some(flow) = flow::reverse(&work.packet) else { return TCX_NEXT };
    if flow.flags() & (HOST_CLIENT | HAIRPIN) == 0 {
        return TCX_NEXT;
    }
    let is_translated = !is_beyond_checksum(&work.packet, Side::Source, flow.port());
    fragment::remember_reply(work, flow, is_translated);
    if !is_translated {
        return count::drop(Counter::DropFragment);
    }
    if rewrite_sctp_checksum(skb, &work.packet, Side::Source, flow.port()).is_err()
        || translate(skb, &work.packet, flow).is_err()
    {
        return count::drop(Counter::DropRewrite);
    }
    if flow.flags() & HAIRPIN == 0 {
        to_host(skb, work.packet.network, flow.interface())
    } else {
        to_itself(skb, &mut work.packet, flow)
    }
}

/// It continues as if it had come the way that the client's packets would have gone: there the kernel expects the
/// frontend (strict `rp_filter`).
#[inline]
fn to_host(skb: Skb, network: u32, interface: u32) -> i32 {
    if interface == skb.interface() { TCX_NEXT } else { flow::deliver_to_host(skb, network, interface) }
}

#[inline]
fn to_itself<F: Family>(skb: Skb, packet: &mut Packet<F>, flow: &F::FlowValue) -> i32 {
    let itself = packet.tuple.source;
    *packet = F::readdressed(packet, Side::Source, flow.address());
    if F::rewrite_address(skb, packet, Side::Destination, itself).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    flow::bounce(skb, packet.network)
}
