//! The maps of the dataplane, opened by their pins: reading what they hold, writing what the model says.

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
use shunt_abi::known::Role;
use shunt_abi::socket::{OriginKey, OriginValue};
use shunt_abi::source_range::{RangeKey4, RangeKey6, SERVICE_BITS};
use shunt_abi::{known, name};

use super::adopt::Observed;
use super::flow_maps::FlowMaps;
use super::map::{CounterMap, MapError, TypedMap, open_pin};
use super::write::{Destination, SourceRange, Step, Writes};

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
    pub(super) frontends4: TypedMap<FrontendKey4, FrontendValue>,
    pub(super) frontends6: TypedMap<FrontendKey6, FrontendValue>,
    pub(super) pool: TypedMap<u32, u32>,
    pub(super) backends: TypedMap<u32, BackendValue>,
    pub(super) flows4: TypedMap<FlowKey4, FlowValue4>,
    pub(super) flows6: TypedMap<FlowKey6, FlowValue6>,
    pub(super) opening4: TypedMap<FlowKey4, FlowValue4>,
    pub(super) opening6: TypedMap<FlowKey6, FlowValue6>,
    ranges4: TypedMap<RangeKey4, u32>,
    ranges6: TypedMap<RangeKey6, u32>,
    pub(super) interfaces: TypedMap<u32, InterfaceValue>,
    pub(super) origins: TypedMap<OriginKey, OriginValue>,
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
            frontends4: open(directory, name::FRONTENDS4)?,
            frontends6: open(directory, name::FRONTENDS6)?,
            pool: open(directory, name::POOL)?,
            backends: open(directory, name::BACKENDS)?,
            flows4: open(directory, name::FLOWS4)?,
            flows6: open(directory, name::FLOWS6)?,
            opening4: open(directory, name::OPENING4)?,
            opening6: open(directory, name::OPENING6)?,
            ranges4: open(directory, name::RANGES4)?,
            ranges6: open(directory, name::RANGES6)?,
            interfaces: open(directory, name::INTERFACES)?,
            origins: open(directory, name::ORIGINS)?,
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

    /// What is there.
    pub(super) fn observe(&self) -> Result<Observed, MapError> {
        let mut observed = Observed::default();
        for (key, value) in self.frontends4.entries()? {
            observed
                .frontends
                .insert(destination(from_word(key.address).into(), key.port, key.protocol), value);
        }
        for (key, value) in self.frontends6.entries()? {
            observed.frontends.insert(destination(from_words6(key.address), key.port, key.protocol), value);
        }
        let backends = self.backends.entries()?.into_iter();
        observed.backends = backends.filter(|(_, value)| value.generation != 0).collect();
        if !observed.frontends.is_empty() {
            let mut pool = self.pool.entries()?;
            pool.sort_unstable();
            observed.pool = pool.into_iter().map(|(_, id)| id).collect();
        }
        observed.source_ranges = self.source_ranges()?;
        Ok(observed)
    }

    /// The flow maps of IPv4.
    pub(super) const fn flow_maps4(&self) -> FlowMaps<'_, FlowKey4> {
        FlowMaps { established: &self.flows4, opening: &self.opening4 }
    }

    /// The flow maps of IPv6.
    pub(super) const fn flow_maps6(&self) -> FlowMaps<'_, FlowKey6> {
        FlowMaps { established: &self.flows6, opening: &self.opening6 }
    }

    fn source_ranges(&self) -> Result<std::collections::BTreeSet<SourceRange>, MapError> {
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

    /// Carries out everything, in order. `known` is what the bitmap holds.
    pub(super) fn write(&self, writes: &Writes, known: &mut [u64]) -> Result<(), WriteError> {
        for (role, destination) in &writes.known {
            self.set_known(*role, *destination, known)?;
        }
        for step in &writes.before {
            self.step(step)?;
        }
        for (destination, value) in writes.frontends_in_order() {
            self.frontend(destination, value)
                .map_err(|source| WriteError { destination: Some(destination), source })?;
        }
        for step in &writes.after {
            self.step(step)?;
        }
        Ok(())
    }

    /// What the kernel holds for a destination.
    pub(super) fn read_frontend(&self, destination: Destination) -> Result<Option<FrontendValue>, MapError> {
        let Destination { address, port, protocol } = destination;
        let port = port.to_be();
        match address {
            IpAddr::V4(address) => {
                self.frontends4.get(&FrontendKey4 { address: word(address), port, protocol, pad: 0 })
            }
            IpAddr::V6(address) => {
                self.frontends6.get(&FrontendKey6 { address: words(address), port, protocol, pad: 0 })
            }
        }
    }

    fn frontend(&self, destination: Destination, value: Option<&FrontendValue>) -> Result<(), MapError> {
        let Destination { address, port, protocol } = destination;
        match address {
            IpAddr::V4(address) => {
                let key = FrontendKey4 { address: word(address), port: port.to_be(), protocol, pad: 0 };
                value.map_or_else(
                    || self.frontends4.delete(&key).map(drop),
                    |value| self.frontends4.set(&key, value),
                )
            }
            IpAddr::V6(address) => {
                let key = FrontendKey6 { address: words(address), port: port.to_be(), protocol, pad: 0 };
                value.map_or_else(
                    || self.frontends6.delete(&key).map(drop),
                    |value| self.frontends6.set(&key, value),
                )
            }
        }
    }

    /// Sets the bits of a destination, once.
    pub(super) fn set_known(
        &self,
        role: Role,
        destination: Destination,
        shadow: &mut [u64],
    ) -> Result<(), MapError> {
        let Destination { address, port, protocol } = destination;
        let bit = match address {
            IpAddr::V4(address) => known::bit4(role, word(address), port.to_be(), protocol),
            IpAddr::V6(address) => known::bit6(role, words(address), port.to_be(), protocol),
        };
        let element = usize::try_from(bit.word).ok().and_then(|index| shadow.get_mut(index));
        match element {
            Some(element) if !bit.is_in(*element) => {
                *element |= bit.mask;
                self.known.set(&bit.word, element)
            }
            _ => Ok(()),
        }
    }

    fn step(&self, step: &Step) -> Result<(), MapError> {
        match step {
            Step::Backend(id, value) => self.backends.set(id, value),
            Step::Pool(offset, ids) => self.pool.set_range(*offset, ids),
            Step::AddRange(range) => self.range(*range, true),
            Step::RemoveRange(range) => self.range(*range, false),
            Step::ResetService(id) => {
                self.services.as_ref().map_or(Ok(()), |services| services.reset_traffic(*id))
            }
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

/// Opens one map by its pin.
pub(super) fn open<K: super::map::Plain, V: super::map::Plain>(
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
