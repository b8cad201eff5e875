//! Telling a client that nobody answers: a reset for TCP, an ICMP error for all else.

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use shunt_abi::address::TCP;

use super::icmp;
use crate::{
    family::Family,
    flow::{self, Hook},
    packet::{self, Fault, Position, Skb},
};

/// Answers the packet in hand. Where there can be no answer, it ends silently.
pub(crate) fn reject<F: Family>(skb: Skb) -> i32 {
    let Some(work) = flow::notes::<F>() else { return TCX_NEXT };
    let packet = &work.packet;
    if packet.position == Position::Later {
        return TCX_DROP;
    }
    let answered = match packet.tuple.protocol {
        TCP => packet::reset(skb, packet),
        // No error answers an error (RFC 1122).
        protocol if protocol == F::ICMP && !icmp::is_echo_request(skb, packet) => Err(Fault),
        _ => F::answer_unreachable(skb, packet),
    };
    match (answered, work.hook) {
        (Err(_), _) => TCX_DROP,
        (Ok(()), Hook::Ingress) => flow::bounce(skb, packet.network),
        (Ok(()), Hook::HostEgress) => flow::answer_host(skb, packet.network),
    }
}
