//! Counting, and the verdicts that are counted.

use aya_ebpf::bindings::tcx_action_base::TCX_DROP;
use shunt_abi::{config::COUNT_SERVICES, counter::Counter, service::ServiceCounters};

use crate::{
    log,
    maps::{self, COUNTERS, SERVICES},
    packet::Skb,
};

/// Adds one.
#[inline]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter.index()) {
        // SAFETY: the pointer comes from a map look-up and is this CPU's own.
        unsafe { *value += 1 };
    }
    log::counted(counter);
}

/// Counts the reason; the verdict that ends the packet.
#[inline]
pub(crate) fn drop(reason: Counter) -> i32 {
    count(reason);
    TCX_DROP
}

/// Adds a packet to its Service port, where that is asked for.
#[inline]
pub(crate) fn packet(skb: Skb, service: u32) {
    if maps::config().is_some_and(|config| config.flags & COUNT_SERVICES != 0) {
        let Some(counters) = counters(service) else { return };
        counters.packets += u64::from(core::cmp::max(skb.segments(), 1));
        counters.bytes += u64::from(skb.length());
    }
}

/// Adds a new flow to its Service port, where that is asked for.
#[inline]
pub(crate) fn flow(service: u32) {
    if maps::config().is_some_and(|config| config.flags & COUNT_SERVICES != 0) {
        let Some(counters) = counters(service) else { return };
        counters.flows += 1;
    }
}

#[inline]
fn counters(service: u32) -> Option<&'static mut ServiceCounters> {
    let counters = SERVICES.get_ptr_mut(service)?;
    // SAFETY: the pointer comes from a map look-up and is this CPU's own.
    Some(unsafe { &mut *counters })
}
