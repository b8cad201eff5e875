//! What differs between IPv4 and IPv6: header formats, key types and maps. All else is written once, over [`Family`].

mod bitmaps;
#[macro_use]
mod storage;
mod v4;
mod v6;
mod values;

use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use shunt_abi::{
    affinity::AffinityValue,
    config::Config,
    frontend::FrontendValue,
    interface::InterfaceValue,
    known::{Bits, Role},
    roles::Place,
};

pub(crate) use bitmaps::{
    Roles, from_reached, from_reached_by_node, is_reached, is_whole_frontend, known, reach, to_frontend,
    to_reached,
};
pub(crate) use v4::V4;
pub(crate) use v6::V6;
pub(crate) use values::{FlowKey, FlowValue, FragmentValue};

use crate::{
    flow::Work,
    packet::{Fault, Packet, Side, Skb, Tuple, quoted::QuotedHeader, rewrite_ports},
};

/// IPv4 or IPv6.
pub(crate) trait Family: Copy + 'static {
    /// An address in network order.
    type Address: Copy + PartialEq + 'static;
    type Header: Header<Self::Address>;
    type FlowKey: FlowKey + 'static;
    type FlowValue: FlowValue<Self::Address> + Copy + 'static;
    type AffinityKey: 'static;
    type FragmentKey: 'static;
    type FragmentValue: FragmentValue<Self::Address> + Copy + 'static;

    /// The first four bits of a header.
    const VERSION: u8;
    /// Among both families.
    const INDEX: u32 = if Self::VERSION == 4 { 0 } else { 1 };
    /// EtherType, network order.
    const ETHERTYPE: u16;
    /// Bytes of a header with nothing between it and the next.
    const HEADER: u32;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;
    /// Type of the ICMP messages that ask for an echo.
    const ECHO_REQUEST: u8;

    /// The IP header at `network`. `None`: not a packet for us (malformed, or cut off within its headers).
    fn header(skb: Skb, network: u32) -> Option<Self::Header>;
    /// Reads the headers of a packet that has an IP header. `None` as above. (Header and all are read again: kept for
    /// that, most of an IPv6 header would be on the stack.)
    fn parse(skb: Skb, network: u32) -> Option<Packet<Self>>;
    /// Where the IP packet ends.
    fn end(skb: Skb, packet: &Packet<Self>) -> Option<u32>;
    /// Notes in what was read of a packet that its address was replaced.
    fn readdress(packet: &mut Packet<Self>, side: Side, address: Self::Address);
    /// Replaces one address, in the IP header and all checksums.
    fn rewrite_address(
        skb: Skb,
        packet: &Packet<Self>,
        side: Side,
        address: Self::Address,
    ) -> Result<(), Fault>;

    /// Replaces address and port of one side, in the headers and all checksums but SCTP's.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the hot path")]
    fn rewrite(
        skb: Skb,
        packet: &Packet<Self>,
        side: Side,
        address: Self::Address,
        port: u16,
    ) -> Result<(), Fault> {
        rewrite_ports(skb, packet, side, port)?;
        Self::rewrite_address(skb, packet, side, address)
    }
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
    /// Key of the first slot of a client's port.
    fn flow_key(client: Self::Address, client_port: u16, protocol: u8) -> Self::FlowKey;
    /// Key of the other element of a flow that has two.
    fn twin(key: &Self::FlowKey, value: &Self::FlowValue) -> Option<Self::FlowKey>;
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
    /// The address that this node's own packets get which leave by an interface; `None` if it has none.
    fn source(interface: &InterfaceValue) -> Option<Self::Address>;
    /// Routers that the packet may pass, and one.
    fn hops(skb: Skb, network: u32) -> Option<u8>;
    /// Does as a router to what counts them, which is not 0.
    fn spend_hop(skb: Skb, network: u32) -> Result<(), Fault>;
    /// Writes what else of the header routes may depend on into a question to the routing table.
    fn fill_route_hints(query: &mut aya_ebpf::bindings::bpf_fib_lookup, skb: Skb, network: u32);
    /// Writes addresses into a question to the routing table.
    fn fill_route_query(query: &mut aya_ebpf::bindings::bpf_fib_lookup, tuple: &Tuple<Self>);

    fn flows() -> &'static HashMap<Self::FlowKey, Self::FlowValue>;
    fn half_open() -> &'static Array<Self::FlowKey>;
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

/// A flow about to be stored.
#[derive(Clone, Copy)]
pub(crate) struct Flow<F: Family> {
    pub(crate) frontend: F::Address,
    pub(crate) backend: F::Address,
    pub(crate) frontend_port: u16,
    pub(crate) backend_port: u16,
    pub(crate) flags: u16,
    pub(crate) id: u32,
    pub(crate) generation: u32,
    pub(crate) service: u32,
    pub(crate) last_seen: u32,
    pub(crate) interface: u32,
}

/// What becomes of a first fragment, about to be stored.
#[derive(Clone, Copy)]
pub(crate) struct First<F: Family> {
    pub(crate) source: F::Address,
    pub(crate) destination: F::Address,
    pub(crate) flags: u32,
    pub(crate) service: u32,
    pub(crate) last_seen: u32,
    pub(crate) interface: u32,
}

/// 0, of which the compiler does not know. (As a constant in fields side by side, it would be a call of `memset`, which goes
/// byte by byte.)
#[inline(always)]
#[expect(clippy::inline_always, reason = "one instruction")]
#[expect(clippy::cast_possible_truncation, reason = "zero")]
pub(crate) fn zero() -> u32 {
    let zero: u64;
    // SAFETY: the instruction writes one register. (It has to be one: the kernel refuses information on lines without.)
    unsafe {
        core::arch::asm!("{zero} = 0", zero = lateout(reg) zero, options(pure, nomem, nostack));
    };
    zero as u32
}

/// The last steps of a hash (MurmurHash3): every bit of the input in every bit of the result.
#[inline]
pub(crate) const fn mix(mut hash: u64) -> u32 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash >> 32) as u32
}
