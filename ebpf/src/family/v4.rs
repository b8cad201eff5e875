//! IPv4.

use aya_ebpf::{bindings::bpf_fib_lookup, maps::lpm_trie::Key};
use shunt_abi::{
    affinity::AffinityKey4,
    config::{Config, Range4},
    flow::{FlowKey4, FlowValue4},
    fragment::{FragmentKey4, FragmentValue4},
    frontend::{FrontendKey4, FrontendValue},
    interface::InterfaceValue,
    known::{self, Bits, Role},
    roles::{self, Place},
    source_range::SERVICE_BITS,
};

use super::{Family, mix};
use crate::{
    maps::{AFFINITY4, FLOWS4, FRAGMENTS4, FRONTENDS4, HALF_OPEN4, RANGES4, WORK4},
    packet::{
        Fault, Packet, Position, Side, Skb, Tuple, difference, quoted::QuotedHeader, replace,
        rewrite_port_checksum, rewrite_ports, rewrite_transport_checksum, transport, unreachable4,
    },
};

/// IPv4.
#[derive(Clone, Copy)]
pub(crate) struct V4;

/// The header without options.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Header {
    version_length: u8,
    service: u8,
    total: u16,
    identification: u16,
    fragment: u16,
    hops: u8,
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

const HEADER: u32 = 20;
const FRAGMENT: u32 = 6;
/// Of the hops that are left.
const HOPS: u32 = 8;
/// One of them, in a word of the checksum.
const HOP: u16 = 0x0100_u16.to_be();
/// Of the header checksum; both addresses follow.
const CHECKSUM: u32 = 10;
const ADDRESSES: u32 = 12;
/// A header without options and the fixed part of TCP's.
const REACH: u32 = 40;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;
const AF_INET: u8 = 2;

#[inline]
const fn position(fragment: u16) -> Position {
    let fragment = u16::from_be(fragment);
    match (fragment & FRAGMENT_OFFSET, fragment & MORE_FRAGMENTS) {
        (0, 0) => Position::Whole,
        (0, _) => Position::First,
        _ => Position::Later,
    }
}

/// Options lie between the headers.
#[inline]
fn transport_offset(skb: Skb, network: u32, version_length: u8) -> Option<u32> {
    let length = u32::from(version_length & 0x0f) * 4;
    if length > HEADER {
        skb.reach(network + length + HEADER);
    }
    (length >= HEADER).then_some(network + length)
}

#[inline(never)]
fn in_any(ranges: &[Range4], address: u32) -> bool {
    for range in ranges {
        if address & range.mask == range.network {
            return true;
        }
        if range.mask == u32::MAX && range.network == 0 {
            return false;
        }
    }
    false
}

impl super::Header<u32> for Header {
    #[inline]
    fn source(&self) -> u32 {
        self.source
    }

    #[inline]
    fn destination(&self) -> u32 {
        self.destination
    }

    #[inline]
    fn may_be_icmp(&self) -> bool {
        self.protocol == V4::ICMP
    }
}

impl Family for V4 {
    type Address = u32;
    type Header = Header;
    storage!(
        FlowKey4,
        FlowValue4,
        FLOWS4,
        HALF_OPEN4,
        AffinityKey4,
        AFFINITY4,
        FragmentKey4,
        FragmentValue4,
        FRAGMENTS4,
        WORK4
    );

