//! ICMP errors: the packet that they quote.

use shunt_abi::address::{SCTP, TCP, UDP};

use super::{Fault, Packet, Position, Side, Skb, Tuple, checksum::difference, rewrite::ensure};
use crate::family::Family;

/// Bytes of an ICMP error's own header.
const HEADER: u32 = 8;
/// Where its checksum is.
const CHECKSUM: u32 = 2;

/// What an IP header says of a quoted packet.
pub(crate) struct QuotedHeader<F: Family> {
    pub(crate) source: F::Address,
    pub(crate) destination: F::Address,
    pub(crate) protocol: u8,
    /// Bytes of the header.
    pub(crate) length: u32,
    pub(crate) checksum: u16,
}

/// Reads the packet that the ICMP error `error` quotes into `quoted`: eight bytes behind the IP header suffice. Whether
/// it has ports.
#[inline(never)]
pub(crate) fn read<F: Family>(skb: Skb, error: &Packet<F>, quoted: &mut Packet<F>) -> bool {
    let network = error.transport + HEADER;
    let Some(header) = F::quoted_header(skb, network) else { return false };
    if !matches!(header.protocol, TCP | UDP | SCTP) {
        return false;
    }
    let transport = network + header.length;
    let Some([source_port, destination_port]) = skb.load::<[u16; 2]>(transport) else { return false };
    quoted.tuple = Tuple {
        source: header.source,
        destination: header.destination,
        source_port,
        destination_port,
        protocol: header.protocol,
    };
    quoted.network = network;
    quoted.transport = transport;
    quoted.header_checksum = header.checksum;
    quoted.position = Position::Whole;
    quoted.flags = 0;
    true
}

/// Replaces address and port of one side of the quoted packet. Its own transport checksum, which nobody looks at and
/// which may be cut off, stays.
#[inline]
pub(crate) fn rewrite<F: Family>(
    skb: Skb,
    error: &Packet<F>,
    quoted: &Packet<F>,
    side: Side,
    to: (F::Address, u16),
) -> Result<(), Fault> {
    let (address, port) = to;
    rewrite_port(skb, error, quoted, side, port)?;
    rewrite_address(skb, error, quoted, side, address)
}

/// Replaces the address of one side of the quoted packet.
#[inline]
pub(crate) fn rewrite_address<F: Family>(
    skb: Skb,
    error: &Packet<F>,
    quoted: &Packet<F>,
    side: Side,
    address: F::Address,
) -> Result<(), Fault> {
    let addresses = F::rewrite_quoted_address(skb, quoted, side, address)?;
    if addresses == 0 {
        return Ok(());
    }
    ensure(skb.add_to_checksum(error.transport + CHECKSUM, addresses, 0))
}

/// Replaces the port of one side of the quoted packet.
#[inline]
pub(crate) fn rewrite_port<F: Family>(
    skb: Skb,
    error: &Packet<F>,
    quoted: &Packet<F>,
    side: Side,
    port: u16,
) -> Result<(), Fault> {
    let (old, offset) = match side {
        Side::Source => (quoted.tuple.source_port, 0),
        Side::Destination => (quoted.tuple.destination_port, 2),
    };
    let ports = difference(&[u32::from(old)], &[u32::from(port)]);
    ensure(skb.store(quoted.transport + offset, &port, false))?;
    ensure(skb.add_to_checksum(error.transport + CHECKSUM, ports, 0))
}
