//! Fragments: what became of the first one, which alone has ports, for those that follow.
//!
//! One that comes before its first, to a cluster IP or forwarded from a backend, is treated like the last fragmented
//! packet between the same two hosts ([`LATEST`]), if that was a moment ago.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{address::Words, assert_layout};

/// Direction of packets from the client.
pub const FORWARD: u8 = 1;
/// Direction of packets from the backend.
pub const REVERSE: u8 = 2;

/// A fragmented IPv4 packet, as it arrived.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FragmentKey4 {
    /// Source, network order.
    pub source: u32,
    /// Destination, network order.
    pub destination: u32,
    /// Identification, network order.
    pub identification: u16,
    /// IANA number.
    pub protocol: u8,
    /// [`FORWARD`] or [`REVERSE`]; or'ed with [`LATEST`] where the identification is 0 and the
    /// value that of the last packet between these hosts.
    pub direction: u8,
}

assert_layout!(FragmentKey4, size 12,
    source @ 0, destination @ 4, identification @ 8, protocol @ 10, direction @ 11,
);

/// A fragmented IPv6 packet, as it arrived.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FragmentKey6 {
    /// Source, network order.
    pub source: Words,
    /// Destination, network order.
    pub destination: Words,
    /// Identification, network order.
    pub identification: u32,
    /// IANA number.
    pub protocol: u8,
    /// As of [`FragmentKey4`].
    pub direction: u8,
    /// Zero.
    pub pad: u16,
}

assert_layout!(FragmentKey6, size 40,
    source @ 0, destination @ 16, identification @ 32, protocol @ 36, direction @ 37, pad @ 38,
);

/// The addresses that all fragments get, IPv4.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FragmentValue4 {
    /// Source, network order.
    pub source: u32,
    /// Destination, network order.
    pub destination: u32,
    /// Of [`crate::flow`]: `MASQUERADED`, `HOST_CLIENT`, `HAIRPIN`, `HOST_BACKEND`, `REMAPPED`; or [`DROPPED`], [`BY_LOOPBACK`].
    pub flags: u32,
    /// The Service port, for its counters.
    pub service: u32,
    /// Tick of the first fragment ([`crate::clock`]): it holds for [`FRESH_TICKS`].
    pub last_seen: u32,
    /// `HOST_CLIENT`: as of [`crate::flow::FlowValue4`].
    pub interface: u32,
}

assert_layout!(FragmentValue4, size 24,
    source @ 0, destination @ 4, flags @ 8, service @ 12, last_seen @ 16, interface @ 20,
);

/// The addresses that all fragments get, IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FragmentValue6 {
    /// Source, network order.
    pub source: Words,
    /// Destination, network order.
    pub destination: Words,
    /// As of [`FragmentValue4`].
    pub flags: u32,
    /// The Service port, for its counters.
    pub service: u32,
    /// As of [`FragmentValue4`].
    pub last_seen: u32,
    /// As of [`FragmentValue4`].
    pub interface: u32,
}

assert_layout!(FragmentValue6, size 48,
    source @ 0, destination @ 16, flags @ 32, service @ 36, last_seen @ 40, interface @ 44,
);

/// The first fragment was dropped or rejected.
pub const DROPPED: u32 = 1 << 31;

/// Beside the flags of flows: the first fragment is too long for the way to the backend, so all of them go by the loopback
/// interface.
pub const BY_LOOPBACK: u16 = 1 << 9;

/// Bit of [`FragmentKey4::direction`] in the key of the last fragmented packet between two hosts.
pub const LATEST: u8 = 1 << 7;

/// Ticks that a value is good for: 6 seconds to a minute, by the kernel's `CONFIG_HZ`. (Identifications come again, and
/// addresses are given to others.)
pub const FRESH_TICKS: u32 = 24;