    const VERSION: u8 = 4;
    const ETHERTYPE: u16 = 0x0800_u16.to_be();
    const HEADER: u32 = HEADER;
    const ICMP: u8 = 1;
    const ECHO_REQUEST: u8 = 8;

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
        let transport_offset = transport_offset(skb, network, header.version_length)?;
        let position = position(header.fragment);
        let ports =
            transport(skb, transport_offset, if position == Position::Later { 0 } else { header.protocol })?;
        Some(Packet {
            network,
            transport: transport_offset,
            tuple: Tuple {
                source: header.source,
                destination: header.destination,
                source_port: ports.source_port,
                destination_port: ports.destination_port,
                protocol: header.protocol,
            },
            header_checksum: header.checksum,
            position,
            identification: u32::from(header.identification),
            flags: ports.flags,
        })
    }

    #[inline]
    fn end(skb: Skb, packet: &Packet<Self>) -> Option<u32> {
        let total: u16 = skb.load(packet.network + 2)?;
        Some(packet.network + u32::from(u16::from_be(total)))
    }

    #[inline]
    fn readdress(packet: &mut Packet<Self>, side: Side, address: u32) {
        let place = match side {
            Side::Source => &mut packet.tuple.source,
            Side::Destination => &mut packet.tuple.destination,
        };
        packet.header_checksum = replace(packet.header_checksum, difference(&[*place], &[address]));
        *place = address;
    }

    #[inline]
    fn rewrite_address(skb: Skb, packet: &Packet<Self>, side: Side, address: u32) -> Result<(), Fault> {
        let (old, addresses) = match side {
            Side::Source => (packet.tuple.source, [address, packet.tuple.destination]),
            Side::Destination => (packet.tuple.destination, [packet.tuple.source, address]),
        };
        let difference = difference(&[old], &[address]);
        rewrite_transport_checksum(skb, packet, difference)?;
        write_addresses(skb, packet, replace(packet.header_checksum, difference), addresses)
    }

    /// Ports follow the addresses in headers without options: one write then does for all.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the hot path")]
    fn rewrite(skb: Skb, packet: &Packet<Self>, side: Side, address: u32, port: u16) -> Result<(), Fault> {
        if packet.position == Position::Later || packet.transport != packet.network + HEADER {
            rewrite_ports(skb, packet, side, port)?;
            return Self::rewrite_address(skb, packet, side, address);
        }
        rewrite_port_checksum(skb, packet, side, port)?;
        let difference = difference(&[packet.tuple.address(side)], &[address]);
        rewrite_transport_checksum(skb, packet, difference)?;
        let tuple = packet.tuple.with(side, address, port);
        let bytes = Rewritten {
            checksum: replace(packet.header_checksum, difference),
            addresses: [tuple.source, tuple.destination],
            ports: [tuple.source_port, tuple.destination_port],
        };
        if skb.store(packet.network + CHECKSUM, &bytes, false) { Ok(()) } else { Err(Fault) }
    }

    #[inline]
    fn swap_addresses(skb: Skb, packet: &Packet<Self>) -> Result<(), Fault> {
        let addresses = [packet.tuple.destination, packet.tuple.source];
        if skb.store(packet.network + ADDRESSES, &addresses, false) { Ok(()) } else { Err(Fault) }
    }

    #[inline]
    fn answer_unreachable(skb: Skb, packet: &Packet<Self>) -> Result<(), Fault> {
        unreachable4::answer(skb, packet)
    }

    #[inline]
    fn allow_fragments(skb: Skb, packet: &Packet<Self>) -> Result<(), Fault> {
        let header: Header = skb.load(packet.network).ok_or(Fault)?;
        let fragment = header.fragment & !DONT_FRAGMENT.to_be();
        let checksum =
            replace(header.checksum, difference(&[u32::from(header.fragment)], &[u32::from(fragment)]));
        let done = skb.store(packet.network + FRAGMENT, &fragment, false)
            && skb.store(packet.network + CHECKSUM, &checksum, false);
        if done { Ok(()) } else { Err(Fault) }
    }

    #[inline]
    fn is_icmp_error(kind: u8) -> bool {
        matches!(kind, 3 | 4 | 11 | 12)
    }

    #[inline]
    fn quoted_header(skb: Skb, network: u32) -> Option<QuotedHeader<Self>> {
        let header: Header = skb.load(network)?;
        let whole = position(header.fragment) != Position::Later;
        (header.version_length >> 4 == Self::VERSION && whole).then(|| QuotedHeader {
            source: header.source,
            destination: header.destination,
            protocol: header.protocol,
            length: u32::from(header.version_length & 0x0f) * 4,
            checksum: header.checksum,
        })
    }

    #[inline]
    fn rewrite_quoted_address(
        skb: Skb,
        quoted: &Packet<Self>,
        side: Side,
        address: u32,
    ) -> Result<u32, Fault> {
        let (old, addresses) = match side {
            Side::Source => (quoted.tuple.source, [address, quoted.tuple.destination]),
            Side::Destination => (quoted.tuple.destination, [quoted.tuple.source, address]),
        };
        let checksum = replace(quoted.header_checksum, difference(&[old], &[address]));
        write_addresses(skb, quoted, checksum, addresses)?;
        // The header's own checksum makes up for the address.
        Ok(0)
    }

    #[inline]
    fn bits(role: Role, address: u32, port: u16, protocol: u8) -> Bits {
        known::bits4(role, address, port, protocol)
    }

    #[inline]
    fn place(address: u32) -> Place {
        roles::place4(address)
    }

    #[inline]
    fn flow_hash(tuple: &Tuple<Self>, service: u32, seed: u32) -> u32 {
        let client = u64::from(tuple.source) << 32 | u64::from(tuple.source_port) << 16;
        mix(client ^ (u64::from(service) << 32 | u64::from(seed)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[inline]
    fn frontend(address: u32, port: u16, protocol: u8) -> Option<&'static FrontendValue> {
        let key = FrontendKey4 { address, port, protocol, pad: 0 };
        // SAFETY: the map frees its elements after a grace period, which the program's run is within.
        unsafe { FRONTENDS4.get(key) }
    }

    #[inline]
    fn from_words(words: &[u32; 4]) -> u32 {
        words[3]
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "16 bits were widened")]
    fn fragment_key(packet: &Packet<Self>, direction: u8) -> FragmentKey4 {
        FragmentKey4 {
            source: packet.tuple.source,
            destination: packet.tuple.destination,
            identification: packet.identification as u16,
            protocol: packet.tuple.protocol,
            direction,
        }
    }

    #[inline]
    fn in_ranges(service: u32, source: u32) -> bool {
        RANGES4.get(Key::new(SERVICE_BITS + 32, [service, source])).is_some()
    }

    #[inline]
    fn is_pod(config: &Config, source: u32) -> bool {
        in_any(&config.pods4, source)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "one range is asked of most packets, others of few")]
    fn is_service_address(config: &Config, address: u32) -> bool {
        let [first, others @ ..] = &config.services4;
        address & first.mask == first.network || (config.more_services4 != 0 && in_any(others, address))
    }

    #[inline]
    fn hairpin(config: &Config) -> u32 {
        config.hairpin4
    }

    #[inline]
    fn is_loopback(address: u32) -> bool {
        address.to_ne_bytes()[0] == 127
    }

    #[inline]
    fn source(interface: &InterfaceValue) -> Option<u32> {
        (interface.source4 != 0).then_some(interface.source4)
    }

    #[inline]
    fn hops(skb: Skb, network: u32) -> Option<u8> {
        let [hops, _]: [u8; 2] = skb.header(network + HOPS)?;
        Some(hops)
    }

    #[inline]
    fn spend_hop(skb: Skb, network: u32) -> Result<(), Fault> {
        let mut bytes: HopsAndChecksum = skb.header(network + HOPS).ok_or(Fault)?;
        bytes.hops = bytes.hops.wrapping_sub(1);
        bytes.checksum = replace(bytes.checksum, difference(&[u32::from(HOP)], &[0]));
        if skb.store(network + HOPS, &bytes, false) { Ok(()) } else { Err(Fault) }
    }

    #[inline]
    fn fill_route_hints(query: &mut bpf_fib_lookup, skb: Skb, network: u32) {
        if let Some([_, service]) = skb.header::<[u8; 2]>(network) {
            query.__bindgen_anon_2.tos = service;
        }
    }

    #[inline]
    fn fill_route_query(query: &mut bpf_fib_lookup, tuple: &Tuple<Self>) {
        query.family = AF_INET;
        query.__bindgen_anon_3.ipv4_src = tuple.source;
        query.__bindgen_anon_4.ipv4_dst = tuple.destination;
    }
}

/// What lies side by side in a packet without options.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Rewritten {
    checksum: u16,
    addresses: [u32; 2],
    ports: [u16; 2],
}

/// Hops, protocol and checksum lie side by side, too.
#[repr(C)]
#[derive(Clone, Copy)]
struct HopsAndChecksum {
    hops: u8,
    protocol: u8,
    checksum: u16,
}

/// The header checksum and both addresses lie side by side: one write.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct ChecksumAndAddresses {
    checksum: u16,
    addresses: [u32; 2],
}

#[inline]
fn write_addresses(skb: Skb, packet: &Packet<V4>, checksum: u16, addresses: [u32; 2]) -> Result<(), Fault> {
    let bytes = ChecksumAndAddresses { checksum, addresses };
    if skb.store(packet.network + CHECKSUM, &bytes, false) { Ok(()) } else { Err(Fault) }
}
