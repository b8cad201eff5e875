//! The first packet of a flow.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST, tcx_action_base::TCX_NEXT};
use shunt_abi::{
    address::{TCP, UDP},
    backend,
    config::{ADOPT_MIDSTREAM, Config, MASQUERADES4, MASQUERADES6},
    counter::Counter,
    flow::{HAIRPIN, HOST_BACKEND, HOST_CLIENT, MASQUERADED, REMAPPED, REVERSE},
    frontend::{FrontendValue, INTERNAL, MASQUERADE_ALL, MASQUERADE_REMOTE, RANGES, SOCKET_ONLY},
};

use super::{
    Decision, Hook, Work, client, conflict, opening,
    pick::{self, Picked, Pool},
    segment,
    work::{self, Client},
};
use crate::{
    count,
    family::{self, Family, Flow, FlowValue, V4},
    log, maps,
    packet::Skb,
};

/// A packet to what may be a frontend, of no flow at all. With [`Decision::Translate`], the notes hold the flow it
/// begins.
#[inline]
pub(super) fn begin<F: Family>(skb: Skb, work: &mut Work<F>) -> Decision {
    let tuple = &work.packet.tuple;
    let Some(frontend) = F::frontend(tuple.destination, tuple.destination_port, tuple.protocol) else {
        return Decision::Absent;
    };
    let Some(config) = maps::config() else { return Decision::Leave };
    if is_left_alone(skb, work, frontend, config) {
        return Decision::Leave;
    }
    if frontend.flags & RANGES != 0 && !F::in_ranges(frontend.service, tuple.source) {
        return refuse(work, Some(Counter::DropSourceRange));
    }
    work.client = match work.hook {
        Hook::HostEgress => Client::Host,
        Hook::Ingress => client::classify::<F>(skb, &work.packet.tuple.source, config),
    };
    work.pool = Pool::of(frontend, work.client);
    if work.pool.length == 0 {
        let reason = if work.pool.rejects != 0 { None } else { Some(Counter::DropNoLocal) };
        return refuse(work, reason);
    }
    choose_and_store(skb, work, frontend)
}

/// Drops the packet for a reason, or rejects it for none: unless it asks again for a connection that is being opened.
#[inline(never)]
fn refuse<F: Family>(work: &mut Work<F>, reason: Option<Counter>) -> Decision {
    if let Some(present) = present(work) {
        return again(work, present);
    }
    let Some(reason) = reason else { return Decision::Reject };
    count::count(reason);
    Decision::Drop
}

/// The opening flow of the packet in hand, if its backend still serves.
#[inline]
fn present<F: Family>(work: &Work<F>) -> Option<&'static mut F::FlowValue> {
    let present = F::opening().get_ptr_mut(&work.key)?;
    // SAFETY: the pointer comes from a map look-up. (The element may be given to another flow, but only once it is the
    // least recently used of all.)
    let present = unsafe { &mut *present };
    segment::is_current(present).then_some(present)
}

/// A request that is repeated stays with its backend. Its reverse half may have been evicted meanwhile.
#[inline(never)]
fn again<F: Family>(work: &mut Work<F>, present: &mut F::FlowValue) -> Decision {
    present.touch(segment::now(), 0);
    work.flow = *present;
    opening::note_other_half(work);
    let _present = F::opening().insert(&work.other_key, &work.other, u64::from(BPF_NOEXIST));
    Decision::Translate
}

/// Whether packets to a frontend must not be touched.
#[inline]
fn is_left_alone<F: Family>(skb: Skb, work: &Work<F>, frontend: &FrontendValue, config: &Config) -> bool {
    if frontend.flags & SOCKET_ONLY != 0 {
        return true;
    }
    if client::is_for_other_host(skb) {
        count::count(Counter::OtherHost);
        return true;
    }
    let midstream = segment::is_midstream(&work.packet) && work.packet.tuple.protocol == TCP;
    if midstream && config.flags & ADOPT_MIDSTREAM == 0 {
        count::count(Counter::MidstreamLeft);
        return true;
    }
    false
}

#[inline]
fn choose_and_store<F: Family>(skb: Skb, work: &mut Work<F>, frontend: &FrontendValue) -> Decision {
    let is_sticky = frontend.affinity_seconds != 0;
    let hash = pick::hash(&work.packet, frontend.service);
    let last = if is_sticky { pick::by_affinity(work, frontend) } else { None };
    let Some(picked) = last.or_else(|| work.pool.at(hash, 0)) else {
        return refuse(work, Some(Counter::DropNoBackend));
    };
    note(skb, work, frontend, &picked);
    let stored = if conflict::is_taken(work) { None } else { store(work) };
    let decision = stored.unwrap_or_else(|| store_elsewhere(skb, work, frontend, &picked, hash));
    if is_sticky {
        pick::remember(work);
    }
    decision
}

/// Notes both halves of a flow to `picked`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "called for every new flow; the other calls are rare")]
pub(super) fn note<F: Family>(skb: Skb, work: &mut Work<F>, frontend: &FrontendValue, picked: &Picked) {
    let address = F::from_words(&picked.backend.address);
    let is_itself = work.packet.tuple.source == address;
    work.flow = F::flow_value(&Flow {
        address,
        port: picked.backend.port,
        flags: flags(is_itself, frontend.flags, picked.backend.flags, work.client),
        backend: picked.id,
        generation: picked.backend.generation,
        service: frontend.service,
        last_seen: segment::now(),
        interface: skb.interface(),
        client_port: 0,
    });
    opening::note_other_half(work);
}

