//! "Destination unreachable, port unreachable" over IPv4 (RFC 792).

use super::{
    Fault, Packet, Skb,
    checksum::fold,
    rewrite::ensure,
    unreachable::{quote, sum},
};
use crate::family::V4;

/// Both headers that come in front of the quotation.
#[repr(C)]
#[derive(Clone, Copy)]
struct Headers {
    version_length_service: u16,
    total: u16,
    identification: u16,
    fragment: u16,
    hops_protocol: u16,
    checksum: u16,
    source: u32,
    destination: u32,
    type_code: u16,
    message_checksum: u16,
    unused: u32,
}

const ROOM: u32 = 28;
const ICMP: u16 = 1;
const TYPE_CODE: u16 = 0x0303;

/// Turns the packet into the error.
#[inline(never)]
pub(crate) fn answer(skb: Skb, packet: &Packet<V4>) -> Result<(), Fault> {
    let header = packet.transport.wrapping_sub(packet.network);
    let quoted = quote(skb, packet.network, header, ROOM, packet.tuple.protocol)?;
    // The sum over an IPv4 header is nothing.
    let message = sum(&quoted) + u32::from(TYPE_CODE.to_be());
    let mut headers = Headers {
        version_length_service: 0x4500_u16.to_be(),
        total: total(header),
        identification: 0,
        fragment: 0,
        hops_protocol: (64 << 8 | ICMP).to_be(),
        checksum: 0,
        source: packet.tuple.destination,
        destination: packet.tuple.source,
        type_code: TYPE_CODE.to_be(),
        message_checksum: !fold(message),
        unused: 0,
    };
    headers.checksum = !fold(header_sum(&headers));
    ensure(skb.store(packet.network, &headers, false))
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a header has 60 bytes at most")]
const fn total(header: u32) -> u16 {
    ((ROOM + header + 8) as u16).to_be()
}

#[inline]
fn header_sum(headers: &Headers) -> u32 {
    let addresses = u32::from(fold(headers.source)) + u32::from(fold(headers.destination));
    addresses + sum(&[headers.version_length_service, headers.total, headers.hops_protocol])
}
