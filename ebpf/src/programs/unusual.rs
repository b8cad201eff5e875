//! Fragments, ICMP messages, and SCTP, whose checksum takes too long for the hot path.
//!
//! Only the first fragment has ports. What becomes of it is noted for those that follow.

use aya_ebpf::bindings::{
    BPF_ANY,
    tcx_action_base::{TCX_DROP, TCX_NEXT},
};
use shunt_abi::{
    counter::Counter,
    flow::{FORWARD, HAIRPIN, HOST_CLIENT, REVERSE},
    fragment::DROPPED,
    frontend::INSIDE_REJECT,
    tail::Tail,
};

use super::{continue_in, icmp, reverse};
use crate::{
    count,
    family::{self, Family, FlowValue, FragmentValue},
    flow::{self, Hook, Work},
    maps,
    packet::{Position, Side, Skb, rewrite_sctp_checksum},
};

/// A fragment or ICMP message that enters.
pub(crate) fn ingress<F: Family>(skb: Skb) -> i32 {
    let Some(work) = flow::notes::<F>() else { return TCX_NEXT };
    let tuple = &work.packet.tuple;
    if work.packet.position == Position::Later {
        return later_ingress(skb, work);
    }
    if tuple.protocol == F::ICMP {
        return icmp::ingress(skb, work);
    }
    if family::to_frontend(tuple) {
        work.hook = Hook::Ingress;
        work.may_be_established = 1;
        continue_in::<F>(skb, Tail::Consider);
        return TCX_NEXT;
    }
    if maps::config().is_some_and(|config| F::is_service_address(config, tuple.destination)) {
        work.hook = Hook::Ingress;
        continue_in::<F>(skb, Tail::Unknown);
        return TCX_NEXT;
    }
    if family::from_backend(tuple) {
        continue_in::<F>(skb, Tail::Return);
    }
    TCX_NEXT
}

/// A fragment or ICMP message that leaves.
pub(crate) fn egress<F: Family>(skb: Skb) -> i32 {
    let Some(work) = flow::notes::<F>() else { return TCX_NEXT };
    let tuple = &work.packet.tuple;
    if work.packet.position == Position::Later {
        return later_egress(skb, work);
    }
    if tuple.protocol == F::ICMP {
        return icmp::egress(skb, work);
    }
    if let Some(verdict) = first_reply(skb, work) {
        return verdict;
    }
    let tuple = &work.packet.tuple;
    if skb.ingress_interface() != 0 || F::is_loopback(tuple.source) {
        return TCX_NEXT;
    }
    work.hook = Hook::HostEgress;
    if family::to_frontend(&work.packet.tuple) {
        work.may_be_established = 1;
        continue_in::<F>(skb, Tail::Consider);
    } else {
        super::egress::to_no_frontend(skb, work);
    }
    TCX_NEXT
}

/// The first fragment of a backend's packet to a client; the verdict if it is one.
#[inline]
fn first_reply<F: Family>(skb: Skb, work: &mut Work<F>) -> Option<i32> {
    let flow = flow::find::<F>(&F::flow_key(&work.packet.tuple, REVERSE))?;
    remember_reply(work, flow);
    if rewrite_sctp_checksum(skb, &work.packet, Side::Source, flow.port()).is_err() {
        return Some(count::drop(Counter::DropRewrite));
    }
    reverse::to_client(skb, &work.packet)
}

/// Notes what becomes of the packet that the first fragment in hand, from a backend, belongs to.
#[inline(never)]
pub(super) fn remember_reply<F: Family>(work: &Work<F>, flow: &F::FlowValue) {
    if work.packet.position == Position::First {
        let flags = u32::from(flow.flags());
        let value = F::fragment_value(flow.address(), work.packet.tuple.destination, flags);
        // A map that evicts is never full.
        let _full = F::fragments().insert(F::fragment_key(&work.packet, REVERSE), value, u64::from(BPF_ANY));
    }
}

