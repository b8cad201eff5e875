//! Two flows of one client port, through different frontends, that lead to the same backend: translated, both would look
//! alike, and so would the replies. The client's kernel, which sees two destinations, gives out such ports freely.
//!
//! The later one goes to another backend; where there is none, or affinity forbids it, the backend sees it with another
//! client port. That holds while the agent keeps the earlier one, even if it is over: its backend may still
//! remember it (`TIME_WAIT`), and would not let a connection begin on its ports.

use shunt_abi::{flow::REMAPPED, frontend::FrontendValue, known::Role};

use super::{Client, Work, begin, opening, pick::Picked};
use crate::{
    family::{self, Family, FlowValue},
    packet::Skb,
};

/// Backends that are tried with the client's own port.
const BACKENDS: u32 = 4;
/// Other ports that are tried. With half of them taken, all are with a chance of 1 in 65536.
const PORTS: u32 = 16;

/// Whether another established flow has the way back of the one in the notes. Remains of the client's own are cleared
/// away.
#[inline]
pub(super) fn is_taken<F: Family>(work: &Work<F>) -> bool {
    // SAFETY: the map frees its elements after a grace period, which the program's run is within.
    let Some(present) = (unsafe { F::flows().get(&work.other_key) }) else { return false };
    if is_others(work, present) {
        return true;
    }
    // Its forward half was forgotten when the packet in hand turned out not to follow it.
    let _absent = F::flows().remove(&work.other_key);
    false
}

/// Whether another opening flow has it.
#[inline]
pub(super) fn is_opening<F: Family>(work: &Work<F>) -> bool {
    // SAFETY: the element may be given to another flow, but only once it is the least recently used of all.
    unsafe { F::opening().get(&work.other_key) }.is_some_and(|present| is_others(work, present))
}

/// Whether `present`, found where the reverse half of the flow in the notes is to be, is that of another frontend or of
/// another port of the client.
#[inline(never)]
fn is_others<F: Family>(work: &Work<F>, present: &F::FlowValue) -> bool {
    let tuple = &work.packet.tuple;
    let seen_port =
        if work.flow.flags() & REMAPPED == 0 { tuple.source_port } else { work.flow.client_port() };
    let own_port = if present.flags() & REMAPPED == 0 { seen_port } else { present.client_port() };
    present.address() != tuple.destination
        || present.port() != tuple.destination_port
        || own_port != tuple.source_port
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
    if is_backend_free(skb, work, frontend, picked) {
        return true;
    }
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
    !is_taken(work) && !is_opening(work)
}

/// Gives the flow in the notes another client port towards its backend; whether no other flow has the way back, and
/// nothing that is sent there would be taken for a request.
#[inline(never)]
fn is_port_free<F: Family>(work: &mut Work<F>, port: u16) -> bool {
    work.flow.remap(port);
    opening::note_other_half(work);
    let tuple = &work.packet.tuple;
    let is_request = family::known::<F>(Role::Frontend, tuple.source, port, tuple.protocol);
    !is_request && !is_taken(work) && !is_opening(work)
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
