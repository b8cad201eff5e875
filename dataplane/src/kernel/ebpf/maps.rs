//! The maps of the dataplane, opened by their pins: reading what they hold, writing what the model says.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use shunt_abi::address::{from_word, from_words, word, words};
use shunt_abi::affinity::{AffinityKey4, AffinityKey6, AffinityValue};
use shunt_abi::backend::BackendValue;
use shunt_abi::clock::ClockReading;
use shunt_abi::config::Config;
use shunt_abi::flow::{FlowKey4, FlowKey6, FlowValue4, FlowValue6};
use shunt_abi::frontend::{FrontendKey4, FrontendKey6, FrontendValue};
use shunt_abi::interface::InterfaceValue;
use shunt_abi::name;
use shunt_abi::reached::ReachedValue;
use shunt_abi::socket::{OriginKey, OriginValue, PeerValue};
use shunt_abi::source_range::{RangeKey4, RangeKey6, SERVICE_BITS};

use super::adopt::Observed;
use super::established::Established;
use super::flow_maps::FlowMaps;
use super::flows;
use super::known::Known;
use super::map::{CounterMap, MapError, Plain, TypedMap, open_pin};
use super::write::{Destination, SourceRange, Step, Writes};
use crate::domain::IpFamily;

/// Where a write failed.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(super) struct WriteError {
    /// The frontend that was being written.
    pub(super) destination: Option<Destination>,
    #[source]
    pub(super) source: MapError,
}

impl From<MapError> for WriteError {
    fn from(source: MapError) -> Self {
        Self { destination: None, source }
    }
}

/// All maps that the agent reads or writes.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) config: TypedMap<u32, Config>,
    pub(super) clock: TypedMap<u32, ClockReading>,
    pub(super) known: TypedMap<u32, u64>,
    pub(super) roles: TypedMap<u32, u64>,
    pub(super) reached: TypedMap<u32, ReachedValue>,
    pub(super) reached_hosts: TypedMap<u32, u64>,
    pub(super) frontends4: TypedMap<FrontendKey4, FrontendValue>,
    pub(super) frontends6: TypedMap<FrontendKey6, FrontendValue>,
    pub(super) pool: TypedMap<u32, u32>,
    pub(super) backends: TypedMap<u32, BackendValue>,
    pub(super) flows4: TypedMap<FlowKey4, FlowValue4>,
    pub(super) flows6: TypedMap<FlowKey6, FlowValue6>,
    /// Rings, of which the agent looks at the size only.
    pub(super) half_open4: TypedMap<u32, FlowKey4>,
    pub(super) half_open6: TypedMap<u32, FlowKey6>,
    pub(super) established: Established,
    ranges4: TypedMap<RangeKey4, u32>,
    ranges6: TypedMap<RangeKey6, u32>,
    pub(super) interfaces: TypedMap<u32, InterfaceValue>,
    pub(super) origins: TypedMap<OriginKey, OriginValue>,
    pub(super) peers: TypedMap<u32, PeerValue>,
    pub(super) opted_out: TypedMap<u64, u32>,
    pub(super) counters: CounterMap,
    /// Traffic of Service ports, where it is counted.
    pub(super) services: Option<CounterMap>,
    pub(super) affinity4: TypedMap<AffinityKey4, AffinityValue>,
    pub(super) affinity6: TypedMap<AffinityKey6, AffinityValue>,
}

impl Maps {
    /// Opens the pins in `directory`.
    pub(super) fn open(directory: &Path) -> Result<Self, MapError> {
        Ok(Self {
            config: open(directory, name::CONFIG)?,
            clock: open(directory, name::CLOCK)?,
            known: open(directory, name::KNOWN)?,
            roles: open(directory, name::ROLES)?,
            reached: open(directory, name::REACHED)?,
            reached_hosts: open(directory, name::REACHED_HOSTS)?,
            frontends4: open(directory, name::FRONTENDS4)?,
            frontends6: open(directory, name::FRONTENDS6)?,
            pool: open(directory, name::POOL)?,
            backends: open(directory, name::BACKENDS)?,
            flows4: open(directory, name::FLOWS4)?,
            flows6: open(directory, name::FLOWS6)?,
            half_open4: open(directory, name::HALF_OPEN4)?,
            half_open6: open(directory, name::HALF_OPEN6)?,
            established: Established::open(directory)?,
            ranges4: open(directory, name::RANGES4)?,
            ranges6: open(directory, name::RANGES6)?,
            interfaces: open(directory, name::INTERFACES)?,
            origins: open(directory, name::ORIGINS)?,
            peers: open(directory, name::PEERS)?,
            opted_out: open(directory, name::OPTED_OUT)?,
            counters: open_counters(directory, name::COUNTERS)?,
            services: None,
            affinity4: open(directory, name::AFFINITY4)?,
            affinity6: open(directory, name::AFFINITY6)?,
        })
    }

