//! IPv6.

use aya_ebpf::{bindings::bpf_fib_lookup, maps::lpm_trie::Key};
use shunt_abi::{
    affinity::AffinityKey6,
    config::{Config, Range6},
    flow::{FlowKey6, FlowValue6},
    fragment::{FragmentKey6, FragmentValue6},
    frontend::{FrontendKey6, FrontendValue},
    interface::InterfaceValue,
    known::{self, Bits, Role},
    roles::{self, Place},
    source_range::SERVICE_BITS,
};

use super::{Family, mix};
use crate::{
    maps::{AFFINITY6, FLOWS6, FRAGMENTS6, FRONTENDS6, HALF_OPEN6, RANGES6, WORK6},
    packet::{
        Fault, Packet, Position, Side, Skb, Tuple, difference, quoted::QuotedHeader,
        rewrite_transport_checksum, transport, unreachable6,
    },
};

/// IPv6.
#[derive(Clone, Copy)]
pub(crate) struct V6;

/// The fixed header.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Header {
    version_class_flow: u32,
    payload: u16,
    next: u8,
    hops: u8,
    source: [u32; 4],
    destination: [u32; 4],
}

const HEADER: u32 = 40;
/// Of the next header's kind; the hops that are left follow.
const NEXT_AND_HOPS: u32 = 6;
const SOURCE: u32 = 8;
const DESTINATION: u32 = 24;
/// The fixed header and the fixed part of TCP's.
const REACH: u32 = 60;
/// Bytes brought within reach when extension headers follow.
const REACH_EXTENSIONS: u32 = 256;
const AF_INET6: u8 = 10;
/// Of a header's first word: class and flow label.
const FLOW_INFORMATION: u32 = 0x0fff_ffff_u32.to_be();

/// Extension headers that are passed over, at most.
const EXTENSIONS: u32 = 8;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Where the chain of headers ends.
#[derive(Clone, Copy)]
struct Chain {
    protocol: u8,
    transport: u32,
    position: Position,
    identification: u32,
}

/// What begins each extension header; the fragment header is all of it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Extension {
    next: u8,
    length: u8,
    offset_more: u16,
    identification: u32,
}

const fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

/// Walks the extension headers. `None` for a chain that is too long, or cut off.
#[inline(never)]
fn walk(skb: Skb, network: u32, first: u8, chain: &mut Chain) -> bool {
    skb.reach(network + REACH_EXTENSIONS);
    let (mut next, mut offset) = (first, network + HEADER);
    for _ in 0..EXTENSIONS {
        if !is_extension(next) || chain.position == Position::Later {
            break;
        }
        let Some(extension) = skb.load::<Extension>(offset) else { return false };
        offset += extension_length(next, extension.length);
        if next == FRAGMENT {
            note_fragment(chain, extension);
        }
        next = extension.next;
    }
    chain.protocol = next;
    chain.transport = offset;
    !is_extension(next) || chain.position == Position::Later
}

#[inline]
const fn extension_length(kind: u8, length: u8) -> u32 {
    match kind {
        FRAGMENT => 8,
        AUTHENTICATION => (length as u32 + 2) * 4,
        _ => (length as u32 + 1) * 8,
    }
}

#[inline]
fn note_fragment(chain: &mut Chain, extension: Extension) {
    let offset_more = u16::from_be(extension.offset_more);
    chain.identification = extension.identification;
    chain.position = match (offset_more & 0xfff8, offset_more & 1) {
        (0, 0) => Position::Whole,
        (0, _) => Position::First,
        _ => Position::Later,
    };
}

#[inline]
fn in_range(range: &Range6, address: &[u32; 4]) -> bool {
    let difference = ((address[0] & range.mask[0]) ^ range.network[0])
        | ((address[1] & range.mask[1]) ^ range.network[1])
        | ((address[2] & range.mask[2]) ^ range.network[2])
        | ((address[3] & range.mask[3]) ^ range.network[3]);
    difference == 0
}

#[inline(never)]
fn in_any(ranges: &[Range6], address: &[u32; 4]) -> bool {
    for range in ranges {
        if in_range(range, address) {
            return true;
        }
        // The first word tells unused ones: nobody's range begins with 32 zeroes and ends with one address.
        if range.mask[3] == u32::MAX && range.network[0] == 0 {
            return false;
        }
    }
    false
}