/// Notes what becomes of the packet that the first fragment in hand, from a client, belongs to.
#[inline(never)]
pub(crate) fn remember<F: Family>(work: &Work<F>, is_translated: bool) {
    if work.packet.position == Position::First {
        let flags = if is_translated { u32::from(work.flow.flags()) } else { DROPPED };
        let value = F::fragment_value(work.packet.tuple.source, work.flow.address(), flags);
        let _full = F::fragments().insert(F::fragment_key(&work.packet, FORWARD), value, u64::from(BPF_ANY));
    }
}

#[inline]
fn find<F: Family>(work: &Work<F>, direction: u8) -> Option<&'static F::FragmentValue> {
    // SAFETY: the element may be given to another packet, but only once it is the least recently used of all.
    unsafe { F::fragments().get(F::fragment_key(&work.packet, direction)) }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
fn later_ingress<F: Family>(skb: Skb, work: &mut Work<F>) -> i32 {
    if let Some(first) = find(work, FORWARD) {
        return follow(skb, work, first);
    }
    match find(work, REVERSE) {
        Some(first) if first.flags() & u32::from(HAIRPIN) != 0 => to_itself(skb, work, first),
        Some(first) if first.flags() & u32::from(HOST_CLIENT) != 0 => replace_source(skb, work, first),
        Some(_) => TCX_NEXT,
        None => without_first(work),
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
fn later_egress<F: Family>(skb: Skb, work: &mut Work<F>) -> i32 {
    if let Some(first) = find(work, REVERSE) {
        return replace_source(skb, work, first);
    }
    if skb.ingress_interface() != 0 {
        return TCX_NEXT;
    }
    match find(work, FORWARD) {
        Some(first) => follow(skb, work, first),
        None => TCX_NEXT,
    }
}

/// A fragment on its way to a backend.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
#[expect(clippy::cast_possible_truncation, reason = "flags of flows, widened")]
fn follow<F: Family>(skb: Skb, work: &mut Work<F>, first: &F::FragmentValue) -> i32 {
    if first.flags() & DROPPED != 0 {
        return count::drop(Counter::DropFragment);
    }
    let (destination, flags) = (first.destination(), first.flags() as u16);
    if F::rewrite_address(skb, &work.packet, Side::Destination, destination).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    count::count(Counter::Fragment);
    if flow::needs_more(flags) {
        flow::note_special(work, destination, flags);
        continue_in::<F>(skb, Tail::Special);
        return TCX_DROP;
    }
    TCX_NEXT
}

/// A fragment of a backend to itself: both addresses are replaced, and it goes out where it came in.
#[inline(never)]
fn to_itself<F: Family>(skb: Skb, work: &mut Work<F>, first: &F::FragmentValue) -> i32 {
    let itself = work.packet.tuple.source;
    if F::rewrite_address(skb, &work.packet, Side::Source, first.source()).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    work.packet = F::readdressed(&work.packet, Side::Source, first.source());
    if F::rewrite_address(skb, &work.packet, Side::Destination, itself).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    count::count(Counter::Fragment);
    flow::bounce(skb, work.packet.network)
}

/// A fragment on its way to a client. Those of a backend to itself leave as they should be already.
#[inline(never)]
fn replace_source<F: Family>(skb: Skb, work: &Work<F>, first: &F::FragmentValue) -> i32 {
    if first.flags() & u32::from(HAIRPIN) != 0 {
        return TCX_NEXT;
    }
    if F::rewrite_address(skb, &work.packet, Side::Source, first.source()).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    count::count(Counter::Fragment);
    TCX_NEXT
}

/// A fragment whose first one was not seen. Nothing but Services is behind a cluster IP, so there it cannot be right.
#[inline(never)]
fn without_first<F: Family>(work: &Work<F>) -> i32 {
    if !family::to_frontend_address(&work.packet.tuple) {
        return TCX_NEXT;
    }
    match F::frontend(work.packet.tuple.destination, 0, 0) {
        Some(address) if address.flags & INSIDE_REJECT != 0 => count::drop(Counter::DropFragment),
        _ => TCX_NEXT,
    }
}
