//! The first packet of most flows, straight ahead: nothing is known of the client's port, one look at the Service says all,
//! and a place is free. Everything else is left to programs that take their time.

use aya_ebpf::bindings::{BPF_NOEXIST, tcx_action_base::TCX_NEXT};
use shunt_abi::{
    config::{COUNT_SERVICES, Config},
    counter::Counter,
    flow::MASQUERADED,
    frontend::{FrontendValue, RANGES, SOCKET_ONLY},
    tail::Tail,
};

use super::{
    Decision, Hook, Work, begin, client, half_open, pick, pick::Pool, segment, slots::Slots, store,
    translate, work,
};
use crate::{
    count,
    family::{self, Family, FlowValue},
    log, maps,
    packet::{Side, Skb},
    programs,
};

/// A packet to what may be a frontend, of a client's port that has no flow.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
pub(crate) fn consider<F: Family>(skb: Skb) -> i32 {
    let Some(work) = work::get::<F>() else { return TCX_NEXT };
    let Some(config) = maps::config() else { return TCX_NEXT };
    let Some(flow) = choose(skb, work, config) else {
        programs::continue_in::<F>(skb, Tail::Decide);
        return TCX_NEXT;
    };
    store(skb, work, config, flow)
}

/// The flow that the packet begins, if it is one of most.
#[inline(always)]
#[expect(clippy::inline_always, reason = "called once, and handed over in registers")]
fn choose<F: Family>(skb: Skb, work: &Work<F>, config: &Config) -> Option<F::FlowValue> {
    let packet = &work.packet;
    let tuple = &packet.tuple;
    let frontend = F::frontend(tuple.destination, tuple.destination_port, tuple.protocol)?;
    // The address that this node's own clients have for a backend takes a look at the routing table.
    if work.hook == Hook::HostEgress || is_more_to_ask(frontend) {
        return None;
    }
    if !segment::stands_alone(packet) || client::is_for_other_host(skb) {
        return None;
    }
    let client = client::classify::<F>(skb, &tuple.source, config);
    let hash = pick::hash(packet, frontend.service, config);
    // Nobody is at a place of an empty pool.
    let picked = Pool::of(frontend, client).first(hash)?;
    let flow = begin::flow(skb, packet, client, frontend, &picked);
    if flow.flags() & MASQUERADED != 0 && store::unmasqueraded::<F>(config).is_some() {
        return None;
    }
    Some(flow)
}

/// Whether a Service asks for more than that one of its backends is chosen.
#[inline]
const fn is_more_to_ask(frontend: &FrontendValue) -> bool {
    frontend.flags & (SOCKET_ONLY | RANGES) != 0 || frontend.affinity_seconds != 0
}

/// Stores the flow in the first slot of the client's port, and translates the packet.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
fn store<F: Family>(skb: Skb, work: &mut Work<F>, config: &Config, mut flow: F::FlowValue) -> i32 {
    let tuple = &work.packet.tuple;
    let key = F::flow_key(tuple.source, tuple.source_port, tuple.protocol);
    family::reach::<F>(&flow, tuple.protocol);
    let is_stored = half_open::enter_at_once::<F>(&mut work.cursor, &key, &mut flow, config)
        && F::flows().insert(&key, &flow, u64::from(BPF_NOEXIST)).is_ok();
    if !is_stored {
        work.key = key;
        work.flow = flow;
        work.slots = Slots::EMPTY;
        work.decision = Decision::Begin;
        work.is_left = 0;
        work.is_sticky = 0;
        programs::continue_in::<F>(skb, Tail::Store);
        return TCX_NEXT;
    }
    count::count(Counter::FlowNew);
    log::begun(&work.packet, &flow);
    if config.flags & COUNT_SERVICES != 0 {
        count::flow(flow.service());
        count::packet(skb, flow.service());
    }
    if F::rewrite(skb, &work.packet, Side::Destination, flow.backend(), flow.backend_port()).is_err() {
        return count::drop(Counter::DropRewrite);
    }
    skb.note_translated(config.node_note());
    count::count(Counter::Forward);
    if translate::needs_more(flow.flags()) {
        work.flow = flow;
        programs::continue_in::<F>(skb, Tail::Special);
    }
    TCX_NEXT
}
