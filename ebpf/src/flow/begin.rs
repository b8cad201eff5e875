//! The first packet of a flow.

use shunt_abi::{
    address::TCP,
    backend,
    config::{ADOPT_MIDSTREAM, Config},
    counter::Counter,
    flow::{HAIRPIN, HOST_BACKEND, HOST_CLIENT, MASQUERADED},
    frontend::{FrontendValue, INTERNAL, MASQUERADE_ALL, MASQUERADE_REMOTE, RANGES, SOCKET_ONLY},
};

use super::{
    Decision, Hook, Work, accelerate, client, conflict, decide,
    pick::{self, Picked, Pool},
    segment, slots, source, store,
    work::Client,
};
use crate::{
    count,
    family::{Family, Flow, FlowValue},
    maps,
    packet::{Packet, Skb},
};

/// A packet to what may be a frontend, of no flow at all. With [`Decision::Begin`], the notes hold the flow that it
/// begins; with [`Decision::Translate`] one that it began before.
#[inline]
pub(super) fn begin<F: Family>(skb: Skb, work: &mut Work<F>) -> Decision {
    let tuple = work.packet.tuple;
    let Some(frontend) = F::frontend(tuple.destination, tuple.destination_port, tuple.protocol) else {
        return Decision::Absent;
    };
    let Some(config) = maps::config() else { return Decision::Leave };
    if is_left_alone(skb, work, frontend, config) {
        return Decision::Leave;
    }
    if let Some(present) = present(work) {
        return store::again(work, present);
    }
    if frontend.flags & RANGES != 0 && !F::in_ranges(frontend.service, tuple.source) {
        return refuse(Some(Counter::DropSourceRange));
    }
    work.client = match work.hook {
        Hook::HostEgress => Client::Host,
        Hook::Ingress => client::classify::<F>(skb, &work.packet.tuple.source, config),
    };
    work.pool = Pool::of(frontend, work.client);
    if work.pool.length == 0 {
        let reason = if work.pool.rejects != 0 { None } else { Some(Counter::DropNoLocal) };
        return refuse(reason);
    }
    choose(skb, work, frontend, config)
}

/// Drops the packet for a reason, or rejects it for none.
#[inline]
fn refuse(reason: Option<Counter>) -> Decision {
    let Some(reason) = reason else { return Decision::Reject };
    count::count(reason);
    Decision::Drop
}

/// The flow that the packet's request began before, if its backend still serves.
#[inline]
fn present<F: Family>(work: &mut Work<F>) -> Option<&'static mut F::FlowValue> {
    let present = decide::own(work)?;
    (!present.is_established() && segment::is_current(present)).then_some(present)
}

/// Whether packets to a frontend must not be touched.
#[inline]
fn is_left_alone<F: Family>(skb: Skb, work: &mut Work<F>, frontend: &FrontendValue, config: &Config) -> bool {
    if frontend.flags & SOCKET_ONLY != 0 || is_on_its_way(skb, work, config) {
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

/// Whether the packet was translated already: its backend is a frontend as well (an address of a node with the port of a
/// process there).
#[inline]
fn is_on_its_way<F: Family>(skb: Skb, work: &mut Work<F>, config: &Config) -> bool {
    // (The note alone does not tell: a pod that forwards packets sends them where it likes.)
    let is_translated = skb.was_translated(config.node_note()) || segment::is_midstream(&work.packet);
    is_translated && work.may_be_present != 0 && is_to_own_backend(work)
}

/// Whether the client's port has a flow to the backend that the packet goes to.
#[inline(never)]
fn is_to_own_backend<F: Family>(work: &mut Work<F>) -> bool {
    let tuple = &work.packet.tuple;
    work.other_key = F::flow_key(tuple.source, tuple.source_port, tuple.protocol);
    slots::from::<F>(&mut work.other_key, &tuple.destination, tuple.destination_port).is_some()
}

#[inline]
fn choose<F: Family>(skb: Skb, work: &mut Work<F>, frontend: &FrontendValue, config: &Config) -> Decision {
    work.is_sticky = u8::from(frontend.affinity_seconds != 0);
    let hash = pick::hash(&work.packet, frontend.service, config);
    let last = if work.is_sticky != 0 { pick::by_affinity(work, frontend) } else { None };
    let Some(picked) = last.or_else(|| work.pool.at(hash, 0)) else {
        return refuse(Some(Counter::DropNoBackend));
    };
    note(skb, work, frontend, &picked);
    let is_free = work.slots.ways_back == 0 || conflict::is_free(work);
    let is_free = is_free || conflict::find_free(skb, work, frontend, &picked, hash);
    if is_free && (work.client != Client::Host || source::settle(skb, work, hash)) {
        return Decision::Begin;
    }
    if work.is_sticky != 0 {
        pick::remember(work);
    }
    refuse(Some(Counter::DropConflict))
}

/// Notes a flow to `picked`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "called for most flows; the other calls are rare")]
pub(super) fn note<F: Family>(skb: Skb, work: &mut Work<F>, frontend: &FrontendValue, picked: &Picked) {
    work.flow = flow(skb, &work.packet, work.client, frontend, picked);
}

/// A flow to `picked` that `packet` begins.
#[inline(always)]
#[expect(clippy::inline_always, reason = "called for every new flow")]
pub(super) fn flow<F: Family>(
    skb: Skb,
    packet: &Packet<F>,
    client: Client,
    frontend: &FrontendValue,
    picked: &Picked,
) -> F::FlowValue {
    let tuple = &packet.tuple;
    let address = F::from_words(&picked.backend.address);
    F::flow_value(&Flow {
        frontend: tuple.destination,
        backend: address,
        frontend_port: tuple.destination_port,
        backend_port: picked.backend.port,
        flags: flags(tuple.source == address, frontend.flags, picked.backend.flags, client),
        id: picked.id,
        generation: picked.backend.generation,
        service: frontend.service,
        last_seen: segment::now(),
        interface: skb.interface(),
    })
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
    accelerate::offer(host_backend | if masquerade { MASQUERADED } else { 0 }, backend)
}
