//! What the agent knows of an interface, by index.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{address::Words, assert_layout};

/// Value; the key is the interface's index (`u32`). Every interface with programs must be in the map before they are
/// attached, loopback included.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct InterfaceValue {
    /// Bits below.
    pub flags: u32,
    /// Hardware address of the interface, or of the bridge that it is a port of ([`BRIDGE_PORT`]): what frames for this
    /// host are addressed to. Zeroes where there is none.
    pub address: [u8; 6],
    /// Zero.
    pub pad: [u8; 2],
    /// The IPv4 address that this node's own packets get which leave by the interface (or, of a bridge's port, by the bridge),
    /// if no route says otherwise; network order; 0: the interface has none.
    pub source4: u32,
    /// The same, IPv6.
    pub source6: Words,
    /// Index of the interface that the host's stack knows its packets by: itself, or the bridge that it is a port of.
    pub upper: u32,
}

assert_layout!(InterfaceValue, size 36, flags @ 0, address @ 4, pad @ 10, source4 @ 12, source6 @ 16, upper @ 32);

/// What enters here comes from a local pod ([`crate::config::PODS_BY_INTERFACE`]).
pub const POD: u32 = 1 << 0;
/// Enslaved to a bridge.
pub const BRIDGE_PORT: u32 = 1 << 1;
/// Packets begin with the IP header (WireGuard, IPIP, tun).
pub const NO_LINK_HEADER: u32 = 1 << 2;
/// A tunnel: who is at its other end knows the way back to its own addresses alone.
pub const TUNNEL: u32 = 1 << 3;
/// Packets of accelerated flows may leave here. (Bridges, which have no programs, are in the map for this bit.)
pub const ACCELERATES: u32 = 1 << 4;
/// Flows from and to here may begin accelerated: nobody else's program waits for what enters here, behind ours, and no route of
/// IPv4 that leads here has an MTU of its own.
pub const BEGINS: u32 = 1 << 5;
/// The other end is in another network namespace, and nobody on the way there asks to see packets: they may be handed over to it.
pub const HANDS_OVER: u32 = 1 << 6;
