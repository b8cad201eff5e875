//! Traffic of one Service port: [`crate::name::SERVICES`], a per-CPU array of [`ServiceCounters`].
//!
//! The index is [`crate::frontend::FrontendValue::service`]; all frontends of a Service port (its cluster IP, node port,
//! external addresses) have the same, or one each, as the agent gives them out. An element has one value for each
//! possible CPU: the sum over them is the total. Each grows only (modulo 2^64) while the agent does not write it.
//!
//! The agent writes zeroes to an element, on all CPUs, before it gives the index to another Service port. Flows name the
//! index that they began with to their end: the connection that outlives its Service port, and the time for which an
//! index rests, is counted with whoever has the index next.
//!
//! Counted while [`crate::config::COUNT_SERVICES`] is set, which takes effect with the next packet.
//!
//! | | packets, bytes | flows |
//! |---|---|---|
//! | a packet from the client to the backend, or from the backend to the client, when it is translated | yes, once each way | |
//! | the first packet of a flow that is begun, or taken over in its middle | yes | 1 |
//! | a request for a connection that is repeated | yes | |
//! | a fragment | yes | |
//! | a socket connected to a backend (socket load balancing): its packets need no translation and are not seen | | 1 |
//! | a datagram of an unconnected socket to a backend that it has not sent to before | | 1 |
//! | what is rejected, dropped or left alone; ICMP errors | | |

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// Counted only with [`crate::config::COUNT_SERVICES`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ServiceCounters {
    /// Packets translated, both directions; those that the kernel handles as one (GSO) count as what they are on the wire.
    pub packets: u64,
    /// Their bytes as the kernel handles them: with the link-layer header, and one set of headers for those that it
    /// handles as one.
    pub bytes: u64,
    /// Flows begun, sockets connected included.
    pub flows: u64,
}

assert_layout!(ServiceCounters, size 24, packets @ 0, bytes @ 8, flows @ 16);
