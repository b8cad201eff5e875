//! Packets that enter this host by an interface.

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use shunt_abi::{address::SCTP, counter::Counter, frontend::INSIDE_REJECT, known::Role, tail::Tail};

use super::{continue_in, reverse};
use crate::{
    count,
    family::{self, Family, Header as _, Roles, V4, V6},
    flow::{self, Hook, Work},
    maps,
    packet::{Packet, Position, Skb, network_offset},
};

/// With `ACCELERATED`, replies of accelerated flows are looked for as well.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a program's own body")]
pub(crate) fn run<const ACCELERATED: bool>(skb: Skb) -> i32 {
    match ethertype(skb) {
        V4::ETHERTYPE => handle::<V4, ACCELERATED>(skb),
        V6::ETHERTYPE => handle::<V6, ACCELERATED>(skb),
        _ => TCX_NEXT,
    }
}

/// EtherType, network order.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "16 bits, widened")]
pub(super) fn ethertype(skb: Skb) -> u16 {
    skb.protocol() as u16
}

/// The IP header of a packet and where it is; `None` if it is none of ours to understand.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the hot path keeps what it reads in registers")]
pub(super) fn glance<F: Family>(skb: Skb) -> Option<(u32, F::Header)> {
    let network = network_offset(skb, F::ETHERTYPE, F::VERSION)?;
    Some((network, F::header(skb, network)?))
}

/// A fragment, an ICMP message or SCTP.
#[inline]
pub(super) fn is_unusual<F: Family>(packet: &Packet<F>) -> bool {
    packet.position != Position::Whole || packet.tuple.protocol == F::ICMP || packet.tuple.protocol == SCTP
}

#[inline]
fn handle<F: Family, const ACCELERATED: bool>(skb: Skb) -> i32 {
    let Some((network, header)) = glance::<F>(skb) else { return TCX_NEXT };
    // What the destination may be tells most packets that are none of ours, ICMP messages and fragments among them,
    // before anything else is read.
    let roles = Roles::of::<F>(header.destination());
    if !roles.has(Role::Frontend)
        && !roles.has(Role::Node)
        && !is_in_service_range::<F>(header.destination())
        && !roles.has_reached_backend()
    {
        if ACCELERATED && family::is_reached::<F>(header.source()) {
            return reverse::unawaited::<F>(skb, network);
        }
        return TCX_NEXT;
    }
    match F::parse(skb, network) {
        Some(packet) => consider::<F, ACCELERATED>(skb, &packet, &roles),
        None => TCX_NEXT,
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
fn consider<F: Family, const ACCELERATED: bool>(skb: Skb, packet: &Packet<F>, roles: &Roles) -> i32 {
    let tuple = &packet.tuple;
    if is_unusual(packet) {
        if flow::note(packet).is_some() {
            if ACCELERATED && family::is_reached::<F>(tuple.source) {
                continue_in::<F>(skb, Tail::UnusualReply);
            }
            continue_in::<F>(skb, Tail::UnusualIngress);
        }
        return TCX_NEXT;
    }
    if family::to_frontend(roles, tuple) {
        return flow::forward::<F, ACCELERATED>(skb, packet, Hook::Ingress);
    }
    if ACCELERATED
        && family::from_reached(tuple)
        && let Some(verdict) = reverse::past_stack(skb, packet)
    {
        return verdict;
    }
    if may_be_cluster_ip::<F>(roles, tuple.destination) {
        if let Some(work) = flow::note(packet) {
            work.hook = Hook::Ingress;
            continue_in::<F>(skb, Tail::Unknown);
        }
        return TCX_NEXT;
    }
    // What a backend sends may be a reply to this node itself, or to the backend.
    if roles.has(Role::Node) && family::from_reached_by_node(tuple) && flow::note(packet).is_some() {
        continue_in::<F>(skb, Tail::Return);
    }
    // What is sent to a backend itself may end a flow through a frontend.
    if flow::stands_alone(packet) && family::to_reached(roles, tuple) && flow::note(packet).is_some() {
        continue_in::<F>(skb, Tail::Direct);
    }
    TCX_NEXT
}

/// Whether the address is in the ranges that Services get theirs from.
#[inline(never)]
pub(super) fn is_to_service_address<F: Family>(destination: F::Address) -> bool {
    is_in_service_range::<F>(destination)
}

/// The same for most packets, without a call: a function of its own lies in memory of its own, which is as cold as the rest.
#[inline(always)]
#[expect(clippy::inline_always, reason = "see above")]
pub(super) fn is_in_service_range<F: Family>(destination: F::Address) -> bool {
    maps::config().is_some_and(|config| F::is_service_address(config, destination))
}

/// Whether the address may be a cluster IP, or is one that Services may get. (Not every cluster tells the ranges.)
#[inline(never)]
pub(super) fn may_be_cluster_ip<F: Family>(roles: &Roles, destination: F::Address) -> bool {
    is_in_service_range::<F>(destination) || family::is_whole_frontend::<F>(roles, destination)
}

/// Goes on with a packet that only looked as if it were to a frontend: the bitmap keeps frontends that are gone, and two
/// may share a bit. Comes back if nothing is to be done.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
pub(crate) fn to_no_frontend<F: Family>(skb: Skb, work: &Work<F>) {
    let tuple = &work.packet.tuple;
    let roles = Roles::of::<F>(tuple.destination);
    if may_be_cluster_ip::<F>(&roles, tuple.destination) {
        continue_in::<F>(skb, Tail::Unknown);
    }
    if roles.has(Role::Node) && family::from_reached_by_node(tuple) {
        continue_in::<F>(skb, Tail::Return);
    }
    to_backend_itself(skb, work, &roles);
}

/// What is sent to a backend itself may end a flow through a frontend.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
fn to_backend_itself<F: Family>(skb: Skb, work: &Work<F>, roles: &Roles) {
    if flow::stands_alone(&work.packet) && family::to_reached(roles, &work.packet.tuple) {
        continue_in::<F>(skb, Tail::Direct);
    }
}

/// A packet to what may be a cluster IP, or is in the ranges that Services get theirs from, to a port that none has. The
/// notes say where it is.
pub(crate) fn unknown_port<F: Family>(skb: Skb) -> i32 {
    let Some(work) = flow::notes::<F>() else { return TCX_NEXT };
    if flow::is_for_other_host(skb) {
        return TCX_NEXT;
    }
    match F::frontend(work.packet.tuple.destination, 0, 0) {
        Some(address) if address.flags & INSIDE_REJECT != 0 => {
            count::count(Counter::RejectedPort);
            continue_in::<F>(skb, Tail::Reject);
            TCX_DROP
        }
        Some(_) => TCX_NEXT,
        None if is_to_service_address::<F>(work.packet.tuple.destination) => {
            count::drop(Counter::DropUnallocated)
        }
        None => {
            if work.hook == Hook::Ingress {
                to_backend_itself(skb, work, &Roles::of::<F>(work.packet.tuple.destination));
            }
            TCX_NEXT
        }
    }
}
