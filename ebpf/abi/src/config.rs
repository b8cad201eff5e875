//! What concerns all Services: element 0 of an array map, read by every program on every packet.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{address::Words, assert_layout};

/// Ranges of each kind and family that fit.
pub const RANGES: usize = 8;

/// An IPv4 range: an address belongs to it if `address & mask == network`. All zeroes with `mask` all ones (as in
/// [`Range4::NONE`]) holds no address in use.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Range4 {
    /// First address, network order.
    pub network: u32,
    /// Prefix bits set, network order.
    pub mask: u32,
}

impl Range4 {
    /// Holds nothing.
    pub const NONE: Self = Self { network: 0, mask: u32::MAX };
}

/// An IPv6 range, likewise.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Range6 {
    /// First address, network order.
    pub network: Words,
    /// Prefix bits set, network order.
    pub mask: Words,
}

impl Range6 {
    /// Holds nothing.
    pub const NONE: Self = Self { network: [0; 4], mask: [u32::MAX; 4] };
}

/// Settings and facts of the node.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Config {
    /// Bits below.
    pub flags: u32,
    /// Set (or'ed) in the mark of packets that the masquerade rule is to take.
    pub masquerade_mark: u32,
    /// Cookie of the host's network namespace (`SO_NETNS_COOKIE`).
    pub host_netns_cookie: u64,
    /// Seed of the choice of backends: the same on every start, or flows without an entry change their backend.
    pub hash_seed: u32,
    /// Source of packets that a backend sends to itself, network order; an address that nothing else uses.
    pub hairpin4: u32,
    /// The same, IPv6.
    pub hairpin6: Words,
    /// Levels of the cgroup hierarchy on which there are entries in the map of opted-out cgroups: bit 1 for the children
    /// of the root, and so on; 0, and nothing is looked up, if there are none.
    pub opted_out_levels: u32,
    /// log2 of the places that each CPU has in the rings of half-open flows: all CPUs that there can be together have no
    /// more than there are.
    pub half_open_shift: u32,
    /// Not 0: more than the first of the ranges that follow is in use. (Every packet is compared with that one. What it
    /// takes lies side by side.)
    pub more_services4: u32,
    /// Addresses in which one that no Service has is dropped, IPv4; unused ones are [`Range4::NONE`].
    pub services4: [Range4; RANGES],
    /// As `more_services4`, of IPv6.
    pub more_services6: u32,
    /// Addresses in which one that no Service has is dropped, IPv6; unused ones are [`Range6::NONE`].
    pub services6: [Range6; RANGES],
    /// Sources that are local pods ([`PODS_BY_RANGE`]), IPv4; unused ones are [`Range4::NONE`].
    pub pods4: [Range4; RANGES],
    /// Sources that are local pods, IPv6; unused ones are [`Range6::NONE`].
    pub pods6: [Range6; RANGES],
    /// Established flows of each family at most; more stay half-open.
    pub established: u32,
    /// Zero.
    pub pad: u32,
}

assert_layout!(Config, size 704,
    flags @ 0, masquerade_mark @ 4, host_netns_cookie @ 8, hash_seed @ 16, hairpin4 @ 20, hairpin6 @ 24,
    opted_out_levels @ 40, half_open_shift @ 44, more_services4 @ 48, services4 @ 52, more_services6 @ 116, services6 @ 120,
    pods4 @ 376, pods6 @ 440, established @ 696, pad @ 700,
);

impl Config {
    /// By what packets are known that this node translated; not 0. Packets keep it on their way to other network namespaces of
    /// the same machine, which may be nodes as well: each has a number of its own, but for one case in 32,768.
    #[inline]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half of both halves, mixed")]
    pub const fn node_note(&self) -> u16 {
        ((self.hash_seed >> 16) ^ self.hash_seed) as u16 | 1
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flags: 0,
            masquerade_mark: 0,
            host_netns_cookie: 0,
            hash_seed: 0,
            hairpin4: 0,
            hairpin6: [0; 4],
            opted_out_levels: 0,
            half_open_shift: 0,
            more_services4: 0,
            services4: [Range4::NONE; RANGES],
            more_services6: 0,
            services6: [Range6::NONE; RANGES],
            pods4: [Range4::NONE; RANGES],
            pods6: [Range6::NONE; RANGES],
            established: 0,
            pad: 0,
        }
    }
}

/// Local pods are those whose source is in [`Config::pods4`] or [`Config::pods6`].
pub const PODS_BY_RANGE: u32 = 1 << 0;
/// Local pods are those behind interfaces with [`crate::interface::POD`].
pub const PODS_BY_INTERFACE: u32 = 1 << 1;
/// A TCP segment in the middle of a connection that no entry knows gets one (its backend chosen by hash) instead of
/// being left alone. Off while connections of another proxy may still live in conntrack.
pub const ADOPT_MIDSTREAM: u32 = 1 << 2;
/// Socket programs act in the host's network namespace only.
pub const SOCKETS_HOST_ONLY: u32 = 1 << 3;
/// Packets, bytes and new flows of each Service port are counted.
pub const COUNT_SERVICES: u32 = 1 << 4;
/// New flows between interfaces of this node may leave the host's stack out ([`crate::flow::ACCELERATED`]).
pub const ACCELERATE: u32 = 1 << 5;
/// Flows may have [`crate::flow::ACCELERATED`]. For agents.
pub const HAS_ACCELERATED: u32 = 1 << 6;
/// The masquerade rule of IPv4 is there. Without the bit, new flows that need it are dropped.
pub const MASQUERADES4: u32 = 1 << 30;
/// The same, IPv6.
pub const MASQUERADES6: u32 = 1 << 31;

/// Levels of the cgroup hierarchy that [`Config::opted_out_levels`] can name: 1 to one less than this.
pub const CGROUP_LEVELS: u32 = 16;
