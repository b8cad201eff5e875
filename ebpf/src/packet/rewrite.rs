//! Changing ports and transport checksums.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use shunt_abi::address::{SCTP, TCP, UDP};

use super::{Packet, Position, Skb, checksum};
use crate::family::Family;

/// Which end of a packet changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// The kernel refused to change the packet.
pub(crate) struct Fault;

const ICMP6: u8 = 58;
const ICMP6_CHECKSUM: u32 = 2;
const TCP_CHECKSUM: u32 = 16;
const UDP_CHECKSUM: u32 = 6;

/// Offset of the checksum in the transport header and how the kernel is to treat it; `None` for protocols whose
/// checksum does not cover addresses.
#[inline]
const fn checksum_field(protocol: u8) -> Option<(u32, u64)> {
    match protocol {
        TCP => Some((TCP_CHECKSUM, 0)),
        // Zero means "no checksum", stays so, and must not be the result.
        UDP => Some((UDP_CHECKSUM, BPF_F_MARK_MANGLED_0 as u64)),
        ICMP6 => Some((ICMP6_CHECKSUM, 0)),
        _ => None,
    }
}

/// Follows a change of addresses (`difference`) in the transport checksum, if the packet has the header.
#[inline]
pub(crate) fn rewrite_transport_checksum<F: Family>(
    skb: Skb,
    packet: &Packet<F>,
    difference: u32,
) -> Result<(), Fault> {
    let Some((offset, flags)) = checksum_field(packet.tuple.protocol) else { return Ok(()) };
    if packet.position == Position::Later {
        return Ok(());
    }
    // With the pseudo header flag also where the rest of the sum is left to the device (CHECKSUM_PARTIAL).
    let flags = flags | u64::from(BPF_F_PSEUDO_HDR);
    ensure(skb.add_to_checksum(packet.transport + offset, difference, flags))
}

/// Replaces the port of one side. SCTP's checksum is [`rewrite_sctp_checksum`]'s.
#[inline]
pub(crate) fn rewrite_ports<F: Family>(
    skb: Skb,
    packet: &Packet<F>,
    side: Side,
    port: u16,
) -> Result<(), Fault> {
    let (old, offset) = end(packet, side);
    if old == port || packet.position == Position::Later {
        return Ok(());
    }
    rewrite_port_checksum(skb, packet, side, port)?;
    ensure(skb.store(packet.transport + offset, &port, false))
}

/// Follows a change of the port of one side in the transport checksum.
#[inline]
pub(crate) fn rewrite_port_checksum<F: Family>(
    skb: Skb,
    packet: &Packet<F>,
    side: Side,
    port: u16,
) -> Result<(), Fault> {
    let (old, _) = end(packet, side);
    if old == port {
        return Ok(());
    }
    let Some((field, flags)) = checksum_field(packet.tuple.protocol) else { return Ok(()) };
    let difference = checksum::difference(&[u32::from(old)], &[u32::from(port)]);
    ensure(skb.add_to_checksum(packet.transport + field, difference, flags))
}

/// The port of one side, and where it is in the transport header.
#[inline]
fn end<F: Family>(packet: &Packet<F>, side: Side) -> (u16, u32) {
    match side {
        Side::Source => (packet.tuple.source_port, 0),
        Side::Destination => (packet.tuple.destination_port, 2),
    }
}

/// Whether a change to these ports, source and destination, cannot be followed in the checksum: SCTP's is in the first
/// fragment and depends on how many bytes the others have.
#[inline]
pub(crate) fn is_beyond_checksum<F: Family>(packet: &Packet<F>, ports: [u16; 2]) -> bool {
    packet.position == Position::First && packet.tuple.protocol == SCTP && changed_bits(packet, ports) != 0
}

/// Follows a change to these ports, source and destination, in SCTP's checksum; nothing for other protocols. Not for the
/// hot path: verifiers take their time over it.
#[inline]
pub(crate) fn rewrite_sctp_checksum<F: Family>(
    skb: Skb,
    packet: &Packet<F>,
    ports: [u16; 2],
) -> Result<(), Fault> {
    if packet.tuple.protocol != SCTP {
        return Ok(());
    }
    let bits = changed_bits(packet, ports);
    if bits == 0 { Ok(()) } else { follow_in_crc(skb, packet, bits) }
}

/// Bits of the packet's first four bytes that differ from these ports, as they are in memory.
#[inline]
fn changed_bits<F: Family>(packet: &Packet<F>, [source, destination]: [u16; 2]) -> u32 {
    let tuple = &packet.tuple;
    u32::from(tuple.source_port ^ source) | u32::from(tuple.destination_port ^ destination) << 16
}

#[inline(never)]
fn follow_in_crc<F: Family>(skb: Skb, packet: &Packet<F>, bits: u32) -> Result<(), Fault> {
    // Frames may be padded behind the IP packet.
    let bytes = F::end(skb, packet).ok_or(Fault)?.wrapping_sub(packet.transport);
    super::crc32c::change(skb, packet.transport, bits, bytes)
}

#[inline]
pub(super) fn ensure(done: bool) -> Result<(), Fault> {
    if done { Ok(()) } else { Err(Fault) }
}
