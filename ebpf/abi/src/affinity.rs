//! Client affinity: which backend a client of a Service port had last. An entry counts only while its backend has the
//! same generation and is eligible, and for the frontend's timeout after its last use. The maps evict the least
//! recently used.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{address::Words, assert_layout};

/// An IPv4 client of a Service port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct AffinityKey4 {
    /// Client, network order.
    pub client: u32,
    /// [`crate::frontend::FrontendValue::service`].
    pub service: u32,
}

assert_layout!(AffinityKey4, size 8, client @ 0, service @ 4);

/// An IPv6 client of a Service port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct AffinityKey6 {
    /// Client, network order.
    pub client: Words,
    /// [`crate::frontend::FrontendValue::service`].
    pub service: u32,
}

assert_layout!(AffinityKey6, size 20, client @ 0, service @ 16);

/// The backend a client had.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct AffinityValue {
    /// Last new flow, nanoseconds of `CLOCK_MONOTONIC`.
    pub last_used: u64,
    /// Id of the backend.
    pub backend: u32,
    /// Its generation.
    pub generation: u32,
}

assert_layout!(AffinityValue, size 16, last_used @ 0, backend @ 8, generation @ 12);
