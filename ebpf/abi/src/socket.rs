//! Sockets that were connected to a backend in place of a frontend: what they believe their peer is.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{address::Words, assert_layout};

/// A socket and the backend it talks to. Evicts the least recently used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OriginKey {
    /// Cookie of the socket (`SO_COOKIE`, and in sock_diag's answers).
    pub cookie: u64,
    /// The backend's address, network order, IPv4 mapped.
    pub address: Words,
    /// Its port, network order.
    pub port: u16,
    /// IANA number.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 5],
}

assert_layout!(OriginKey, size 32, cookie @ 0, address @ 8, port @ 24, protocol @ 26, pad @ 27);

/// The frontend that the process named.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OriginValue {
    /// Its address, network order, IPv4 mapped.
    pub address: Words,
    /// Its port, network order.
    pub port: u16,
    /// Zero.
    pub pad: u16,
    /// Id of the backend.
    pub backend: u32,
    /// Its generation.
    pub generation: u32,
}

assert_layout!(OriginValue, size 28, address @ 0, port @ 16, pad @ 18, backend @ 20, generation @ 24);
