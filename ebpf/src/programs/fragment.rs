//! Fragments. Only the first has ports: what becomes of it is noted for the others.
//!
//! Nobody can hold a packet back here. So one that comes before its first is treated like the last fragmented packet
//! between the same hosts, which most often is of the same flow. If it is not, the packet is lost, as it would be
//! without; but its first fragment is then the last one seen, so the one that the sender repeats gets through.
//! Not so what comes to this node itself: it may be the node's own, or the reply to a connection that is masqueraded.

use aya_ebpf::bindings::{
    BPF_ANY,
    tcx_action_base::{TCX_DROP, TCX_NEXT},
};
use shunt_abi::{
    counter::Counter,
    flow::{HAIRPIN, HOST_CLIENT},
    fragment::{BY_LOOPBACK, DROPPED, FORWARD, FRESH_TICKS, LATEST, REVERSE},
    frontend::INSIDE_REJECT,
    known::Role,
    tail::Tail,
};

use super::{continue_in, reverse};
use crate::{
    count,
    family::{Family, First, FlowValue, FragmentValue, Roles},
    flow::{self, Work},
    packet::{Packet, Position, Side, Skb},
};

/// Notes what becomes of the packet that the first fragment in hand, from a backend, belongs to.
#[inline(never)]
pub(super) fn remember_reply<F: Family>(work: &Work<F>, flow: &F::FlowValue, is_translated: bool) {
    let tuple = &work.packet.tuple;
    let client = flow::seen::<F>(flow, tuple.destination);
    note(work, REVERSE, [flow.frontend(), client], (flow, flow.flags()), is_translated);
}

/// Notes what becomes of the packet that the first fragment in hand, from a client, belongs to.
#[inline(never)]
pub(crate) fn remember<F: Family>(skb: Skb, work: &Work<F>, is_translated: bool) {
    let client = flow::seen::<F>(&work.flow, work.packet.tuple.source);
    let ends = [client, work.flow.backend()];
    let by_loopback = work.flow.flags() & HOST_CLIENT != 0 && flow::is_too_long(skb, work, ends);
    let more = if by_loopback { BY_LOOPBACK } else { 0 };
    note(work, FORWARD, ends, (&work.flow, work.flow.flags() | more), is_translated);
}

#[inline]
fn note<F: Family>(
    work: &Work<F>,
    direction: u8,
    [source, destination]: [F::Address; 2],
    (flow, flags): (&F::FlowValue, u16),
    is_translated: bool,
) {
    if work.packet.position != Position::First {
        return;
    }
    let dropped = if is_translated { 0 } else { DROPPED };
    let value = F::fragment_value(&First {
        source,
        destination,
        flags: u32::from(flags) | dropped,
        service: flow.service(),
        last_seen: flow::now(),
        interface: flow.interface(),
    });
    // A map that evicts is never full.
    let _full = F::fragments().insert(F::fragment_key(&work.packet, direction), &value, u64::from(BPF_ANY));
    if is_translated {
        let _full = F::fragments().insert(latest(&work.packet, direction), &value, u64::from(BPF_ANY));
    }
}

/// Key of the last fragmented packet between the hosts of `packet`.
#[inline]
fn latest<F: Family>(packet: &Packet<F>, direction: u8) -> F::FragmentKey {
    F::fragment_key(&Packet { identification: 0, ..*packet }, direction | LATEST)
}

/// The hosts' last fragmented packet is the one whose first fragment is in hand; what becomes of it is to be noted.
#[inline(never)]
pub(super) fn forget_latest<F: Family>(work: &Work<F>, direction: u8) {
    let _absent = F::fragments().remove(latest(&work.packet, direction));
}

/// What is known of the packet that a fragment belongs to.
struct Found<F: Family> {
    first: &'static F::FragmentValue,
    /// By another packet.
    is_early: bool,
}

#[inline]
fn find<F: Family>(work: &Work<F>, direction: u8) -> Option<Found<F>> {
    let first = get::<F>(&F::fragment_key(&work.packet, direction))?;
    Some(Found { first, is_early: false })
}

/// What is known of a packet of which no fragment was seen.
#[inline]
fn guess<F: Family>(work: &Work<F>, direction: u8) -> Option<Found<F>> {
    let first = get::<F>(&latest(&work.packet, direction))?;
    Some(Found { first, is_early: true })
}

#[inline(never)]
fn get<F: Family>(key: &F::FragmentKey) -> Option<&'static F::FragmentValue> {
    // SAFETY: the element may be given to another packet, but only once it is the least recently used of all.
    let first = unsafe { F::fragments().get(key) }?;
    (flow::now().wrapping_sub(first.last_seen()) <= FRESH_TICKS).then_some(first)
}