    /// Has the traffic of Service ports counted.
    pub(super) fn count_services(&mut self, directory: &Path) -> Result<(), MapError> {
        self.services = Some(open_counters(directory, name::SERVICES)?);
        Ok(())
    }

    /// What is there. Of the large arrays only the start is looked at: so many backends, and the pool as far as frontends
    /// lead into it, but at least so far.
    pub(super) fn observe(&self, backends: u32, pool_end: u32) -> Result<Observed, MapError> {
        let mut observed = Observed::default();
        for (key, value) in self.frontends4.entries()? {
            observed
                .frontends
                .insert(destination(from_word(key.address).into(), key.port, key.protocol), value);
        }
        for (key, value) in self.frontends6.entries()? {
            observed.frontends.insert(destination(from_words6(key.address), key.port, key.protocol), value);
        }
        self.backends.visit_first(backends, &mut |start, values| {
            let used = (start..).zip(values).filter(|(_, value)| value.generation != 0);
            observed.backends.extend(used.map(|(id, value)| (id, *value)));
        })?;
        let mut pool = Vec::new();
        self.pool
            .visit_first(observed.pool_end().max(pool_end), &mut |_, ids| pool.extend_from_slice(ids))?;
        observed.pool = pool;
        observed.source_ranges = self.source_ranges()?;
        Ok(observed)
    }

    /// The flows of IPv4.
    pub(super) const fn flow_maps4(&self) -> FlowMaps<'_, FlowKey4> {
        self.flow_maps(IpFamily::V4, &self.flows4)
    }

    /// The flows of IPv6.
    pub(super) const fn flow_maps6(&self) -> FlowMaps<'_, FlowKey6> {
        self.flow_maps(IpFamily::V6, &self.flows6)
    }

    const fn flow_maps<'a, K: flows::Key>(
        &'a self,
        family: IpFamily,
        flows: &'a TypedMap<K, K::Value>,
    ) -> FlowMaps<'a, K> {
        FlowMaps {
            family,
            flows,
            established: &self.established,
            limit: self.established_limit(family),
            reached: &self.reached,
            reached_hosts: &self.reached_hosts,
            roles: &self.roles,
        }
    }

    /// Flows that may be established: what the ring of half-open ones leaves of the map.
    pub(super) const fn established_limit(&self, family: IpFamily) -> u32 {
        let (flows, half_open) = match family {
            IpFamily::V4 => (self.flows4.capacity(), self.half_open4.capacity()),
            IpFamily::V6 => (self.flows6.capacity(), self.half_open6.capacity()),
        };
        flows.saturating_sub(half_open)
    }

    /// The frontend that a socket's backend stands for, as the programs find it.
    pub(super) fn origin(&self, key: &OriginKey) -> Result<Option<OriginValue>, MapError> {
        let place = PeerValue::index(key.cookie, self.peers.capacity());
        let peer = self.peers.get(&place)?.filter(PeerValue::is_whole).map(|peer| peer.origin());
        match peer.filter(|(found, _)| found == key) {
            Some((_, value)) => Ok(Some(value)),
            None => self.origins.get(key),
        }
    }

    fn source_ranges(&self) -> Result<BTreeSet<SourceRange>, MapError> {
        let four = self
            .ranges4
            .entries()?
            .into_iter()
            .filter_map(|(key, _)| range(key.service, from_word(key.source).into(), key.prefix_length));
        let six = self
            .ranges6
            .entries()?
            .into_iter()
            .filter_map(|(key, _)| range(key.service, from_words6(key.source), key.prefix_length));
        Ok(four.chain(six).collect())
    }

    /// Carries out everything, in order. `known` is what the bitmaps hold.
    pub(super) fn write(&self, writes: &Writes, known: &mut Known) -> Result<(), WriteError> {
        known.add(self, &writes.known)?;
        self.steps(&writes.before)?;
        // What goes makes room.
        self.frontends(writes.frontends_in_order())?;
        self.steps(&writes.after)
    }

    /// Steps for different maps do not depend on each other.
    fn steps(&self, steps: &[Step]) -> Result<(), WriteError> {
        let (mut ids, mut backends) = (Vec::new(), Vec::new());
        let (mut slots, mut members) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Backend(id, value) => {
                    ids.push(*id);
                    backends.push(*value);
                }
                Step::Pool(offset, pool) => {
                    slots.extend((*offset..).take(pool.len()));
                    members.extend_from_slice(pool);
                }
                Step::AddRange(range) => self.range(*range, true)?,
                Step::RemoveRange(range) => self.range(*range, false)?,
                Step::ResetService(id) => {
                    self.services.as_ref().map_or(Ok(()), |services| services.reset_traffic(*id))?;
                }
            }
        }
        self.backends.set_all(&ids, &backends)?;
        Ok(self.pool.set_all(&slots, &members)?)
    }

    fn frontends<'a>(
        &self,
        values: impl Iterator<Item = (Destination, Option<&'a FrontendValue>)>,
    ) -> Result<(), WriteError> {
        let (mut keys4, mut values4) = (Vec::new(), Vec::new());
        let (mut keys6, mut values6) = (Vec::new(), Vec::new());
        for (destination, value) in values {
            let failed = |source| WriteError { destination: Some(destination), source };
            match (key(destination), value) {
                (Key::V4(key), None) => drop(self.frontends4.delete(&key).map_err(failed)?),
                (Key::V6(key), None) => drop(self.frontends6.delete(&key).map_err(failed)?),
                (Key::V4(key), Some(value)) => {
                    keys4.push(key);
                    values4.push(*value);
                }
                (Key::V6(key), Some(value)) => {
                    keys6.push(key);
                    values6.push(*value);
                }
            }
        }
        set_frontends(&self.frontends4, &keys4, &values4, |key| {
            destination(from_word(key.address).into(), key.port, key.protocol)
        })?;
        set_frontends(&self.frontends6, &keys6, &values6, |key| {
            destination(from_words6(key.address), key.port, key.protocol)
        })
    }

    /// What the kernel holds for a destination.
    pub(super) fn read_frontend(&self, destination: Destination) -> Result<Option<FrontendValue>, MapError> {
        match key(destination) {
            Key::V4(key) => self.frontends4.get(&key),
            Key::V6(key) => self.frontends6.get(&key),
        }
    }

    fn range(&self, SourceRange { service, range }: SourceRange, add: bool) -> Result<(), MapError> {
        let prefix_length = SERVICE_BITS + u32::from(range.prefix_len());
        match range.network() {
            IpAddr::V4(source) => {
                let key = RangeKey4 { prefix_length, service, source: word(source) };
                if add { self.ranges4.set(&key, &1) } else { self.ranges4.delete(&key).map(drop) }
            }
            IpAddr::V6(source) => {
                let key = RangeKey6 { prefix_length, service, source: words(source) };
                if add { self.ranges6.set(&key, &1) } else { self.ranges6.delete(&key).map(drop) }
            }
        }
    }
}

