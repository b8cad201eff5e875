//! Who a new flow's client is.

use shunt_abi::{
    config::{Config, PODS_BY_INTERFACE, PODS_BY_RANGE},
    interface::{BRIDGE_PORT, InterfaceValue, POD},
};

use super::work::Client;
use crate::{family::Family, maps::INTERFACES, packet::Skb};

/// Where a packet was met.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Entering this host.
    Ingress,
    /// Leaving it, sent by a process of its own.
    HostEgress,
}

#[inline]
fn interface(skb: Skb) -> Option<&'static InterfaceValue> {
    // SAFETY: the map frees its elements after a grace period, which the program's run is within.
    unsafe { INTERFACES.get(skb.interface()) }
}

/// Classifies the client with this address.
#[inline]
pub(super) fn classify<F: Family>(skb: Skb, source: &F::Address, config: &Config) -> Client {
    let by_range = config.flags & PODS_BY_RANGE != 0 && F::is_pod(config, *source);
    if by_range || (config.flags & PODS_BY_INTERFACE != 0 && enters_from_pod(skb)) {
        Client::Pod
    } else {
        Client::Outside
    }
}

#[inline]
fn enters_from_pod(skb: Skb) -> bool {
    interface(skb).is_some_and(|interface| interface.flags & POD != 0)
}

/// `PACKET_OTHERHOST` of linux/if_packet.h.
const OTHER_HOST: u32 = 3;

/// Whether the frame is meant for another host. A bridge's ports have addresses of their own, so what is for the bridge
/// looks like that too.
#[inline]
pub(crate) fn is_for_other_host(skb: Skb) -> bool {
    skb.packet_type() == OTHER_HOST && !is_for_bridge(skb)
}

/// Whether the frame is addressed to the bridge that it came to by a port.
#[inline]
pub(super) fn is_for_bridge(skb: Skb) -> bool {
    interface(skb).is_some_and(|interface| {
        interface.flags & BRIDGE_PORT != 0 && skb.header::<[u8; 6]>(0) == Some(interface.address)
    })
}
