//! Two flows of one client port, through different frontends, that lead to the same backend: translated, both would look
//! alike, and so would the replies. The client's kernel, which sees two destinations, gives out such ports freely.
//!
//! The later one goes to another backend; where there is none, or affinity forbids it, the backend sees it with another
//! client port. That holds while the agent keeps the earlier one, even if it is over: its backend may still
//! remember it (`TIME_WAIT`), and would not let a connection begin on its ports.

use shunt_abi::{frontend::FrontendValue, known::Role};

use super::{Client, Work, begin, pick::Picked, slots, source};
use crate::{
    family::{self, Family, FlowValue},
    packet::Skb,
};

/// Backends that are tried with the client's own port.
const BACKENDS: u32 = 4;
/// Other ports that are tried. With half of them taken, all are with a chance of 1 in 65536.
const PORTS: u32 = 16;

/// Whether no other flow has the way back of the one in the notes.
#[inline(never)]
pub(super) fn is_free<F: Family>(work: &mut Work<F>) -> bool {
    is_surely_free(work) || !slots::is_taken(work)
}

/// The same at a glance; sometimes not although it is.
#[inline]
fn is_surely_free<F: Family>(work: &Work<F>) -> bool {
    work.slots.ways_back & work.flow.way_back() == 0
}

/// Notes a flow of which no other has the way back: to one of the backends that are tried next, or to `picked` with
/// another client port. Whether there is one.
#[inline(never)]
pub(super) fn find_free<F: Family>(
    skb: Skb,
    work: &mut Work<F>,
    frontend: &FrontendValue,
    picked: &Picked,
    hash: u32,
) -> bool {
    let backends = if frontend.affinity_seconds == 0 { BACKENDS } else { 0 };
    for attempt in 0..backends {
        if let Some(other) = work.pool.at(hash, attempt)
            && is_backend_free(skb, work, frontend, &other)
        {
            return true;
        }
    }
    begin::note(skb, work, frontend, picked);
    find_port(work, hash)
}

/// Gives the flow in the notes another client port towards its backend; whether there is one.
#[inline(never)]
pub(super) fn find_port<F: Family>(work: &mut Work<F>, hash: u32) -> bool {
    for attempt in 0..PORTS {
        let port = candidate(work, hash, attempt);
        if is_port_free(work, port) {
            return true;
        }
    }
    false
}

/// Notes a flow to `picked`; whether no other has the way back.
#[inline(never)]
fn is_backend_free<F: Family>(
    skb: Skb,
    work: &mut Work<F>,
    frontend: &FrontendValue,
    picked: &Picked,
) -> bool {
    begin::note(skb, work, frontend, picked);
    is_surely_free(work)
}

/// Gives the flow in the notes another client port towards its backend; whether no other flow has that, and
/// nothing that is sent there would be taken for a request.
#[inline(never)]
pub(super) fn is_port_free<F: Family>(work: &mut Work<F>, port: u16) -> bool {
    work.flow.remap(port);
    let tuple = &work.packet.tuple;
    let client = source::seen::<F>(&work.flow, tuple.source);
    work.other_key = F::flow_key(client, port, tuple.protocol);
    let is_request = family::known::<F>(Role::Frontend, client, port, tuple.protocol);
    !is_request && slots::get::<F>(&work.other_key).is_none()
}

/// A port, network order, that the backend may see in the place of the client's own. Privileged ports stay such.
#[inline]
fn candidate<F: Family>(work: &Work<F>, hash: u32, attempt: u32) -> u16 {
    let (first, count) = if u16::from_be(work.packet.tuple.source_port) < EPHEMERAL {
        (1, EPHEMERAL - 1)
    } else if work.client == Client::Host {
        HOST_PORTS
    } else {
        POD_PORTS
    };
    // The backend was chosen by the upper half of the hash.
    let spread = (hash & 0xffff).wrapping_add(attempt.wrapping_mul(STEP)) & 0xffff;
    let offset = (spread * u32::from(count)) >> 16;
    let port = first + offset as u16;
    port.to_be()
}

/// The first port that is not privileged.
const EPHEMERAL: u16 = 1024;
/// First and number of the ports for clients that choose their own, as kernels do by default, among those above: so they
/// meet no connection that such a client has with the backend itself.
const POD_PORTS: (u16, u16) = (EPHEMERAL, 30_000 - EPHEMERAL);
/// This node's: what is masqueraded has the others (and node ports are between).
const HOST_PORTS: (u16, u16) = (32_768, 61_000 - 32_768);
/// Odd, and far from a simple fraction of 2^16: candidates are far apart.
const STEP: u32 = 40_503;
