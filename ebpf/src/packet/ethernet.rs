//! The link layer: whether there is a header.

use shunt_abi::interface::NO_LINK_HEADER;

use super::Skb;
use crate::maps::INTERFACES;

/// Bytes of an Ethernet header without tags (the kernel takes the outer tag out of the packet).
const HEADER: u32 = 14;

/// Where its EtherType is.
const ETHERTYPE: u32 = 12;

/// Bytes before the IP header of a packet of `version` and EtherType `protocol` (network order): 14, or 0 on an
/// interface without a link-layer header (WireGuard, IPIP). `None` if neither fits.
#[inline]
pub(crate) fn network_offset(skb: Skb, protocol: u16, version: u8) -> Option<u32> {
    let ethernet = skb.header::<u16>(ETHERTYPE) == Some(protocol) && is_version(skb, HEADER, version);
    // Hardware and IP addresses may look like the start of the other header.
    match (ethernet, is_version(skb, 0, version)) {
        (true, false) => Some(HEADER),
        (false, true) => Some(0),
        (true, true) => Some(if has_link_header(skb) { HEADER } else { 0 }),
        (false, false) => None,
    }
}

#[inline]
fn is_version(skb: Skb, offset: u32, version: u8) -> bool {
    skb.header::<[u8; 2]>(offset).is_some_and(|[byte, _]| byte >> 4 == version)
}

#[inline(never)]
fn has_link_header(skb: Skb) -> bool {
    // SAFETY: the agent changes an interface's flags once at most; a mixture of old and new is one of them.
    let interface = unsafe { INTERFACES.get(skb.interface()) };
    interface.is_none_or(|interface| interface.flags & NO_LINK_HEADER == 0)
}
