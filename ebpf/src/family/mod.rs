//! What differs between IPv4 and IPv6: header formats, key types and maps. All else is written once, over [`Family`].

mod bitmaps;
#[macro_use]
mod storage;
mod v4;
mod v6;

use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray};
use shunt_abi::{
    affinity::AffinityValue,
    config::Config,
    frontend::FrontendValue,
    known::{Bits, Role},
    roles::Place,
};

pub(crate) use bitmaps::{
    Roles, from_reached, from_reached_by_node, is_reached, known, reach, to_frontend, to_reached,
};
pub(crate) use v4::V4;
pub(crate) use v6::V6;

use crate::{
    flow::Work,
    packet::{Fault, Packet, Side, Skb, Tuple, quoted::QuotedHeader},
};

/// IPv4 or IPv6.
pub(crate) trait Family: Copy + 'static {
    /// An address in network order.
    type Address: Copy + PartialEq + 'static;
    type Header: Header<Self::Address>;
    type FlowKey: Copy + 'static;
    type FlowValue: FlowValue<Self::Address> + Copy + 'static;
    type AffinityKey: 'static;
    type FragmentKey: 'static;
    type FragmentValue: FragmentValue<Self::Address> + Copy + 'static;

    /// The first four bits of a header.
    const VERSION: u8;
    /// EtherType, network order.
    const ETHERTYPE: u16;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;

    /// The IP header at `network`. `None`: not a packet for us (malformed, or cut off within its headers).
    fn header(skb: Skb, network: u32) -> Option<Self::Header>;
    /// Reads the headers of a packet that has an IP header. `None` as above. (Header and all are read again: kept for
    /// that, most of an IPv6 header would be on the stack.)
    fn parse(skb: Skb, network: u32) -> Option<Packet<Self>>;
    /// Where the IP packet ends.
    fn end(skb: Skb, packet: &Packet<Self>) -> Option<u32>;
    /// What was read of a packet, after its address was replaced.
    fn readdressed(packet: &Packet<Self>, side: Side, address: Self::Address) -> Packet<Self>;
    /// Replaces one address, in the IP header and all checksums.
    fn rewrite_address(
        skb: Skb,
        packet: &Packet<Self>,
        side: Side,
        address: Self::Address,
    ) -> Result<(), Fault>;

    /// Exchanges the addresses.
    fn swap_addresses(skb: Skb, packet: &Packet<Self>) -> Result<(), Fault>;
    /// Turns the packet into the ICMP error "port unreachable" to its sender.
    fn answer_unreachable(skb: Skb, packet: &Packet<Self>) -> Result<(), Fault>;

    /// Lets routers cut the packet up, where they do that at all.
    fn allow_fragments(skb: Skb, packet: &Packet<Self>) -> Result<(), Fault>;
    /// Whether ICMP messages of a type quote a packet.
    fn is_icmp_error(kind: u8) -> bool;
    /// Reads the IP header at `network`, which an ICMP error quotes.
    fn quoted_header(skb: Skb, network: u32) -> Option<QuotedHeader<Self>>;
    /// Replaces one address of a quoted packet; what the sum over the quotation grows by.
    fn rewrite_quoted_address(
        skb: Skb,
        quoted: &Packet<Self>,
        side: Side,
        address: Self::Address,
    ) -> Result<u32, Fault>;

    fn bits(role: Role, address: Self::Address, port: u16, protocol: u8) -> Bits;
    fn place(address: Self::Address) -> Place;
    fn flow_hash(tuple: &Tuple<Self>, service: u32, seed: u32) -> u32;
    fn flow_key(tuple: &Tuple<Self>, direction: u8) -> Self::FlowKey;
    /// Key of the other half of a flow.
    fn other_half(key: &Self::FlowKey, value: &Self::FlowValue, hairpin: Self::Address) -> Self::FlowKey;
    fn flow_value(flow: &Flow<Self>) -> Self::FlowValue;
    fn frontend(address: Self::Address, port: u16, protocol: u8) -> Option<&'static FrontendValue>;
    /// The family's part of a mapped address.
    fn from_words(words: &[u32; 4]) -> Self::Address;
    fn affinity_key(client: Self::Address, service: u32) -> Self::AffinityKey;
    fn fragment_key(packet: &Packet<Self>, direction: u8) -> Self::FragmentKey;
    fn fragment_value(first: &First<Self>) -> Self::FragmentValue;
    /// Whether `source` is in one of the service's source ranges.
    fn in_ranges(service: u32, source: Self::Address) -> bool;
    fn is_pod(config: &Config, source: Self::Address) -> bool;
    fn is_service_address(config: &Config, address: Self::Address) -> bool;
    fn hairpin(config: &Config) -> Self::Address;
    fn is_loopback(address: Self::Address) -> bool;
    /// Writes addresses into a question to the routing table.
    fn fill_route_query(query: &mut aya_ebpf::bindings::bpf_fib_lookup, tuple: &Tuple<Self>);

    fn flows() -> &'static HashMap<Self::FlowKey, Self::FlowValue>;
    fn opening() -> &'static LruHashMap<Self::FlowKey, Self::FlowValue>;
    fn affinity() -> &'static LruHashMap<Self::AffinityKey, AffinityValue>;
    fn work() -> &'static PerCpuArray<Work<Self>>;
    fn fragments() -> &'static LruHashMap<Self::FragmentKey, Self::FragmentValue>;
}

