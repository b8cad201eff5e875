//! What the kernel-feature probe records: one value of each type, at index 0 of an array map.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// Name of the program that records [`PacketFacts`] of every packet it is given.
pub const PACKET_PROGRAM: &str = "shunt_probe_packet";

/// Name of the program that refuses connections to the target of [`ConnectProbe`].
pub const CONNECT_PROGRAM: &str = "shunt_probe_connect";

/// Name of the array map (one element, mmap-able) that holds [`PacketFacts`].
pub const PACKET_MAP: &str = "PROBE_PACKET";

/// Name of the array map (one element) that holds [`ConnectProbe`].
pub const CONNECT_MAP: &str = "PROBE_CONNECT";

/// [`PacketFacts::network_offset`] of a packet that starts neither with an Ethernet nor with an IP header.
pub const NO_NETWORK_HEADER: u32 = u32::MAX;

/// What the per-packet path has to know of a packet: of the last one that the probe's classifier was given.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PacketFacts {
    /// Packets seen since the program was loaded.
    pub packets: u64,
    /// Bytes of the packet, link-layer header included where there is one.
    pub length: u32,
    /// Bytes that direct packet access can reach (`data_end - data`).
    pub linear: u32,
    /// EtherType by which the kernel handles the packet, host byte order.
    pub protocol: u32,
    /// Interface whose hook ran.
    pub ifindex: u32,
    /// Interface by which the packet came to this host; 0 for one that was sent here.
    pub ingress_ifindex: u32,
    /// Bytes before the IP header: 14 behind an Ethernet header, 0 without one, or [`NO_NETWORK_HEADER`].
    pub network_offset: u32,
    /// Payload bytes of each segment of a GSO packet; 0 for others.
    pub gso_size: u32,
    /// Segments of a GSO packet; 0 for others.
    pub gso_segs: u32,
    /// Tag that the kernel took out of the frame; 0 without one.
    pub vlan_tci: u32,
    /// `bpf_csum_level(QUERY)`: number of checksums known to be right, or a negative errno.
    pub csum_level: i32,
    /// `bpf_fib_lookup` for the packet's own addresses: a `BPF_FIB_LKUP_RET_*`, a negative errno, or
    /// [`FIB_NOT_TRIED`] where there is no IP header.
    pub fib_result: i32,
    /// Interface that `bpf_fib_lookup` chose (the one asked about where it chose none).
    pub fib_ifindex: u32,
}

/// [`PacketFacts::fib_result`] of a packet without an IP header.
pub const FIB_NOT_TRIED: i32 = i32::MIN;

assert_layout!(PacketFacts, size 56,
    packets @ 0, length @ 8, linear @ 12, protocol @ 16, ifindex @ 20, ingress_ifindex @ 24, network_offset @ 28,
    gso_size @ 32, gso_segs @ 36, vlan_tci @ 40, csum_level @ 44, fib_result @ 48, fib_ifindex @ 52,
);

/// Which IPv4 `connect()` the probe refuses, and what it saw when it did.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ConnectProbe {
    /// Connections refused (written by the program).
    pub refused: u64,
    /// Network namespace cookie of the socket last refused (written by the program).
    pub netns_cookie: u64,
    /// Destination address to refuse, as in the packet; 0 refuses nothing.
    pub address: [u8; 4],
    /// Destination port to refuse, as in the packet.
    pub port: [u8; 2],
    /// Zero.
    pub pad: [u8; 2],
    /// The errno that a refused `connect()` fails with (positive).
    pub errno: u32,
    /// Zero.
    pub pad_end: u32,
}

assert_layout!(ConnectProbe, size 32,
    refused @ 0, netns_cookie @ 8, address @ 16, port @ 20, pad @ 22, errno @ 24, pad_end @ 28,
);
