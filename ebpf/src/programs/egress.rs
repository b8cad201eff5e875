//! Packets that leave this host by an interface.

use aya_ebpf::bindings::tcx_action_base::TCX_NEXT;
use shunt_abi::tail::Tail;

use super::{
    continue_in,
    ingress::{ethertype, is_unusual, parse},
    reverse,
};
use crate::{
    family::{self, Family, V4, V6},
    flow::{self, Hook, Work},
    maps,
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
    let Some(packet) = parse::<F>(skb) else { return TCX_NEXT };
    let tuple = &packet.tuple;
    if is_unusual(&packet) {
        if flow::note(&packet).is_some() {
            continue_in::<F>(skb, Tail::UnusualEgress);
        }
        return TCX_NEXT;
    }
    if family::from_reached(tuple)
        && let Some(verdict) = reverse::to_client(skb, &packet)
    {
        return verdict;
    }
    // Only what no interface brought here was sent by this host. A loopback address must not leave it: node ports on
    // such are for socket load balancing.
    if skb.ingress_interface() != 0 || F::is_loopback(tuple.source) {
        return TCX_NEXT;
    }
    from_host(skb, &packet)
}

#[inline]
fn from_host<F: Family>(skb: Skb, packet: &Packet<F>) -> i32 {
    if family::to_frontend(&packet.tuple) {
        return flow::forward(skb, packet, Hook::HostEgress);
    }
    if is_to_service_address(packet)
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
    if is_to_service_address(&work.packet) {
        continue_in::<F>(skb, Tail::Unknown);
    }
}

#[inline]
fn is_to_service_address<F: Family>(packet: &Packet<F>) -> bool {
    maps::config().is_some_and(|config| F::is_service_address(config, packet.tuple.destination))
}
