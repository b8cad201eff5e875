//! What a packet says of the state of its flow.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use shunt_abi::{
    address::{SCTP, TCP, UDP},
    clock,
    flow::{FINISHED, RESET},
};

use crate::{
    family::{Family, FlowValue},
    maps,
    packet::Packet,
};

const FIN: u8 = 1 << 0;
const SYN: u8 = 1 << 1;
const RST: u8 = 1 << 2;
const ACK: u8 = 1 << 4;

const INIT: u8 = 1;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_COMPLETE: u8 = 14;

/// The current tick.
#[inline]
pub(crate) fn now() -> u32 {
    // SAFETY: the helper takes nothing. (Kernels inline it to one load.)
    clock::tick(unsafe { bpf_jiffies64() })
}

/// A client's request for a new connection.
#[inline]
pub(crate) const fn begins<F: Family>(packet: &Packet<F>) -> bool {
    match packet.tuple.protocol {
        TCP => packet.flags & (SYN | ACK | RST) == SYN,
        SCTP => packet.flags == INIT,
        _ => false,
    }
}

/// A packet that continues no connection: it begins one, or is a datagram.
#[inline]
pub(crate) const fn stands_alone<F: Family>(packet: &Packet<F>) -> bool {
    is_datagram(packet) || begins(packet)
}

/// A datagram.
#[inline]
pub(crate) const fn is_datagram<F: Family>(packet: &Packet<F>) -> bool {
    packet.tuple.protocol == UDP
}

/// In the middle of a connection, whose beginning should have been seen.
#[inline]
pub(super) const fn is_midstream<F: Family>(packet: &Packet<F>) -> bool {
    !is_datagram(packet) && !begins(packet)
}

/// Notes a packet of the client in its flow.
#[inline]
pub(super) fn touch_by_client<F: Family>(packet: &Packet<F>, flow: &mut F::FlowValue) {
    flow.touch(now());
    flow.note_client(state(packet));
}

/// Notes a packet of the backend in its flow.
#[inline]
pub(super) fn touch_by_backend<F: Family>(packet: &Packet<F>, flow: &mut F::FlowValue) {
    flow.touch(now());
    flow.note_backend(state(packet));
}

/// What `packet` says of its direction of the flow.
#[inline]
const fn state<F: Family>(packet: &Packet<F>) -> u8 {
    match packet.tuple.protocol {
        TCP if packet.flags & RST != 0 => RESET,
        TCP if packet.flags & FIN != 0 => FINISHED,
        SCTP if packet.flags == ABORT => RESET,
        SCTP if packet.flags == SHUTDOWN || packet.flags == SHUTDOWN_COMPLETE => FINISHED,
        _ => 0,
    }
}

/// The backend is the one that was chosen, and serves.
#[inline]
pub(super) fn is_current<A>(flow: &impl FlowValue<A>) -> bool {
    maps::backend(flow.id()).is_some_and(|backend| backend.generation == flow.generation())
}

/// Whether the packet may follow its entry. Connections stay with their backend to the end, whatever becomes of it;
/// datagrams leave one that no longer serves.
#[inline]
pub(super) fn may_follow<F: Family>(packet: &Packet<F>, flow: &F::FlowValue) -> bool {
    match packet.tuple.protocol {
        UDP => is_current(flow),
        _ => !begins(packet),
    }
}
