//! Sending packets where they would not go by themselves.

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, bpf_fib_lookup as RouteQuery, tcx_action_base::TCX_NEXT},
    helpers::generated::{bpf_fib_lookup, bpf_redirect, bpf_redirect_neigh},
};
use shunt_abi::counter::Counter;

use super::Work;
use crate::{
    count,
    family::{Family, zero},
    maps::INTERFACES,
    packet::{Fault, Packet, Skb, Tuple},
};

/// The loopback interface, in every network namespace.
const LOOPBACK: u32 = 1;

/// Sends a packet back out of the interface by which it came.
#[inline(never)]
pub(crate) fn bounce(skb: Skb, network: u32) -> i32 {
    if network != 0 && swap_hardware_addresses(skb).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    redirect(skb.interface(), 0)
}

#[inline]
fn swap_hardware_addresses(skb: Skb) -> Result<(), Fault> {
    let [destination, source]: [[u16; 3]; 2] = skb.load(0).ok_or(Fault)?;
    if skb.store(0, &[source, destination], false) { Ok(()) } else { Err(Fault) }
}

#[expect(clippy::cast_possible_truncation, reason = "a verdict is a small number")]
pub(super) fn redirect(interface: u32, flags: u64) -> i32 {
    // SAFETY: the helper takes plain numbers.
    unsafe { bpf_redirect(interface, flags) as i32 }
}

/// Hands a packet, whose IP header is at `network`, to this host as if it had come in by `interface`.
#[inline(never)]
pub(crate) fn deliver_to_host(skb: Skb, network: u32, interface: u32) -> i32 {
    // SAFETY: the map frees its elements after a grace period, which the program's run is within.
    let Some(value) = (unsafe { INTERFACES.get(interface) }) else { return TCX_NEXT };
    // A packet without a link-layer header cannot be given one.
    if network == 0 {
        return TCX_NEXT;
    }
    if !skb.store(0, &value.address, false) {
        return count::drop(Counter::DropRewrite);
    }
    redirect(interface, u64::from(BPF_F_INGRESS))
}

/// Hands an answer to a packet that this host was about to send back to it.
#[inline]
pub(crate) fn answer_host(skb: Skb, network: u32) -> i32 {
    if network != 0 && swap_hardware_addresses(skb).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    redirect(skb.interface(), u64::from(BPF_F_INGRESS))
}

/// Answers of the routing table (linux/bpf.h).
pub(super) const ROUTE_FOUND: i64 = 0;
const ROUTE_LOCAL: i64 = 4;
pub(super) const ROUTE_NO_NEIGHBOUR: i64 = 7;
const ROUTE_TOO_LONG: i64 = 8;

/// Sends a translated packet of this host's own to its backend: the kernel chose the way before it was translated.
#[inline]
pub(crate) fn route<F: Family>(skb: Skb, packet: &Packet<F>, by_loopback: bool) -> i32 {
    // Translated to where it was going anyway, a packet comes back here.
    if skb.ingress_interface() != 0 {
        return TCX_NEXT;
    }
    count::count(Counter::HostRedirect);
    if by_loopback {
        return deliver_to_host(skb, packet.network, LOOPBACK);
    }
    let mut interface = 0;
    match look_up(skb, &packet.tuple, &mut interface) {
        ROUTE_FOUND | ROUTE_NO_NEIGHBOUR => redirect_to_neighbour(interface),
        // Through the loopback interface too: conntrack, which knows the packet by its old destination, is to look again.
        ROUTE_LOCAL => deliver_to_host(skb, packet.network, LOOPBACK),
        // The loopback interface takes longer packets than others: forwarding cuts them up, or tells the sender.
        ROUTE_TOO_LONG if F::allow_fragments(skb, packet).is_ok() => {
            deliver_to_host(skb, packet.network, LOOPBACK)
        }
        _ => count::drop(Counter::DropNoRoute),
    }
}

/// Whether the packet in hand is too long for the way between these addresses: this host's one and the backend's.
#[inline(never)]
pub(crate) fn is_too_long<F: Family>(
    skb: Skb,
    work: &Work<F>,
    [source, destination]: [F::Address; 2],
) -> bool {
    let mut interface = 0;
    look_up(skb, &Tuple { source, destination, ..work.packet.tuple }, &mut interface) == ROUTE_TOO_LONG
}

/// The interface that the routing table would send a packet of this host's own by, if it leaves the host.
#[inline]
pub(super) fn way_out<F: Family>(skb: Skb, tuple: &Tuple<F>) -> Option<u32> {
    let mut interface = 0;
    let answer = look_up(skb, tuple, &mut interface);
    matches!(answer, ROUTE_FOUND | ROUTE_NO_NEIGHBOUR | ROUTE_TOO_LONG).then_some(interface)
}

/// Asks the routing table as for a packet of this host's own.
#[inline(never)]
fn look_up<F: Family>(skb: Skb, tuple: &Tuple<F>, interface: &mut u32) -> i64 {
    let zeroes = [u64::from(zero()); QUERY_LENGTH as usize / size_of::<u64>()];
    // SAFETY: the structure holds integers and unions of them only; all zeroes is a value of each.
    let mut query: RouteQuery = unsafe { core::mem::transmute(zeroes) };
    F::fill_route_query(&mut query, tuple);
    query.l4_protocol = tuple.protocol;
    query.ifindex = LOOPBACK;
    let answer = ask(skb, &mut query);
    *interface = query.ifindex;
    answer
}

/// Asks the routing table.
#[inline]
pub(super) fn ask(skb: Skb, query: &mut RouteQuery) -> i64 {
    // SAFETY: the helper takes the context and a buffer of the length that it is told.
    unsafe { bpf_fib_lookup(skb.raw().cast(), &raw mut *query, QUERY_LENGTH, 0) }
}

/// Bytes of the helper's parameters (linux/bpf.h, the same since 4.18).
const QUERY_LENGTH: i32 = 64;

#[expect(clippy::cast_possible_truncation, reason = "a verdict is a small number")]
fn redirect_to_neighbour(interface: u32) -> i32 {
    // SAFETY: without parameters the kernel finds the neighbour itself.
    unsafe { bpf_redirect_neigh(interface, core::ptr::null_mut(), 0, 0) as i32 }
}
