//! Packets: reading headers and changing addresses. Nothing here assumes that an interface has an Ethernet header.

mod checksum;
mod crc32c;
mod ethernet;
mod headers;
pub(crate) mod quoted;
mod reset;
mod rewrite;
mod skb;
mod unreachable;
pub(crate) mod unreachable4;
pub(crate) mod unreachable6;

pub(crate) use checksum::{difference, replace};
pub(crate) use ethernet::network_offset;
pub(crate) use headers::{Packet, Position, Tuple, transport};
pub(crate) use reset::answer as reset;
pub(crate) use rewrite::{
    Fault, Side, is_beyond_checksum, rewrite_port_checksum, rewrite_ports, rewrite_sctp_checksum,
    rewrite_transport_checksum,
};
pub(crate) use skb::Skb;
