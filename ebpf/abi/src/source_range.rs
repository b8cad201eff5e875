//! `loadBalancerSourceRanges`: tries of (service, source), longest prefix match. The value is a `u32`, of no meaning.
//!
//! A prefix has 32 bits for the service and then those of the source range. The layout is the kernel's
//! `bpf_lpm_trie_key`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{address::Words, assert_layout};

/// Bits of the service that begin each prefix.
pub const SERVICE_BITS: u32 = 32;

/// Key, IPv4.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RangeKey4 {
    /// [`SERVICE_BITS`] + bits of the range.
    pub prefix_length: u32,
    /// [`crate::frontend::FrontendValue::service`].
    pub service: u32,
    /// Network, network order.
    pub source: u32,
}

assert_layout!(RangeKey4, size 12, prefix_length @ 0, service @ 4, source @ 8);

/// Key, IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RangeKey6 {
    /// [`SERVICE_BITS`] + bits of the range.
    pub prefix_length: u32,
    /// [`crate::frontend::FrontendValue::service`].
    pub service: u32,
    /// Network, network order.
    pub source: Words,
}

assert_layout!(RangeKey6, size 24, prefix_length @ 0, service @ 4, source @ 8);
