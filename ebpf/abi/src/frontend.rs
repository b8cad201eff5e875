//! What clients address: hash maps from (address, port, protocol) to where it goes. Replacing a value is the one atomic
//! write by which a change takes effect.
//!
//! A key whose port and protocol are 0 stands for the address itself; its value has [`WHOLE_ADDRESS`] and says what
//! happens to traffic for ports that no other key names.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{address::Words, assert_layout};

/// Key of the IPv4 frontends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FrontendKey4 {
    /// Address, network order.
    pub address: u32,
    /// Port, network order; 0 for the whole address.
    pub port: u16,
    /// IANA number; 0 for the whole address.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

assert_layout!(FrontendKey4, size 8, address @ 0, port @ 4, protocol @ 6, pad @ 7);

/// Key of the IPv6 frontends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FrontendKey6 {
    /// Address, network order.
    pub address: Words,
    /// Port, network order; 0 for the whole address.
    pub port: u16,
    /// IANA number; 0 for the whole address.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

assert_layout!(FrontendKey6, size 20, address @ 0, port @ 16, protocol @ 18, pad @ 19);

/// Where a frontend goes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FrontendValue {
    /// Bits below.
    pub flags: u32,
    /// The Service port: key of affinity, source ranges and counters. Below the capacity of the counter map.
    pub service: u32,
    /// First element in the pool array, for everybody or (with [`SPLIT`]) for local pods and this node.
    pub inside_offset: u32,
    /// Elements; 0 means nobody is eligible: [`INSIDE_REJECT`] decides.
    pub inside_length: u32,
    /// The same for clients from outside. Used only with [`SPLIT`].
    pub outside_offset: u32,
    /// Elements; 0: [`OUTSIDE_REJECT`] decides.
    pub outside_length: u32,
    /// Seconds of client affinity; 0 for none.
    pub affinity_seconds: u32,
    /// Zero.
    pub pad: u32,
}

assert_layout!(FrontendValue, size 32,
    flags @ 0, service @ 4, inside_offset @ 8, inside_length @ 12, outside_offset @ 16, outside_length @ 20,
    affinity_seconds @ 24, pad @ 28,
);

/// The frontend is a cluster IP (policy `Internal` of the plan): eligible backends carry
/// [`crate::backend::ELIGIBLE_INTERNAL`]; otherwise those inside carry `ELIGIBLE_INSIDE`, those outside
/// `ELIGIBLE_OUTSIDE`.
pub const INTERNAL: u32 = 1 << 0;
/// Clients that are neither a local pod nor this node get the outside pool (`externalTrafficPolicy: Local`).
pub const SPLIT: u32 = 1 << 1;
/// An empty inside pool rejects (ICMP unreachable, TCP reset); without the bit it drops.
pub const INSIDE_REJECT: u32 = 1 << 2;
/// An empty outside pool rejects; without the bit it drops.
pub const OUTSIDE_REJECT: u32 = 1 << 3;
/// Only sources in the source range map pass; all others are dropped.
pub const RANGES: u32 = 1 << 4;
/// Every new flow is masqueraded, whoever the client is (masqueradeAll).
pub const MASQUERADE_ALL: u32 = 1 << 5;
/// Clients that are neither a pod nor this node are masqueraded on their way to a remote backend; without [`INTERNAL`]
/// pods, too, because those that come from another node look like those of this one.
pub const MASQUERADE_REMOTE: u32 = 1 << 6;
/// The key stands for the whole address: traffic for unknown ports is rejected with [`INSIDE_REJECT`], left alone
/// without (node addresses).
pub const WHOLE_ADDRESS: u32 = 1 << 7;
/// For sockets of this node only (node ports on loopback addresses): packets are left alone.
pub const SOCKET_ONLY: u32 = 1 << 8;
