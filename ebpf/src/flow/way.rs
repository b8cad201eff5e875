//! Ways past the host's stack: from the interface by which a packet came to the one by which forwarding would send it.

use aya_ebpf::{
    bindings::{bpf_fib_lookup as RouteQuery, bpf_redir_neigh as NextHop},
    helpers::generated::{bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_change_type},
};
use shunt_abi::{
    address::TCP,
    counter::Counter,
    interface::{ACCELERATES, BRIDGE_PORT, HANDS_OVER, InterfaceValue},
};

use super::{client, redirect};
use crate::{
    count,
    family::Family,
    maps::INTERFACES,
    packet::{Packet, Position, Skb},
};

/// `PACKET_*` of linux/if_packet.h.
const FOR_THIS_HOST: u32 = 0;
const FOR_OTHER_HOST: u32 = 3;
/// An Ethernet header.
const LINK_HEADER: u32 = 14;
const UDP_HEADER: u32 = 8;
/// Of TCP's data offset.
const TCP_LENGTH: u32 = 12;

/// Bytes of `struct bpf_redir_neigh`.
const NEXT_HOP_LENGTH: i32 = 20;
const _: () = assert!(size_of::<NextHop>() == 20);

/// A way that was found.
pub(crate) struct Way {
    /// What was asked, and what the routing table said.
    pub(super) query: RouteQuery,
    /// The interface whose other end is the receiver's; 0: the kernel is to ask for the receiver where the route leads.
    port: u32,
    /// Whether the neighbour is known.
    pub(super) is_known: bool,
    /// Whether sender and receiver share a bridge: nobody forwards what they send each other.
    pub(super) is_bridged: bool,
    /// Whether that other end gets it at once.
    is_handed_over: bool,
}

impl Way {
    /// None yet.
    #[inline]
    pub(crate) fn none() -> Self {
        // SAFETY: the structure holds integers and unions of them only; all zeroes is a value of each.
        let query = unsafe { core::mem::zeroed() };
        Self { query, port: 0, is_known: false, is_bridged: false, is_handed_over: false }
    }
}

/// What is known of an interface.
#[inline]
pub(super) fn described(interface: u32) -> Option<&'static InterfaceValue> {
    // SAFETY: the map frees its elements after a grace period, which the program's run is within.
    unsafe { INTERFACES.get(interface) }
}

/// Finds the way of a packet as forwarding would: whoever must do more than that (answer, cut up, resolve) does it instead.
/// `far` is the interface by which packets of the receiver come.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the hot path: a function of its own lies in memory of its own, which is cold"
)]
pub(crate) fn find<F: Family>(skb: Skb, packet: &Packet<F>, far: u32, way: &mut Way) -> bool {
    let Some(entrance) = described(skb.interface()) else { return false };
    if !is_plain(packet) {
        return false;
    }
    match skb.packet_type() {
        FOR_THIS_HOST => {}
        FOR_OTHER_HOST if client::is_for_bridge(skb) => {}
        FOR_OTHER_HOST => return find_within_bridge(entrance, far, way),
        _ => return false,
    }
    if F::hops(skb, packet.network).is_none_or(|hops| hops <= 1) {
        return false;
    }
    F::fill_route_query(&mut way.query, &packet.tuple);
    F::fill_route_hints(&mut way.query, skb, packet.network);
    way.query.l4_protocol = packet.tuple.protocol;
    way.query.sport = packet.tuple.source_port;
    way.query.dport = packet.tuple.destination_port;
    way.query.__bindgen_anon_1.tot_len = length(skb, packet);
    way.query.ifindex = entrance.upper;
    way.is_known = match redirect::ask(skb, &mut way.query) {
        redirect::ROUTE_FOUND => true,
        redirect::ROUTE_NO_NEIGHBOUR => false,
        _ => return false,
    };
    leads_on(skb, far, way)
}

