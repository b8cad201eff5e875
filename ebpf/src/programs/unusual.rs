//! Fragments, ICMP messages, and SCTP, whose checksum takes too long for the hot path.

use aya_ebpf::bindings::tcx_action_base::TCX_NEXT;
use shunt_abi::{
    counter::Counter,
    fragment::{FORWARD, REVERSE},
    known::Role,
    tail::Tail,
};

use super::{continue_in, fragment, icmp, ingress::may_be_cluster_ip, reverse};
use crate::{
    count,
    family::{self, Family, Roles},
    flow::{self, Hook, Work},
    packet::{Position, Skb, is_beyond_checksum, rewrite_sctp_checksum},
};

/// A fragment or ICMP message that enters.
pub(crate) fn ingress<F: Family>(skb: Skb) -> i32 {
    let Some(work) = flow::notes::<F>() else { return TCX_NEXT };
    let tuple = &work.packet.tuple;
    match work.packet.position {
        Position::Later => return fragment::later_ingress(skb, work),
        Position::First => fragment::forget_latest(work, FORWARD),
        Position::Whole => {}
    }
    if tuple.protocol == F::ICMP {
        if asks_cluster_ip(skb, work) {
            work.hook = Hook::Ingress;
            continue_in::<F>(skb, Tail::Unknown);
        }
        return icmp::ingress(skb, work);
    }
    let roles = Roles::of::<F>(tuple.destination);
    if family::to_frontend(&roles, tuple) {
        work.hook = Hook::Ingress;
        work.may_be_present = 1;
        continue_in::<F>(skb, Tail::Decide);
        return TCX_NEXT;
    }
    if may_be_cluster_ip::<F>(&roles, tuple.destination) {
        work.hook = Hook::Ingress;
        continue_in::<F>(skb, Tail::Unknown);
        return TCX_NEXT;
    }
    if roles.has(Role::Node) && family::from_reached_by_node(tuple) {
        continue_in::<F>(skb, Tail::Return);
    }
    if flow::stands_alone(&work.packet) && family::to_reached(&roles, tuple) {
        continue_in::<F>(skb, Tail::Direct);
    }
    TCX_NEXT
}

/// A fragment or ICMP message that leaves.
pub(crate) fn egress<F: Family>(skb: Skb) -> i32 {
    let Some(work) = flow::notes::<F>() else { return TCX_NEXT };
    let tuple = &work.packet.tuple;
    match work.packet.position {
        Position::Later => return fragment::later_egress(skb, work),
        Position::First => fragment::forget_latest(work, REVERSE),
        Position::Whole => {}
    }
    let is_from_host = skb.ingress_interface() == 0 && !F::is_loopback(tuple.source);
    if tuple.protocol == F::ICMP {
        if is_from_host && asks_cluster_ip(skb, work) {
            work.hook = Hook::HostEgress;
            continue_in::<F>(skb, Tail::Unknown);
        }
        return icmp::egress(skb, work);
    }
    if let Some(verdict) = first_reply(skb, work) {
        return verdict;
    }
    if !is_from_host {
        return TCX_NEXT;
    }
    work.hook = Hook::HostEgress;
    let roles = Roles::of::<F>(work.packet.tuple.destination);
    if family::to_frontend(&roles, &work.packet.tuple) {
        work.may_be_present = 1;
        continue_in::<F>(skb, Tail::Decide);
    } else {
        super::egress::to_no_frontend(skb, work);
    }
    TCX_NEXT
}

/// Whether somebody pings what may be a cluster IP, or an address that Services may get. No endpoint answers for those.
#[inline]
fn asks_cluster_ip<F: Family>(skb: Skb, work: &Work<F>) -> bool {
    let destination = work.packet.tuple.destination;
    may_be_cluster_ip::<F>(&Roles::of::<F>(destination), destination)
        && icmp::is_echo_request(skb, &work.packet)
}

/// The first fragment of a backend's packet to a client; the verdict if it is one.
#[inline]
fn first_reply<F: Family>(skb: Skb, work: &mut Work<F>) -> Option<i32> {
    let flow = flow::of_backend::<F>(&work.packet.tuple)?;
    let ports = reverse::ports(&work.packet, flow);
    let is_translated = !is_beyond_checksum(&work.packet, ports);
    fragment::remember_reply(work, flow, is_translated);
    if !is_translated {
        return Some(count::drop(Counter::DropFragment));
    }
    if rewrite_sctp_checksum(skb, &work.packet, ports).is_err() {
        return Some(count::drop(Counter::DropRewrite));
    }
    reverse::to_client(skb, &work.packet)
}