#[inline]
fn wide(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

impl super::Header<[u32; 4]> for Header {
    #[inline]
    fn source(&self) -> [u32; 4] {
        self.source
    }

    #[inline]
    fn destination(&self) -> [u32; 4] {
        self.destination
    }

    #[inline]
    fn may_be_icmp(&self) -> bool {
        self.next == V6::ICMP || is_extension(self.next)
    }
}

impl Family for V6 {
    type Address = [u32; 4];
    type Header = Header;
    storage!(
        FlowKey6,
        FlowValue6,
        FLOWS6,
        HALF_OPEN6,
        AffinityKey6,
        AFFINITY6,
        FragmentKey6,
        FragmentValue6,
        FRAGMENTS6,
        WORK6
    );

    const VERSION: u8 = 6;
    const ETHERTYPE: u16 = 0x86dd_u16.to_be();
    const HEADER: u32 = HEADER;
    const ICMP: u8 = 58;
    const ECHO_REQUEST: u8 = 128;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the hot path keeps what it reads in registers")]
    fn header(skb: Skb, network: u32) -> Option<Header> {
        skb.reach(network + REACH);
        skb.header(network)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the hot path keeps what it reads in registers")]
    fn parse(skb: Skb, network: u32) -> Option<Packet<Self>> {
        let header: Header = skb.header(network)?;
        let mut chain = Chain {
            protocol: header.next,
            transport: network + HEADER,
            position: Position::Whole,
            identification: 0,
        };
        if is_extension(header.next) && !walk(skb, network, header.next, &mut chain) {
            return None;
        }
        let protocol = if chain.position == Position::Later { 0 } else { chain.protocol };
        let ports = transport(skb, chain.transport, protocol)?;
        Some(Packet {
            network,
            transport: chain.transport,
            tuple: Tuple {
                source: header.source,
                destination: header.destination,
                source_port: ports.source_port,
                destination_port: ports.destination_port,
                protocol: chain.protocol,
            },
            header_checksum: 0,
            position: chain.position,
            identification: chain.identification,
            flags: ports.flags,
        })
    }

    #[inline]
    fn end(skb: Skb, packet: &Packet<Self>) -> Option<u32> {
        let payload: u16 = skb.load(packet.network + 4)?;
        Some(packet.network + HEADER + u32::from(u16::from_be(payload)))
    }

    #[inline]
    fn readdress(packet: &mut Packet<Self>, side: Side, address: [u32; 4]) {
        match side {
            Side::Source => packet.tuple.source = address,
            Side::Destination => packet.tuple.destination = address,
        }
    }

    #[inline]
    fn rewrite_address(skb: Skb, packet: &Packet<Self>, side: Side, address: [u32; 4]) -> Result<(), Fault> {
        let (old, offset) = match side {
            Side::Source => (&packet.tuple.source, SOURCE),
            Side::Destination => (&packet.tuple.destination, DESTINATION),
        };
        rewrite_transport_checksum(skb, packet, difference(old, &address))?;
        // No header checksum makes up for the address: the sum over the packet has to follow.
        if skb.store(packet.network + offset, &address, true) { Ok(()) } else { Err(Fault) }
    }

    #[inline]
    fn swap_addresses(skb: Skb, packet: &Packet<Self>) -> Result<(), Fault> {
        let addresses = [packet.tuple.destination, packet.tuple.source];
        if skb.store(packet.network + SOURCE, &addresses, false) { Ok(()) } else { Err(Fault) }
    }

    #[inline]
    fn answer_unreachable(skb: Skb, packet: &Packet<Self>) -> Result<(), Fault> {
        unreachable6::answer(skb, packet)
    }

    #[inline]
    fn allow_fragments(_skb: Skb, _packet: &Packet<Self>) -> Result<(), Fault> {
        Ok(())
    }

    #[inline]
    fn is_icmp_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }

    #[inline]
    fn quoted_header(skb: Skb, network: u32) -> Option<QuotedHeader<Self>> {
        let header: Header = skb.load(network)?;
        (u32::from_be(header.version_class_flow) >> 28 == u32::from(Self::VERSION)).then_some(QuotedHeader {
            source: header.source,
            destination: header.destination,
            protocol: header.next,
            length: HEADER,
            checksum: 0,
        })
    }

    #[inline]
    fn rewrite_quoted_address(
        skb: Skb,
        quoted: &Packet<Self>,
        side: Side,
        address: [u32; 4],
    ) -> Result<u32, Fault> {
        let (old, offset) = match side {
            Side::Source => (&quoted.tuple.source, SOURCE),
            Side::Destination => (&quoted.tuple.destination, DESTINATION),
        };
        let difference = difference(old, &address);
        if skb.store(quoted.network + offset, &address, false) { Ok(difference) } else { Err(Fault) }
    }

    #[inline]
    fn bits(role: Role, address: [u32; 4], port: u16, protocol: u8) -> Bits {
        known::bits6(role, address, port, protocol)
    }

    #[inline]
    fn place(address: [u32; 4]) -> Place {
        roles::place6(address)
    }

    #[inline]
    fn flow_hash(tuple: &Tuple<Self>, service: u32, seed: u32) -> u32 {
        let source = &tuple.source;
        let client = wide(source[0], source[1])
            .wrapping_mul(0x9fb2_1c65_1e98_df25)
            .wrapping_add(wide(source[2], source[3]))
            .wrapping_mul(0xd6e8_feb8_6659_fd93)
            .wrapping_add(u64::from(tuple.source_port) << 16);
        mix(client ^ (u64::from(service) << 32 | u64::from(seed)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[inline]
    fn frontend(address: [u32; 4], port: u16, protocol: u8) -> Option<&'static FrontendValue> {
        let key = FrontendKey6 { address, port, protocol, pad: 0 };
        // SAFETY: the map frees its elements after a grace period, which the program's run is within.
        unsafe { FRONTENDS6.get(key) }
    }

    #[inline]
    fn from_words(words: &[u32; 4]) -> [u32; 4] {
        *words
    }

    #[inline]
    fn fragment_key(packet: &Packet<Self>, direction: u8) -> FragmentKey6 {
        FragmentKey6 {
            source: packet.tuple.source,
            destination: packet.tuple.destination,
            identification: packet.identification,
            protocol: packet.tuple.protocol,
            direction,
            pad: 0,
        }
    }

    #[inline]
    fn in_ranges(service: u32, source: [u32; 4]) -> bool {
        let [a, b, c, d] = source;
        RANGES6.get(Key::new(SERVICE_BITS + 128, [service, a, b, c, d])).is_some()
    }

    #[inline]
    fn is_pod(config: &Config, source: [u32; 4]) -> bool {
        in_any(&config.pods6, &source)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "one range is asked of most packets, others of few")]
    fn is_service_address(config: &Config, address: [u32; 4]) -> bool {
        let [first, others @ ..] = &config.services6;
        in_range(first, &address) || (config.more_services6 != 0 && in_any(others, &address))
    }

    #[inline]
    fn hairpin(config: &Config) -> [u32; 4] {
        config.hairpin6
    }

    #[inline]
    fn is_loopback(address: [u32; 4]) -> bool {
        address == [0, 0, 0, 1_u32.to_be()]
    }

    #[inline]
    fn source(interface: &InterfaceValue) -> Option<[u32; 4]> {
        (interface.source6 != [0; 4]).then_some(interface.source6)
    }

    #[inline]
    fn hops(skb: Skb, network: u32) -> Option<u8> {
        let [_, hops]: [u8; 2] = skb.header(network + NEXT_AND_HOPS)?;
        Some(hops)
    }

    #[inline]
    fn spend_hop(skb: Skb, network: u32) -> Result<(), Fault> {
        let [next, hops]: [u8; 2] = skb.header(network + NEXT_AND_HOPS).ok_or(Fault)?;
        // No header checksum makes up for it.
        let done = skb.store(network + NEXT_AND_HOPS, &[next, hops.wrapping_sub(1)], true);
        if done { Ok(()) } else { Err(Fault) }
    }

    #[inline]
    fn fill_route_hints(query: &mut bpf_fib_lookup, skb: Skb, network: u32) {
        if let Some(first) = skb.header::<u32>(network) {
            query.__bindgen_anon_2.flowinfo = first & FLOW_INFORMATION;
        }
    }

    #[inline]
    fn fill_route_query(query: &mut bpf_fib_lookup, tuple: &Tuple<Self>) {
        query.family = AF_INET6;
        query.__bindgen_anon_3.ipv6_src = tuple.source;
        query.__bindgen_anon_4.ipv6_dst = tuple.destination;
    }
}