/// The key of a frontend.
enum Key {
    V4(FrontendKey4),
    V6(FrontendKey6),
}

fn key(Destination { address, port, protocol }: Destination) -> Key {
    let port = port.to_be();
    match address {
        IpAddr::V4(address) => Key::V4(FrontendKey4 { address: word(address), port, protocol, pad: 0 }),
        IpAddr::V6(address) => Key::V6(FrontendKey6 { address: words(address), port, protocol, pad: 0 }),
    }
}

/// Writes frontends; says which one could not be written.
fn set_frontends<K: Plain>(
    map: &TypedMap<K, FrontendValue>,
    keys: &[K],
    values: &[FrontendValue],
    destination: impl Fn(&K) -> Destination,
) -> Result<(), WriteError> {
    map.set_all_or(keys, values, |key, source| WriteError { destination: Some(destination(key)), source })
}

/// Opens one map by its pin.
pub(super) fn open<K: Plain, V: Plain>(
    directory: &Path,
    name: &'static str,
) -> Result<TypedMap<K, V>, MapError> {
    TypedMap::new(name, open_pin(directory, name)?)
}

fn open_counters(directory: &Path, name: &'static str) -> Result<CounterMap, MapError> {
    let failed = |operation: &'static str| move |source| MapError::Kernel { name, operation, source };
    let cpus = aya::util::nr_cpus().map_err(|(_, source)| failed("count the CPUs")(source))?;
    Ok(CounterMap::new(name, open_pin(directory, name)?, cpus))
}

pub(super) const fn destination(address: IpAddr, port: u16, protocol: u8) -> Destination {
    Destination { address, port: u16::from_be(port), protocol }
}

/// An IPv6 address, also where it looks like a mapped one.
pub(super) fn from_words6(address: shunt_abi::address::Words) -> IpAddr {
    match from_words(address) {
        IpAddr::V4(address) => IpAddr::V6(address.to_ipv6_mapped()),
        IpAddr::V6(address) => IpAddr::V6(address),
    }
}

fn range(service: u32, source: IpAddr, prefix_length: u32) -> Option<SourceRange> {
    let bits = u8::try_from(prefix_length.checked_sub(SERVICE_BITS)?).ok()?;
    Some(SourceRange { service, range: ipnet::IpNet::new(source, bits).ok()? })
}