/// Options and extension headers are the kernel's business.
#[inline]
fn is_plain<F: Family>(packet: &Packet<F>) -> bool {
    packet.network == LINK_HEADER
        && packet.transport == LINK_HEADER + F::HEADER
        && packet.position == Position::Whole
}

/// Bytes of the packet, or of the longest that it is to become, link-layer header excluded.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "no packet is longer that is not to become many")]
fn length<F: Family>(skb: Skb, packet: &Packet<F>) -> u16 {
    let payload = skb.segment_payload();
    if payload == 0 {
        return (skb.length() - LINK_HEADER) as u16;
    }
    let header = if packet.tuple.protocol == TCP {
        let offset = skb.header::<[u8; 2]>(packet.transport + TCP_LENGTH);
        offset.map_or(0, |[offset, _]| u32::from(offset >> 4) * 4)
    } else {
        UDP_HEADER
    };
    (packet.transport - LINK_HEADER + header + payload) as u16
}

/// Whether the route leads where packets may be sent past the stack.
#[inline]
fn leads_on(skb: Skb, far: u32, way: &mut Way) -> bool {
    let Some(exit) = described(way.query.ifindex) else { return false };
    if exit.flags & ACCELERATES == 0 || way.query.ifindex == skb.interface() {
        return false;
    }
    if !way.is_known {
        return true;
    }
    if exit.flags & HANDS_OVER != 0 {
        way.port = way.query.ifindex;
        way.is_handed_over = true;
    } else if let Some(port) = described(far)
        && far != way.query.ifindex
        && port.upper == way.query.ifindex
        && port.flags & HANDS_OVER != 0
    {
        way.port = far;
        way.is_handed_over = true;
    }
    true
}

/// What a port of a bridge sends to another port of the same one.
#[inline]
fn find_within_bridge(entrance: &InterfaceValue, far: u32, way: &mut Way) -> bool {
    let Some(port) = described(far) else { return false };
    if entrance.flags & port.flags & BRIDGE_PORT == 0 || entrance.upper != port.upper {
        return false;
    }
    way.port = far;
    way.is_bridged = true;
    way.is_handed_over = port.flags & HANDS_OVER != 0;
    true
}

/// Sends a packet on its way; the verdict on it.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the hot path: a function of its own lies in memory of its own, which is cold"
)]
pub(crate) fn send<F: Family>(skb: Skb, packet: &Packet<F>, way: &Way) -> i32 {
    if !way.is_bridged && F::spend_hop(skb, packet.network).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    count::count(Counter::Accelerated);
    if way.is_handed_over {
        return hand_over(skb, way);
    }
    if way.is_bridged { redirect::redirect(way.port, 0) } else { to_neighbour(way) }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a verdict is a small number")]
fn hand_over(skb: Skb, way: &Way) -> i32 {
    if !way.is_bridged && !skb.store(0, &[way.query.dmac, way.query.smac], false) {
        return count::drop(Counter::DropRewrite);
    }
    if skb.packet_type() != FOR_THIS_HOST {
        // SAFETY: the helper takes the program's own context and a plain number.
        unsafe { bpf_skb_change_type(skb.raw(), FOR_THIS_HOST) };
    }
    // SAFETY: the helper takes plain numbers.
    unsafe { bpf_redirect_peer(way.port, 0) as i32 }
}

/// To the next hop of the route: the kernel finds its hardware address, and keeps it fresh.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a verdict is a small number")]
fn to_neighbour(way: &Way) -> i32 {
    // SAFETY: the structure holds integers and a union of them only; all zeroes is a value of each.
    let mut hop: NextHop = unsafe { core::mem::zeroed() };
    hop.nh_family = u32::from(way.query.family);
    // SAFETY: every bit pattern is a value of either field of both unions.
    hop.__bindgen_anon_1.ipv6_nh = unsafe { way.query.__bindgen_anon_4.ipv6_dst };
    // SAFETY: the helper reads as many bytes of `hop` as it has.
    unsafe { bpf_redirect_neigh(way.query.ifindex, &raw mut hop, NEXT_HOP_LENGTH, 0) as i32 }
}