/// What tells of most packets that they are none of ours.
pub(crate) trait Header<A> {
    fn source(&self) -> A;
    fn destination(&self) -> A;
    /// Whether it may be an ICMP message.
    fn may_be_icmp(&self) -> bool;
}

/// A half of a flow about to be stored.
#[derive(Clone, Copy)]
pub(crate) struct Flow<F: Family> {
    pub(crate) address: F::Address,
    pub(crate) port: u16,
    pub(crate) flags: u16,
    pub(crate) backend: u32,
    pub(crate) generation: u32,
    pub(crate) service: u32,
    pub(crate) last_seen: u32,
    pub(crate) interface: u32,
    pub(crate) client_port: u16,
}

/// What becomes of a first fragment, about to be stored.
#[derive(Clone, Copy)]
pub(crate) struct First<F: Family> {
    pub(crate) source: F::Address,
    pub(crate) destination: F::Address,
    pub(crate) flags: u32,
    pub(crate) service: u32,
    pub(crate) last_seen: u32,
}

/// A half of a flow in its map.
pub(crate) trait FlowValue<A> {
    fn address(&self) -> A;
    fn port(&self) -> u16;
    fn flags(&self) -> u16;
    fn backend(&self) -> u32;
    fn generation(&self) -> u32;
    fn service(&self) -> u32;
    fn last_seen(&self) -> u32;
    fn interface(&self) -> u32;
    fn client_port(&self) -> u16;
    /// Notes a packet: the tick it came in and what it says of the flow.
    fn touch(&mut self, tick: u32, flags: u16);
    /// Gives the backend another client port to see, network order.
    fn remap(&mut self, port: u16);
}

/// What became of a first fragment, in its map.
pub(crate) trait FragmentValue<A> {
    fn source(&self) -> A;
    fn destination(&self) -> A;
    fn flags(&self) -> u32;
    fn service(&self) -> u32;
    fn last_seen(&self) -> u32;
}

/// Implements what is alike in both families for their types.
macro_rules! values {
    ($address:ty, $flow:ty, $fragment:ty) => {
        impl FlowValue<$address> for $flow {
            #[inline]
            fn address(&self) -> $address {
                self.address
            }
            #[inline]
            fn port(&self) -> u16 {
                self.port
            }
            #[inline]
            fn flags(&self) -> u16 {
                self.flags
            }
            #[inline]
            fn backend(&self) -> u32 {
                self.backend
            }
            #[inline]
            fn generation(&self) -> u32 {
                self.generation
            }
            #[inline]
            fn service(&self) -> u32 {
                self.service
            }
            #[inline]
            fn last_seen(&self) -> u32 {
                self.last_seen
            }
            #[inline]
            fn interface(&self) -> u32 {
                self.interface
            }
            #[inline]
            fn client_port(&self) -> u16 {
                self.client_port
            }
            #[inline]
            fn touch(&mut self, tick: u32, flags: u16) {
                // Written only when it changes: both ends of a busy flow may be on different CPUs.
                if self.last_seen != tick {
                    self.last_seen = tick;
                }
                if self.flags & flags != flags {
                    self.flags |= flags;
                }
            }
            #[inline]
            fn remap(&mut self, port: u16) {
                self.flags |= shunt_abi::flow::REMAPPED;
                self.client_port = port;
            }
        }

        impl FragmentValue<$address> for $fragment {
            #[inline]
            fn source(&self) -> $address {
                self.source
            }
            #[inline]
            fn destination(&self) -> $address {
                self.destination
            }
            #[inline]
            fn flags(&self) -> u32 {
                self.flags
            }
            #[inline]
            fn service(&self) -> u32 {
                self.service
            }
            #[inline]
            fn last_seen(&self) -> u32 {
                self.last_seen
            }
        }
    };
}

values!(u32, shunt_abi::flow::FlowValue4, shunt_abi::fragment::FragmentValue4);
values!([u32; 4], shunt_abi::flow::FlowValue6, shunt_abi::fragment::FragmentValue6);

/// The last steps of a hash (MurmurHash3): every bit of the input in every bit of the result.
#[inline]
pub(crate) const fn mix(mut hash: u64) -> u32 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash >> 32) as u32
}
