//! Backends: an array indexed by backend id, and pools: an array of backend ids in which a pool is a range.
//!
//! An id belongs to one Service port and one endpoint. Id 0 is never used.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{address::Words, assert_layout};

/// A backend. The agent writes a backend before the first pool that names it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BackendValue {
    /// Address, network order, IPv4 mapped.
    pub address: Words,
    /// Port, network order.
    pub port: u16,
    /// Bits below.
    pub flags: u16,
    /// Changes whenever the id is given to another endpoint or its endpoint no longer serves; 0: the id is free. UDP flows of another generation
    /// move to another backend at once.
    pub generation: u32,
}

assert_layout!(BackendValue, size 24, address @ 0, port @ 16, flags @ 18, generation @ 20);

/// The endpoint runs on this node.
pub const LOCAL: u16 = 1 << 0;
/// The address belongs to this node itself (an endpoint in the host's network).
pub const HOST: u16 = 1 << 1;
/// The backend is in the pool of the cluster IP.
pub const ELIGIBLE_INTERNAL: u16 = 1 << 2;
/// The backend is in the inside pool of external addresses.
pub const ELIGIBLE_INSIDE: u16 = 1 << 3;
/// The backend is in the outside pool of external addresses.
pub const ELIGIBLE_OUTSIDE: u16 = 1 << 4;