/// How packets of the flow are treated besides being translated.
#[inline]
fn flags(is_itself: bool, frontend: u32, backend: u16, client: Client) -> u16 {
    let host_backend = if backend & backend::HOST == 0 { 0 } else { HOST_BACKEND };
    if client == Client::Host {
        return HOST_CLIENT | host_backend;
    }
    // A pod that comes to a node port may be one of another node, to which the backend would reply without us. (Such a
    // pod's cluster IPs are that node's business.)
    let returns_unaided = client == Client::Pod && frontend & INTERNAL != 0;
    let away = backend & backend::LOCAL == 0;
    let remote = away && !returns_unaided;
    let masquerade = frontend & MASQUERADE_ALL != 0 || (frontend & MASQUERADE_REMOTE != 0 && remote);
    // From another node it would not find the way back to an address that is known here alone.
    if is_itself && !(masquerade && away) {
        return HAIRPIN;
    }
    host_backend | if masquerade { MASQUERADED } else { 0 }
}

/// Why a flow that has to be masqueraded cannot be: the rule is not there that masquerades what is marked. (The agent, who
/// sees what is dropped without it, installs it.)
#[inline]
fn unmasqueraded<F: Family>(work: &Work<F>) -> Option<Counter> {
    if work.flow.flags() & MASQUERADED == 0 {
        return None;
    }
    let (bit, reason) = if F::VERSION == V4::VERSION {
        (MASQUERADES4, Counter::DropUnmasqueraded4)
    } else {
        (MASQUERADES6, Counter::DropUnmasqueraded6)
    };
    let masquerades = maps::config().is_some_and(|config| config.flags & bit != 0);
    if masquerades { None } else { Some(reason) }
}

/// Stores both halves among the opening flows. (That there are no such halves yet, storing them tells.) `None` if another
/// opening flow has the way back.
#[inline(always)]
#[expect(clippy::inline_always, reason = "called for every new flow; the other call is rare")]
fn store<F: Family>(work: &mut Work<F>) -> Option<Decision> {
    if let Some(reason) = unmasqueraded(work) {
        return Some(refuse(work, Some(reason)));
    }
    family::reach::<F>(&work.flow, work.packet.tuple.protocol);
    if F::opening().insert(&work.key, &work.flow, u64::from(BPF_NOEXIST)).is_err() {
        if let Some(present) = present(work) {
            return Some(again(work, present));
        }
        replace(work);
    }
    if F::opening().insert(&work.other_key, &work.other, u64::from(BPF_NOEXIST)).is_err() && !supplant(work) {
        return None;
    }
    count::count(if segment::is_midstream(&work.packet) { Counter::FlowAdopted } else { Counter::FlowNew });
    if work.flow.flags() & REMAPPED != 0 {
        count::count(Counter::FlowRemapped);
    }
    count::flow(work.flow.service());
    log::begun(work);
    Some(Decision::Translate)
}

/// Stores the reverse half where one is, if that is what remains of an earlier flow of the same client port and frontend.
/// If not, the forward half goes too; whether both are there.
#[inline(never)]
fn supplant<F: Family>(work: &Work<F>) -> bool {
    if conflict::is_opening(work) {
        let _absent = F::opening().remove(&work.key);
        return false;
    }
    put::<F>(&work.other_key, &work.other);
    true
}

/// Stores a flow that no other is in the way of.
#[inline(never)]
fn store_elsewhere<F: Family>(
    skb: Skb,
    work: &mut Work<F>,
    frontend: &FrontendValue,
    picked: &Picked,
    hash: u32,
) -> Decision {
    if conflict::find_free(skb, work, frontend, picked, hash)
        && let Some(decision) = store(work)
    {
        return decision;
    }
    refuse(work, Some(Counter::DropConflict))
}

/// Stores one half, whatever is there.
#[inline]
fn put<F: Family>(key: &F::FlowKey, value: &F::FlowValue) {
    if F::opening().insert(key, value, u64::from(BPF_ANY)).is_err() {
        count::count(Counter::FlowsFull);
    }
}

/// Puts the forward half in the place of that of a flow whose backend is gone.
#[inline(never)]
fn replace<F: Family>(work: &Work<F>) {
    if let Some(old) = F::opening().get_ptr(&work.key) {
        let hairpin = maps::config().map_or(work.flow.address(), F::hairpin);
        // SAFETY: as in `present`.
        let other = F::other_half(&work.key, unsafe { &*old }, hairpin);
        let _absent = F::opening().remove(&other);
    }
    put::<F>(&work.key, &work.flow);
}

/// A packet to a backend itself. If there was a flow through a frontend that had the same ports, replies must not be
/// translated any more. (A packet may pass several interfaces: what this node translated is of the flow.)
pub(crate) fn direct<F: Family>(skb: Skb) -> i32 {
    let Some(config) = maps::config() else { return TCX_NEXT };
    if skb.was_translated(config.node_note()) {
        return TCX_NEXT;
    }
    if let Some(work) = work::get::<F>() {
        work.key = F::flow_key(&work.packet.tuple.turned(), REVERSE);
        forget_if_ended(work);
    }
    TCX_NEXT
}

/// A connection that is opening, or open, ends with its own packets only, unless nothing was heard of it for a while.
#[inline]
fn forget_if_ended<F: Family>(work: &mut Work<F>) {
    let established = F::flows().get_ptr(&work.key);
    let present = match established {
        Some(present) => present,
        None => match F::opening().get_ptr(&work.key) {
            Some(present) => present,
            None => return,
        },
    };
    // SAFETY: the pointer comes from a map look-up, and the value is copied at once.
    work.flow = unsafe { *present };
    if work.flow.flags() & HOST_CLIENT != 0 {
        return;
    }
    opening::note_other_half(work);
    let is_over = work.packet.tuple.protocol == UDP || (established.is_some() && opening::is_over(work));
    if is_over || work.flow.last_seen() != segment::now() {
        opening::forget::<F>(&work.key, &work.other_key);
    }
}