#[inline]
fn count<F: Family>(skb: Skb, found: &Found<F>) {
    count::count(Counter::Fragment);
    if found.is_early {
        count::count(Counter::FragmentEarly);
    }
    count::packet(skb, found.first.service());
}

/// A fragment, not the first, that enters.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
pub(super) fn later_ingress<F: Family>(skb: Skb, work: &mut Work<F>) -> i32 {
    let is_service = is_cluster_ip(work);
    let found = find(work, FORWARD).or_else(|| if is_service { guess(work, FORWARD) } else { None });
    if let Some(found) = found {
        return follow(skb, work, &found);
    }
    if is_service {
        return count::drop(Counter::DropFragment);
    }
    match find(work, REVERSE) {
        Some(found) => to_this_node(skb, work, &found),
        None => TCX_NEXT,
    }
}

/// A fragment of a reply that this node itself, or the backend itself, gets.
#[inline]
fn to_this_node<F: Family>(skb: Skb, work: &mut Work<F>, found: &Found<F>) -> i32 {
    if found.first.flags() & u32::from(HAIRPIN) != 0 {
        return to_itself(skb, work, found);
    }
    if found.first.flags() & u32::from(HOST_CLIENT) == 0 {
        return TCX_NEXT;
    }
    let verdict = replace_source(skb, work, found);
    if verdict != TCX_NEXT {
        return verdict;
    }
    F::readdress(&mut work.packet, Side::Source, found.first.source());
    let client = found.first.destination();
    if client != work.packet.tuple.destination
        && F::rewrite_address(skb, &work.packet, Side::Destination, client).is_err()
    {
        return count::drop(Counter::DropRewrite);
    }
    reverse::to_host(skb, work.packet.network, found.first.interface())
}

/// A fragment, not the first, that leaves.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
pub(super) fn later_egress<F: Family>(skb: Skb, work: &mut Work<F>) -> i32 {
    let is_forwarded = skb.ingress_interface() != 0;
    let found = find(work, REVERSE).or_else(|| if is_forwarded { guess(work, REVERSE) } else { None });
    if let Some(found) = found {
        return replace_source(skb, work, &found);
    }
    if is_forwarded {
        return TCX_NEXT;
    }
    match find(work, FORWARD) {
        Some(found) => follow(skb, work, &found),
        None => TCX_NEXT,
    }
}

/// A fragment on its way to a backend.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
#[expect(clippy::cast_possible_truncation, reason = "flags of flows, widened")]
fn follow<F: Family>(skb: Skb, work: &mut Work<F>, found: &Found<F>) -> i32 {
    let (destination, flags) = (found.first.destination(), found.first.flags());
    if flags & DROPPED != 0 {
        return count::drop(Counter::DropFragment);
    }
    if F::rewrite_address(skb, &work.packet, Side::Destination, destination).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    count(skb, found);
    if flow::needs_more(flags as u16) {
        flow::note_special(work, [found.first.source(), destination], flags as u16);
        continue_in::<F>(skb, Tail::Special);
        return TCX_DROP;
    }
    TCX_NEXT
}

/// A fragment of a backend to itself: both addresses are replaced, and it goes out where it came in.
#[inline(never)]
fn to_itself<F: Family>(skb: Skb, work: &mut Work<F>, found: &Found<F>) -> i32 {
    if found.first.flags() & DROPPED != 0 {
        return count::drop(Counter::DropFragment);
    }
    let (itself, frontend) = (work.packet.tuple.source, found.first.source());
    if F::rewrite_address(skb, &work.packet, Side::Source, frontend).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    F::readdress(&mut work.packet, Side::Source, frontend);
    if F::rewrite_address(skb, &work.packet, Side::Destination, itself).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    count(skb, found);
    flow::bounce(skb, work.packet.network)
}

/// A fragment on its way to a client. Those of a backend to itself leave as they should be already.
#[inline(never)]
fn replace_source<F: Family>(skb: Skb, work: &Work<F>, found: &Found<F>) -> i32 {
    let flags = found.first.flags();
    if flags & u32::from(HAIRPIN) != 0 {
        return TCX_NEXT;
    }
    if flags & DROPPED != 0 {
        return count::drop(Counter::DropFragment);
    }
    if F::rewrite_address(skb, &work.packet, Side::Source, found.first.source()).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    count(skb, found);
    TCX_NEXT
}

/// Whether nothing but Services is behind the address that the packet goes to.
#[inline(never)]
fn is_cluster_ip<F: Family>(work: &Work<F>) -> bool {
    Roles::of::<F>(work.packet.tuple.destination).has(Role::Frontend)
        && F::frontend(work.packet.tuple.destination, 0, 0)
            .is_some_and(|address| address.flags & INSIDE_REJECT != 0)
}
