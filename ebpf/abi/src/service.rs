//! Traffic of one Service port, in a per-CPU array indexed by service.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// Counted only with [`crate::config::COUNT_SERVICES`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ServiceCounters {
    /// Packets translated, both directions.
    pub packets: u64,
    /// Their bytes, link-layer header included.
    pub bytes: u64,
    /// Flows begun, sockets connected included.
    pub flows: u64,
}

assert_layout!(ServiceCounters, size 24, packets @ 0, bytes @ 8, flows @ 16);
