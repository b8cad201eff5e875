//! "Destination unreachable, port unreachable" over IPv6 (RFC 4443).

use super::{
    Fault, Packet, Skb,
    checksum::{difference, fold},
    rewrite::ensure,
    unreachable::{quote, sum},
};
use crate::family::V6;

/// Both headers that come in front of the quotation.
#[repr(C)]
#[derive(Clone, Copy)]
struct Headers {
    version_class_flow: u32,
    payload: u16,
    next_hops: u16,
    source: [u32; 4],
    destination: [u32; 4],
    type_code: u16,
    checksum: u16,
    unused: u32,
}

const HEADER: u32 = 40;
const ROOM: u32 = 48;
const ICMP: u16 = 58;
const TYPE_CODE: u16 = 0x0104;
/// Bytes behind the new IP header.
const PAYLOAD: u16 = 8 + 40 + 8;

/// Turns the packet into the error. One with extension headers is left as it is.
#[inline(never)]
pub(crate) fn answer(skb: Skb, packet: &Packet<V6>) -> Result<(), Fault> {
    if packet.transport != packet.network + HEADER {
        return Err(Fault);
    }
    let quoted_header: [u32; 10] = skb.load(packet.network).ok_or(Fault)?;
    let quoted = quote(skb, packet.network, HEADER, ROOM, packet.tuple.protocol)?;
    let addresses = u32::from(fold(difference(&[], &packet.tuple.source)))
        + u32::from(fold(difference(&[], &packet.tuple.destination)));
    let pseudo_header = addresses + sum(&[PAYLOAD.to_be(), ICMP.to_be()]);
    let message =
        u32::from(TYPE_CODE.to_be()) + u32::from(fold(difference(&[], &quoted_header))) + sum(&quoted);
    let headers = Headers {
        version_class_flow: 0x6000_0000_u32.to_be(),
        payload: PAYLOAD.to_be(),
        next_hops: (ICMP << 8 | 64).to_be(),
        source: packet.tuple.destination,
        destination: packet.tuple.source,
        type_code: TYPE_CODE.to_be(),
        checksum: !fold(pseudo_header + message),
        unused: 0,
    };
    ensure(skb.store(packet.network, &headers, false))
}
