//! The link layer: whether there is a header, and what follows it.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};

/// Bytes of an Ethernet header without tags.
const HEADER: u32 = 14;

/// Where its EtherType is.
const ETHERTYPE: u32 = 12;

/// EtherType of the packet in host byte order, as the kernel understood it: right also without a link-layer header.
pub(crate) fn protocol(skb: &__sk_buff) -> u16 {
    // The field is a 16-bit value in network order, widened: the lower half on this little-endian target.
    let [first, second, ..] = skb.protocol.to_le_bytes();
    u16::from_be_bytes([first, second])
}

/// Bytes before the IP header: 14, or 0 on an interface without a link-layer header (WireGuard, IPIP). `None` if
/// neither fits. A first byte that names the right IP version is not enough: MAC addresses may begin with 0x45.
pub(crate) fn network_offset(ctx: &TcContext, protocol: u16) -> Option<u32> {
    let version = super::ip::version_of(protocol)?;
    let ethertype = ctx.load::<u16>(ETHERTYPE as usize).ok().map(u16::from_be);
    if ethertype == Some(protocol) && first_nibble(ctx, HEADER) == Some(version) {
        return Some(HEADER);
    }
    (first_nibble(ctx, 0) == Some(version)).then_some(0)
}

fn first_nibble(ctx: &TcContext, offset: u32) -> Option<u8> {
    ctx.load::<u8>(offset as usize).ok().map(|byte| byte >> 4)
}
