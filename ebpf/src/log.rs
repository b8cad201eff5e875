//! What the programs tell of single packets, in objects built with the feature `log`; nothing in others.

use shunt_abi::counter::Counter;

use crate::{family::Family, packet::Packet};

/// What was counted, but for the packets of the hot path.
#[inline(always)]
#[expect(clippy::inline_always, reason = "nothing is left of it in an object without logs")]
pub(crate) fn counted(counter: Counter) {
    #[cfg(feature = "log")]
    if !matches!(counter, Counter::Forward | Counter::Reverse) {
        tell(counter);
    }
    #[cfg(not(feature = "log"))]
    let _ = counter;
}

/// A function of its own: a message takes more of the stack than most programs have left.
#[cfg(feature = "log")]
#[inline(never)]
fn tell(counter: Counter) {
    aya_log_ebpf::debug!((), "{}", counter.label());
}

/// A flow that begins.
#[inline(always)]
#[expect(clippy::inline_always, reason = "nothing is left of it in an object without logs")]
pub(crate) fn begun<F: Family>(packet: &Packet<F>, flow: &F::FlowValue) {
    #[cfg(feature = "log")]
    tell_flow(packet, flow);
    #[cfg(not(feature = "log"))]
    let _ = (packet, flow);
}

#[cfg(feature = "log")]
#[inline(never)]
fn tell_flow<F: Family>(packet: &Packet<F>, flow: &F::FlowValue) {
    use crate::family::FlowValue as _;
    let port = u16::from_be(packet.tuple.source_port);
    aya_log_ebpf::debug!(
        (),
        "client port {}, protocol {}: service {}, backend {}",
        port,
        packet.tuple.protocol,
        flow.service(),
        flow.id()
    );
}
