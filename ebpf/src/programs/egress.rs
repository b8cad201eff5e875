//! Packets that leave this host by an interface.

use aya_ebpf::bindings::tcx_action_base::TCX_NEXT;
use shunt_abi::{known::Role, tail::Tail};

use super::{
    continue_in,
    ingress::{ethertype, glance, is_in_service_range, is_unusual, may_be_cluster_ip},
    reverse,
};
use crate::{
    family::{self, Family, Header as _, Roles, V4, V6},
    flow::{self, Hook, Work},
    packet::{Packet, Skb},
};

pub(crate) fn run(skb: Skb) -> i32 {
    match ethertype(skb) {
        V4::ETHERTYPE => handle::<V4>(skb),
        V6::ETHERTYPE => handle::<V6>(skb),
        _ => TCX_NEXT,
    }
}

#[inline]
fn handle<F: Family>(skb: Skb) -> i32 {
    let Some((network, header)) = glance::<F>(skb) else { return TCX_NEXT };
    // The addresses tell most packets that are none of ours. (A router between here and a backend may complain.)
    let is_reply = family::is_reached::<F>(header.source()) || header.may_be_icmp();
    if !is_reply
        && (!is_from_host::<F>(skb, header.source()) || !may_be_to_service::<F>(header.destination()))
    {
        return TCX_NEXT;
    }
    match F::parse(skb, network) {
        Some(packet) => consider(skb, &packet),
        None => TCX_NEXT,
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
fn consider<F: Family>(skb: Skb, packet: &Packet<F>) -> i32 {
    if is_unusual(packet) {
        if flow::note(packet).is_some() {
            continue_in::<F>(skb, Tail::UnusualEgress);
        }
        return TCX_NEXT;
    }
    if family::from_reached(&packet.tuple)
        && let Some(verdict) = reverse::to_client(skb, packet)
    {
        return verdict;
    }
    if is_from_host::<F>(skb, packet.tuple.source) { from_host(skb, packet) } else { TCX_NEXT }
}

/// Only what no interface brought here was sent by this host. A loopback address must not leave it: node ports on such are
/// for socket load balancing.
#[inline]
fn is_from_host<F: Family>(skb: Skb, source: F::Address) -> bool {
    skb.ingress_interface() == 0 && !F::is_loopback(source)
}

#[inline]
fn may_be_to_service<F: Family>(destination: F::Address) -> bool {
    Roles::of::<F>(destination).has(Role::Frontend) || is_in_service_range::<F>(destination)
}

#[inline]
fn from_host<F: Family>(skb: Skb, packet: &Packet<F>) -> i32 {
    let tuple = &packet.tuple;
    let roles = Roles::of::<F>(tuple.destination);
    if family::to_frontend(&roles, tuple) {
        return flow::forward::<F, false>(skb, packet, Hook::HostEgress);
    }
    if may_be_cluster_ip::<F>(&roles, tuple.destination)
        && let Some(work) = flow::note(packet)
    {
        work.hook = Hook::HostEgress;
        continue_in::<F>(skb, Tail::Unknown);
    }
    TCX_NEXT
}

/// Goes on with a packet of this host that only looked as if it were to a frontend. Comes back if nothing is to be done.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
pub(crate) fn to_no_frontend<F: Family>(skb: Skb, work: &Work<F>) {
    let destination = work.packet.tuple.destination;
    if may_be_cluster_ip::<F>(&Roles::of::<F>(destination), destination) {
        continue_in::<F>(skb, Tail::Unknown);
    }
}
