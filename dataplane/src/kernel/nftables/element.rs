//! Elements: the entries of sets and maps, in the kernel's own form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::expression::Verdict;
use super::set::{By, StaticSet};
use crate::domain::{IpFamily, Protocol};
use crate::plan::{Frontend, FrontendAddress};

/// A key: up to two IPv6 addresses, protocol and port.
pub(super) type Key = Bytes<40>;
/// What a map of endpoints holds: address and port.
pub(super) type EndpointBytes = Bytes<20>;

/// A key or a value of a map, kept in place because a node may have hundreds of thousands of them. Each part of a
/// concatenation is padded to 4 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Bytes<const CAPACITY: usize> {
    bytes: [u8; CAPACITY],
    length: u8,
}

impl<const CAPACITY: usize> Bytes<CAPACITY> {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; CAPACITY], length: 0 }
    }

    /// What the kernel dumps; `None` if no set of ours has keys of that length.
    pub(super) fn from_kernel(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= CAPACITY).then(|| Self::new().part(bytes))
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// Appends one part of a concatenation. What exceeds the capacity would be a mistake in this module and is cut.
    fn part(mut self, part: &[u8]) -> Self {
        let start = usize::from(self.length);
        for (to, from) in self.bytes.iter_mut().skip(start).zip(part) {
            *to = *from;
        }
        let end = (start + part.len()).next_multiple_of(4).min(CAPACITY);
        self.length = u8::try_from(end).unwrap_or(0);
        self
    }

    pub(super) fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.part(&address.octets()),
            IpAddr::V6(address) => self.part(&address.octets()),
        }
    }

    pub(super) fn protocol(self, protocol: Protocol) -> Self {
        self.part(&[protocol.number()])
    }

    pub(super) fn port(self, port: u16) -> Self {
        self.part(&port.to_be_bytes())
    }

    /// Host byte order: the kernel makes random numbers in it.
    pub(super) fn slot(self, slot: u32) -> Self {
        self.part(&slot.to_ne_bytes())
    }
}

impl<const CAPACITY: usize> fmt::Debug for Bytes<CAPACITY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().chunks(4).try_for_each(|part| {
            part.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            f.write_str(" ")
        })
    }
}

/// The end of a range of keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Extent {
    /// A single key, or the start of a range whose end is an element of its own.
    Start,
    /// The first key behind a range.
    Behind,
    /// A range of concatenated keys up to and including this one.
    UpTo(Box<Key>),
}

/// What is stored for a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Value {
    None,
    Verdict(Verdict),
    Endpoint(EndpointBytes),
    /// Only ever read: something that we never write.
    Foreign,
}

/// One entry of a set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Element {
    pub(super) key: Key,
    pub(super) extent: Extent,
    pub(super) value: Value,
}

impl Element {
    pub(super) const fn member(key: Key) -> Self {
        Self { key, extent: Extent::Start, value: Value::None }
    }

    pub(super) const fn verdict(key: Key, verdict: Verdict) -> Self {
        Self { key, extent: Extent::Start, value: Value::Verdict(verdict) }
    }

    pub(super) fn endpoint(key: Key, endpoint: SocketAddr) -> Self {
        Self {
            key,
            extent: Extent::Start,
            value: Value::Endpoint(Bytes::new().address(endpoint.ip()).port(endpoint.port())),
        }
    }

    /// Addresses of a range, after a common start of the key.
    pub(super) fn sources(start: Key, range: &IpNet) -> Self {
        let extent = Extent::UpTo(Box::new(start.address(range.broadcast())));
        Self { key: start.address(range.network()), extent, value: Value::None }
    }

    /// Ranges in a set of single addresses, sorted and disjoint: for each its first address, and the first one behind
    /// it (if there is one). As `nft` does, the gap before the first range ends with an element of its own.
    pub(super) fn ranges(ranges: &[IpNet]) -> Vec<Self> {
        let at = |address, extent| Self { key: Key::new().address(address), extent, value: Value::None };
        let gap = ranges
            .first()
            .filter(|first| !first.network().is_unspecified())
            .map(|first| unspecified(IpFamily::of(first.addr())));
        let bounds = ranges.iter().flat_map(|range| {
            let behind = successor(range.broadcast()).map(|address| at(address, Extent::Behind));
            std::iter::once(at(range.network(), Extent::Start)).chain(behind)
        });
        gap.map(|zero| at(zero, Extent::Behind)).into_iter().chain(bounds).collect()
    }
}

/// The address of all zeros.
pub(super) const fn unspecified(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            address.to_bits().checked_add(1).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
        }
        IpAddr::V6(address) => {
            address.to_bits().checked_add(1).map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
        }
    }
}

/// The start of every key that belongs to a frontend: its address, unless it is a node port.
pub(super) fn frontend_key(frontend: &Frontend) -> Key {
    match frontend.address {
        FrontendAddress::Ip(address) => Bytes::new().address(address),
        FrontendAddress::NodePort(_) => Bytes::new(),
    }
}

/// The frontend that an element of that set belongs to, if it belongs to one.
pub(super) fn owner(set: StaticSet, family: IpFamily, element: &Element) -> Option<Frontend> {
    let (by, protocol) = match set {
        StaticSet::ServiceIps | StaticSet::NoEndpointServices => (By::Address, None),
        StaticSet::ServiceNodePorts | StaticSet::NoEndpointNodePorts => (By::NodePort, None),
        StaticSet::Endpoints(protocol, by, _) => (by, Some(protocol)),
        StaticSet::SourceRanges(protocol) => (By::Address, Some(protocol)),
        StaticSet::NodePortIps
        | StaticSet::NodePortLoopbackIps
        | StaticSet::ClusterIps
        | StaticSet::ServiceCidrs
        | StaticSet::Hairpins => {
            return None;
        }
    };
    let mut rest = element.key.as_slice();
    let address = match by {
        By::NodePort => FrontendAddress::NodePort(family),
        By::Address => FrontendAddress::Ip(take_address(&mut rest, family)?),
    };
    let protocol = match protocol {
        Some(protocol) => protocol,
        None => Protocol::from_number(take::<4>(&mut rest)?[0])?,
    };
    let [high, low, ..] = take::<4>(&mut rest)?;
    Some(Frontend { address, port: u16::from_be_bytes([high, low]), protocol })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, others) = rest.split_first_chunk::<N>()?;
    *rest = others;
    Some(*first)
}

fn take_address(rest: &mut &[u8], family: IpFamily) -> Option<IpAddr> {
    Some(match family {
        IpFamily::V4 => IpAddr::from(take::<4>(rest)?),
        IpFamily::V6 => IpAddr::from(take::<16>(rest)?),
    })
}
