//! What is written to the maps, in the order in which it must be.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use shunt_abi::backend::BackendValue;
use shunt_abi::frontend::FrontendValue;
use shunt_abi::known::Role;

use crate::domain::{IpFamily, Protocol};

/// Key of a frontend, both families alike: what a packet is addressed to. Port and protocol 0 stand for the whole
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Destination {
    pub(super) address: IpAddr,
    /// Host order.
    pub(super) port: u16,
    /// IANA number.
    pub(super) protocol: u8,
}

impl Destination {
    /// The address, whatever the port.
    pub(super) const fn whole(address: IpAddr) -> Self {
        Self { address, port: 0, protocol: 0 }
    }

    /// Whether it is a whole address.
    pub(super) const fn is_whole(&self) -> bool {
        self.port == 0 && self.protocol == 0
    }
}

impl fmt::Display for Destination {
    /// `192.0.2.1:80/tcp`; of a whole address, that alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, port, protocol } = *self;
        match Protocol::from_number(protocol) {
            Some(protocol) => write!(f, "{}/{}", SocketAddr::new(address, port), protocol.lower()),
            None if self.is_whole() => address.fmt(f),
            None => write!(f, "{}/{protocol}", SocketAddr::new(address, port)),
        }
    }
}

/// A source range of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SourceRange {
    pub(super) service: u32,
    pub(super) range: IpNet,
}

impl fmt::Display for SourceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of number {}", self.range, self.service)
    }
}

impl SourceRange {
    /// Bounds of all entries of a Service port in a family.
    pub(super) fn all_of(service: u32, family: IpFamily) -> RangeInclusive<Self> {
        let (first, last) = match family {
            IpFamily::V4 => (Ipv4Net::default().into(), Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32).into()),
            IpFamily::V6 => {
                (Ipv6Net::default().into(), Ipv6Net::new_assert(Ipv6Addr::from_bits(u128::MAX), 128).into())
            }
        };
        Self { service, range: first }..=Self { service, range: last }
    }
}

/// One step that programs do not see the effect of, until a frontend leads to it, or do not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Backend(u32, BackendValue),
    Pool(u32, Vec<u32>),
    AddRange(SourceRange),
    RemoveRange(SourceRange),
    /// The counters of a Service port that begins.
    ResetService(u32),
}

/// Writes that belong together. A frontend's value is replaced in one atomic write; what it leads to is there before,
/// and what the old one led to is freed afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Writes {
    /// May be a frontend or a backend from now on.
    pub(super) known: Vec<(Role, Destination)>,
    /// Before the frontends.
    pub(super) before: Vec<Step>,
    /// New value of each frontend; `None` removes it.
    pub(super) frontends: BTreeMap<Destination, Option<FrontendValue>>,
    /// After the frontends.
    pub(super) after: Vec<Step>,
}

impl Writes {
    /// Notes that packets to the destination, and others to its address, have to be looked at.
    pub(super) fn know_frontend(&mut self, destination: Destination) {
        self.known.push((Role::Frontend, destination));
    }

    /// Notes that packets from and to the endpoint have to be looked at.
    pub(super) fn know_backend(&mut self, socket: SocketAddr, protocol: u8) {
        let destination = Destination { address: socket.ip(), port: socket.port(), protocol };
        self.known.push((Role::Backend, destination));
    }

    pub(super) fn set(&mut self, destination: Destination, value: FrontendValue) {
        self.know_frontend(destination);
        self.frontends.insert(destination, Some(value));
    }

    /// Removes the frontend, unless somebody else has set it meanwhile.
    pub(super) fn remove(&mut self, destination: Destination) {
        self.frontends.entry(destination).or_insert(None);
    }

    /// Every frontend with its new value: first those that go, which makes room. A whole address rejects what no port of
    /// it takes, also in the middle of connections: it goes before its ports, and comes after them.
    pub(super) fn frontends_in_order(&self) -> impl Iterator<Item = (Destination, Option<&FrontendValue>)> {
        let of = |gone: bool, whole: bool| {
            let all = self.frontends.iter();
            all.filter(move |(at, value)| value.is_none() == gone && at.is_whole() == whole)
        };
        let steps = of(true, true).chain(of(true, false)).chain(of(false, false)).chain(of(false, true));
        steps.map(|(destination, value)| (*destination, value.as_ref()))
    }

    /// Elements written and removed.
    pub(super) fn sizes(&self) -> (u64, u64) {
        let set = self.frontends.values().flatten().count();
        let steps = |writes: bool| {
            let is_write = |step: &&Step| match step {
                Step::RemoveRange(_) => !writes,
                Step::Backend(_, value) => (value.generation != 0) == writes,
                Step::Pool(..) | Step::AddRange(_) | Step::ResetService(_) => writes,
            };
            self.before.iter().chain(&self.after).filter(is_write).count()
        };
        ((set + steps(true)) as u64, (self.frontends.len() - set + steps(false)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_address_goes_before_its_ports_and_comes_after_them() {
        let at = |text: &str, port| Destination { address: text.parse().unwrap(), port, protocol: 6 };
        let whole = |text: &str| Destination::whole(text.parse().unwrap());
        let mut writes = Writes::default();
        for new in [whole("10.96.0.1"), at("10.96.0.1", 80), whole("10.96.0.2"), at("10.96.0.2", 80)] {
            writes.set(new, FrontendValue::default());
        }
        writes.remove(at("10.96.0.3", 80));
        writes.remove(whole("10.96.0.3"));
        let order: Vec<_> = writes.frontends_in_order().map(|(at, _)| at.to_string()).collect();
        let gone = ["10.96.0.3", "10.96.0.3:80/tcp"];
        let new = ["10.96.0.1:80/tcp", "10.96.0.2:80/tcp", "10.96.0.1", "10.96.0.2"];
        assert_eq!(order, [gone.as_slice(), &new].concat());
    }
}
