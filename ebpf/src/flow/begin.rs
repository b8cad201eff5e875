//! The first packet of a flow.

use aya_ebpf::bindings::{BPF_ANY, tcx_action_base::TCX_NEXT};
use shunt_abi::{
    address::TCP,
    backend,
    config::{ADOPT_MIDSTREAM, Config},
    counter::Counter,
    flow::{FINISHED, HAIRPIN, HOST_BACKEND, HOST_CLIENT, MASQUERADED, RESET, REVERSE},
    frontend::{FrontendValue, MASQUERADE_ALL, MASQUERADE_REMOTE, RANGES, SOCKET_ONLY},
};

use super::{
    Decision, Hook, Work, client, opening,
    pick::{self, Picked, Pool},
    segment,
    work::{self, Client},
};
use crate::{
    count,
    family::{Family, Flow, FlowValue},
    maps,
    packet::Skb,
};

/// Backends that are tried while another flow of the same client holds the way back.
const ATTEMPTS: u32 = 4;

/// A packet to what may be a frontend, of no flow at all. With [`Decision::Translate`], the notes hold the flow it
/// begins.
#[inline(never)]
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
        return drop(Counter::DropSourceRange);
    }
    work.client = match work.hook {
        Hook::HostEgress => Client::Host,
        Hook::Ingress => client::classify::<F>(skb, &work.packet.tuple.source, config),
    };
    work.pool = Pool::of(frontend, work.client);
    if work.pool.length == 0 {
        return if work.pool.rejects != 0 { Decision::Reject } else { drop(Counter::DropNoLocal) };
    }
    choose_and_store(skb, work, frontend)
}

#[inline]
fn drop(reason: Counter) -> Decision {
    count::count(reason);
    Decision::Drop
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

#[inline(never)]
fn choose_and_store<F: Family>(skb: Skb, work: &mut Work<F>, frontend: &FrontendValue) -> Decision {
    if frontend.affinity_seconds != 0
        && let Some(picked) = pick::by_affinity(work, frontend)
        && is_free(skb, work, frontend, &picked)
    {
        return store(work);
    }
    let hash = pick::hash(&work.packet, frontend.service);
    for attempt in 0..ATTEMPTS {
        let Some(picked) = work.pool.at(hash, attempt) else { return drop(Counter::DropNoBackend) };
        if is_free(skb, work, frontend, &picked) {
            if frontend.affinity_seconds != 0 {
                pick::remember(work);
            }
            return store(work);
        }
    }
    drop(Counter::DropConflict)
}

/// Notes both halves of a flow to `picked`; whether no other flow has the way back.
#[inline(never)]
fn is_free<F: Family>(skb: Skb, work: &mut Work<F>, frontend: &FrontendValue, picked: &Picked) -> bool {
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
    });
    opening::note_other_half(work);
    !is_taken(work)
}

/// How packets of the flow are treated besides being translated.
#[inline]
fn flags(is_itself: bool, frontend: u32, backend: u16, client: Client) -> u16 {
    let host_backend = if backend & backend::HOST == 0 { 0 } else { HOST_BACKEND };
    if client == Client::Host {
        return HOST_CLIENT | host_backend;
    }
    if is_itself {
        return HAIRPIN;
    }
    let remote = client == Client::Outside && backend & backend::LOCAL == 0;
    let masquerade = frontend & MASQUERADE_ALL != 0 || (frontend & MASQUERADE_REMOTE != 0 && remote);
    host_backend | if masquerade { MASQUERADED } else { 0 }
}

/// Whether another flow has the way back: the same client port, from another frontend to the same backend. Remains of
/// one that is over are cleared away.
#[inline(never)]
fn is_taken<F: Family>(work: &Work<F>) -> bool {
    // SAFETY: the map frees its elements after a grace period, which the program's run is within.
    let Some(present) = (unsafe { F::flows().get(&work.other_key) }) else { return false };
    let tuple = &work.packet.tuple;
    let same = present.address() == tuple.destination && present.port() == tuple.destination_port;
    if !same && present.flags() & (FINISHED | RESET) == 0 && segment::is_current(present) {
        return true;
    }
    // Its own forward half, which nothing leads to any more, is left to the agent.
    let _absent = F::flows().remove(&work.other_key);
    false
}

/// Stores both halves among the opening flows.
#[inline(never)]
fn store<F: Family>(work: &Work<F>) -> Decision {
    let kept = F::opening().insert(&work.key, &work.flow, u64::from(BPF_ANY)).is_ok()
        && F::opening().insert(&work.other_key, &work.other, u64::from(BPF_ANY)).is_ok();
    if !kept {
        count::count(Counter::FlowsFull);
    }
    count::count(if segment::is_midstream(&work.packet) { Counter::FlowAdopted } else { Counter::FlowNew });
    count::flow(work.flow.service());
    Decision::Translate
}

/// A packet to a backend itself. If it begins a connection, then an earlier one through a frontend that had the same
/// ports is over, and its replies must not be translated any more.
pub(crate) fn direct<F: Family>() -> i32 {
    if let Some(work) = work::get::<F>() {
        work.key = F::flow_key(&work.packet.tuple.turned(), REVERSE);
        forget_unless_fresh(work);
    }
    TCX_NEXT
}

/// A packet may pass several interfaces: one translated just now must not undo its own flow.
#[inline]
fn forget_unless_fresh<F: Family>(work: &mut Work<F>) {
    let present = match F::flows().get_ptr(&work.key) {
        Some(present) => present,
        None => match F::opening().get_ptr(&work.key) {
            Some(present) => present,
            None => return,
        },
    };
    // SAFETY: the pointer comes from a map look-up, and the value is copied at once.
    work.flow = unsafe { *present };
    if work.flow.last_seen() != segment::now() && work.flow.flags() & HOST_CLIENT == 0 {
        opening::note_other_half(work);
        opening::forget::<F>(&work.key, &work.other_key);
    }
}
