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
    flow::{self, Hook},
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
    if family::from_backend(tuple)
        && let Some(verdict) = reverse::to_client(skb, &packet)
    {
        return verdict;
    }
    // Only what no interface brought here was sent by this host.
    if skb.ingress_interface() == 0 && family::to_frontend(tuple) {
        return from_host(skb, &packet);
    }
    TCX_NEXT
}

#[inline]
fn from_host<F: Family>(skb: Skb, packet: &Packet<F>) -> i32 {
    // Such an address must not leave the host: node ports on it are for socket load balancing.
    if F::is_loopback(packet.tuple.source) {
        return TCX_NEXT;
    }
    flow::forward(skb, packet, Hook::HostEgress)
}
