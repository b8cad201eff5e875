//! What the programs know of a packet once its headers are read.

use super::{Side, Skb};
use crate::family::Family;

/// Who talks to whom, as in the packet (network order).
#[derive(Clone, Copy)]
pub(crate) struct Tuple<F: Family> {
    pub(crate) source: F::Address,
    pub(crate) destination: F::Address,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    /// IANA number.
    pub(crate) protocol: u8,
}

impl<F: Family> Tuple<F> {
    /// The address of one side.
    #[inline]
    pub(crate) fn address(&self, side: Side) -> F::Address {
        match side {
            Side::Source => self.source,
            Side::Destination => self.destination,
        }
    }

    /// The tuple with one side replaced.
    #[inline]
    pub(crate) fn with(mut self, side: Side, address: F::Address, port: u16) -> Self {
        match side {
            Side::Source => (self.source, self.source_port) = (address, port),
            Side::Destination => (self.destination, self.destination_port) = (address, port),
        }
        self
    }

    /// The tuple of packets the other way.
    #[inline]
    pub(crate) fn turned(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}

/// Whether a packet is whole.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    Whole,
    /// The fragment with the transport header.
    First,
    /// One without.
    Later,
}

/// What was read of a packet's headers.
#[derive(Clone, Copy)]
pub(crate) struct Packet<F: Family> {
    /// Where the IP header is.
    pub(crate) network: u32,
    /// Where the transport header is.
    pub(crate) transport: u32,
    pub(crate) tuple: Tuple<F>,
    /// Of the IP header as it arrived; IPv4 only.
    pub(crate) header_checksum: u16,
    pub(crate) position: Position,
    /// Identification of the packet that this is a fragment of, network order.
    pub(crate) identification: u32,
    /// Flags of a TCP segment, or the type of an SCTP packet's first chunk.
    pub(crate) flags: u8,
}

/// The ports, and what of the transport header flow tracking looks at.
pub(crate) struct Transport {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) flags: u8,
}

/// Of TCP's data offset, which the flags follow.
const TCP_DATA_OFFSET: u32 = 12;
/// Of the first chunk's type.
const SCTP_CHUNK: u32 = 12;
const UDP_CHECKSUM: u32 = 6;

/// Reads the transport header at `offset`. Protocols other than TCP, UDP and SCTP have no ports: both are 0. `None` if
/// the packet ends before.
#[inline]
pub(crate) fn transport(skb: Skb, offset: u32, protocol: u8) -> Option<Transport> {
    use shunt_abi::address::{SCTP, TCP, UDP};
    let state_at = match protocol {
        TCP => TCP_DATA_OFFSET,
        SCTP => SCTP_CHUNK,
        UDP => UDP_CHECKSUM,
        _ => return Some(Transport { source_port: 0, destination_port: 0, flags: 0 }),
    };
    let [source_port, destination_port] = skb.header::<[u16; 2]>(offset)?;
    let [first, second] = skb.header::<[u8; 2]>(offset + state_at)?;
    let flags = if protocol == TCP { second } else { first };
    Some(Transport { source_port, destination_port, flags })
}
