//! What an agent with maps of other layouts or sizes has left: its programs run on beside ours until ours know its flows.
//!
//! The order, in which every packet finds a program that knows its flow: our maps are filled from the plan, flows are
//! copied, our programs are attached behind the old ones, the old ones lose their frontends and so begin no flow any
//! more, flows that began meanwhile are copied, and the old programs go. What cannot be read is left out, and said so:
//! connections then live on by the choice of backends, which is the same in every build.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use shunt_abi::address::{from_word, from_words};
use shunt_abi::affinity::{AffinityKey4, AffinityKey6, AffinityValue};
use shunt_abi::backend::BackendValue;
use shunt_abi::config::Config;
use shunt_abi::frontend::{FrontendKey4, FrontendKey6, FrontendValue};
use shunt_abi::name;
use zerocopy::IntoBytes as _;

use super::flow_maps::FlowMaps;
use super::flows::Key;
use super::map::{MapError, Plain, RawMap, TypedMap};
use super::maps::{Maps, destination, from_words6};
use super::model::Model;
use super::schema::{Conversion, Part, Schema, Unreadable};
use super::translation::Translation;
use super::write::Destination;
use super::{sys, words};

/// Name of the pinned map that describes the others.
const SCHEMA: &str = "SCHEMA";
/// No description is longer.
const LONGEST: usize = 1 << 20;

/// Why something of another agent was not carried over.
#[derive(Debug, thiserror::Error)]
enum CarryError {
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// Copies one map and adds to the sum.
type Job<'a> = dyn Fn(&mut Carried) -> Result<(), CarryError> + 'a;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    /// Flows.
    pub(super) flows: u64,
    /// Clients with affinity.
    pub(super) clients: u64,
    /// Sockets.
    pub(super) sockets: u64,
    /// What there was no room for, or what leads nowhere any more.
    pub(super) left: u64,
}

impl Carried {
    /// The sum.
    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            flows: self.flows + other.flows,
            clients: self.clients + other.clients,
            sockets: self.sockets + other.sockets,
            left: self.left + other.left,
        }
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flows, clients, sockets, left } = self;
        write!(f, "{flows} flows, {clients} clients, {sockets} sockets; {left} left out")
    }
}

/// The folder of another agent.
#[derive(Debug)]
pub(super) struct Predecessor {
    path: PathBuf,
    schema: Result<Schema, String>,
    /// Frontends by the number of their Service port there. Read before they are removed.
    services: HashMap<u32, Vec<Destination>>,
    /// Backends there.
    backends: HashMap<u32, (SocketAddr, u32)>,
}

/// Describes the maps in a folder of ours, for agents to come.
pub(super) fn leave_schema(directory: &Path) -> Result<(), MapError> {
    let failed = |source| MapError::Kernel { name: SCHEMA, operation: "leave the layouts in words", source };
    let path = directory.join(SCHEMA);
    if path.exists() {
        return Ok(());
    }
    let text = Schema::own_text();
    let size = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let map = sys::create_map(sys::MapKind::Array, [4, size, 1]).map_err(failed)?;
    sys::update(map.as_fd(), 0_u32.as_bytes(), text.as_bytes()).map_err(failed)?;
    sys::pin(map.as_fd(), &path).map_err(failed)
}

fn read_schema(directory: &Path) -> Result<Schema, CarryError> {
    let map = RawMap::open(directory, SCHEMA)?;
    if map.sizes().1 > LONGEST {
        return Err(Unreadable::Garbled.into());
    }
    let text = map.get(0_u32.as_bytes())?.unwrap_or_default();
    Ok(Schema::parse(&String::from_utf8_lossy(&text))?)
}

impl Predecessor {
    /// What is in a folder. Without a description, or with one that cannot be read, nothing of it can be carried over.
    pub(super) fn open(path: PathBuf) -> Self {
        let schema = read_schema(&path).map_err(|error| words(&error));
        if let Err(error) = &schema {
            tracing::warn!(folder = %path.display(), "flows of an earlier build are not carried over: {error}");
        }
        let mut found = Self { path, schema, services: HashMap::new(), backends: HashMap::new() };
        found.attempt("frontends", Self::read_services);
        found.attempt("backends", Self::read_backends);
        found
    }

    /// What our configuration has to agree with: the seed by which backends are chosen, and whether flows are adopted.
    pub(super) fn config(&self) -> Option<Config> {
        let schema = self.schema.as_ref().ok()?;
        let map = RawMap::open(&self.path, name::CONFIG).ok()?;
        let bytes = map.get(0_u32.as_bytes()).ok()??;
        let field = |field: &str| -> Option<u32> {
            let place = schema.field("Config", field)?;
            Some(u32::from_ne_bytes(bytes.get(place)?.try_into().ok()?))
        };
        Some(Config { flags: field("flags")?, hash_seed: field("hash_seed")?, ..Config::default() })
    }

    /// Copies flows, affinity and sockets into our maps, with our numbers. What we have ourselves stays if it is newer.
    pub(super) fn carry(&self, model: &Model, maps: &Maps) -> Carried {
        let translation = Translation::new(model);
        let mut carried = Carried::default();
        let (four, six) = (maps.flow_maps4(), maps.flow_maps6());
        let jobs: [(&'static str, &Job<'_>); 6] = [
            (name::FLOWS4, &|sum| self.flows(name::FLOWS4, &four, &translation, sum)),
            (name::FLOWS6, &|sum| self.flows(name::FLOWS6, &six, &translation, sum)),
            (name::AFFINITY4, &|sum| self.affinity(name::AFFINITY4, &maps.affinity4, &translation, sum)),
            (name::AFFINITY6, &|sum| self.affinity(name::AFFINITY6, &maps.affinity6, &translation, sum)),
            (name::ORIGINS, &|sum| self.origins(maps, &translation, sum)),
            (name::PEERS, &|sum| self.peers(maps, &translation, sum)),
        ];
        for (map, job) in jobs {
            // Said once, when it was opened.
            if self.schema.is_ok()
                && let Err(error) = job(&mut carried)
            {
                tracing::warn!(map, "not carried over from an earlier build: {}", words(&error));
            }
        }
        carried
    }

    /// Has the old programs begin no flow any more: they know no frontend, and drop nothing.
    pub(super) fn take_no_more(&self) {
        if self.schema.is_err() {
            return;
        }
        self.attempt_ref("configuration", Self::allow_all);
        self.attempt_ref("frontends", |earlier| {
            earlier.remove_frontends::<FrontendKey4>(name::FRONTENDS4, |key| {
                key.port == 0 && key.protocol == 0
            })?;
            earlier
                .remove_frontends::<FrontendKey6>(name::FRONTENDS6, |key| key.port == 0 && key.protocol == 0)
        });
    }

    fn attempt(&mut self, what: &str, job: fn(&mut Self) -> Result<(), CarryError>) {
        if self.schema.is_ok()
            && let Err(error) = job(self)
        {
            tracing::warn!("{what} of an earlier build cannot be read: {}", words(&error));
        }
    }

    fn attempt_ref(&self, what: &str, job: impl Fn(&Self) -> Result<(), CarryError>) {
        if let Err(error) = job(self) {
            tracing::warn!("{what} of an earlier build cannot be changed: {}", words(&error));
        }
    }

    fn conversion(&self, record: &'static str, part: Part, size: usize) -> Result<Conversion, Unreadable> {
        self.schema.as_ref().map_err(|_reason| Unreadable::Garbled)?.conversion(record, part, size)
    }

    /// Shows all elements of a map, as this build has them.
    fn read<K: Plain, V: Plain>(
        &self,
        name: &'static str,
        [key, value]: [&'static str; 2],
        each: &mut dyn FnMut(K, V),
    ) -> Result<(), CarryError> {
        let map = RawMap::open(&self.path, name)?;
        let (key_size, value_size) = map.sizes();
        let keys = self.conversion(key, Part::Key, key_size)?;
        let values = self.conversion(value, Part::Value, value_size)?;
        map.visit(&mut |raw_keys, raw_values| {
            for (key, value) in raw_keys.chunks_exact(key_size).zip(raw_values.chunks_exact(value_size)) {
                if let (Some(key), Some(value)) = (keys.convert(key), values.convert(value)) {
                    each(key, value);
                }
            }
        })?;
        Ok(())
    }

    fn read_services(&mut self) -> Result<(), CarryError> {
        let mut found: HashMap<u32, Vec<Destination>> = HashMap::new();
        self.read(
            name::FRONTENDS4,
            ["FrontendKey4", "FrontendValue"],
            &mut |key: FrontendKey4, value: FrontendValue| {
                let at = destination(from_word(key.address).into(), key.port, key.protocol);
                found.entry(value.service).or_default().push(at);
            },
        )?;
        self.read(
            name::FRONTENDS6,
            ["FrontendKey6", "FrontendValue"],
            &mut |key: FrontendKey6, value: FrontendValue| {
                let at = destination(from_words6(key.address), key.port, key.protocol);
                found.entry(value.service).or_default().push(at);
            },
        )?;
        self.services = found;
        Ok(())
    }

    fn read_backends(&mut self) -> Result<(), CarryError> {
        let mut found = HashMap::new();
        self.read_array(name::BACKENDS, "BackendValue", &mut |index, value: BackendValue| {
            if value.generation != 0 {
                let socket = SocketAddr::new(from_words(value.address), u16::from_be(value.port));
                found.insert(index, (socket, value.generation));
            }
        })?;
        self.backends = found;
        Ok(())
    }

    /// Shows all elements of an array, as this build has them.
    fn read_array<V: Plain>(
        &self,
        name: &'static str,
        record: &'static str,
        each: &mut dyn FnMut(u32, V),
    ) -> Result<(), CarryError> {
        let map = RawMap::open(&self.path, name)?;
        let (key_size, value_size) = map.sizes();
        let values = self.conversion(record, Part::Value, value_size)?;
        map.visit(&mut |raw_keys, raw_values| {
            for (key, value) in raw_keys.chunks_exact(key_size).zip(raw_values.chunks_exact(value_size)) {
                if let (Ok(index), Some(value)) =
                    (key.try_into().map(u32::from_ne_bytes), values.convert(value))
                {
                    each(index, value);
                }
            }
        })?;
        Ok(())
    }

    fn flows<K: Key>(
        &self,
        name: &'static str,
        maps: &FlowMaps<'_, K>,
        translation: &Translation<'_>,
        carried: &mut Carried,
    ) -> Result<(), CarryError> {
        let mut full = None;
        let mut take = |key: &K, value: &K::Value| {
            match translation.flow(key, value).map(|value| maps.take(key, &value)) {
                // An alias is of a flow that is counted.
                Some(Ok(taken)) => carried.flows += u64::from(taken && !K::state(value).is_alias()),
                None => carried.left += 1,
                Some(Err(error)) => {
                    carried.left += 1;
                    full = Some(error);
                }
            }
        };
        // Those in higher slots come after those that they follow, to be where they were.
        let mut others = Vec::new();
        self.read(name, K::RECORDS, &mut |key: K, value: K::Value| match key.slot() {
            _ if K::state(&value).is_vacant() => {}
            0 => take(&key, &value),
            _ => others.push((key, value)),
        })?;
        others.sort_by_key(|(key, _)| key.slot());
        for (key, value) in &others {
            take(key, value);
        }
        full.map_or(Ok(()), |error| Err(error.into()))
    }

    fn affinity<K: Client>(
        &self,
        name: &'static str,
        into: &TypedMap<K, AffinityValue>,
        translation: &Translation<'_>,
        carried: &mut Carried,
    ) -> Result<(), CarryError> {
        let mut found = Vec::new();
        self.read(name, [K::RECORD, "AffinityValue"], &mut |key: K, value: AffinityValue| {
            found.push((key, value));
        })?;
        for (key, value) in found {
            let Some((key, value)) = self.client(key, &value, translation) else {
                carried.left += 1;
                continue;
            };
            if into.get(&key)?.is_none_or(|own| own.last_used < value.last_used) {
                into.set(&key, &value)?;
                carried.clients += 1;
            }
        }
        Ok(())
    }

    /// A client with our numbers; `None` if its backend or its Service is gone.
    fn client<K: Client>(
        &self,
        key: K,
        value: &AffinityValue,
        translation: &Translation<'_>,
    ) -> Option<(K, AffinityValue)> {
        let frontends = self.services.get(&key.service())?;
        let &(socket, generation) = self.backends.get(&value.backend)?;
        let place = frontends.iter().find_map(|frontend| translation.place(frontend, socket))?;
        let new = AffinityValue { backend: place.backend, generation: place.generation, ..*value };
        (generation == value.generation).then(|| (key.of_service(place.service), new))
    }

    /// No address is in a range of Services any more, so that none is dropped for belonging to no frontend.
    fn allow_all(&self) -> Result<(), CarryError> {
        let schema = self.schema.as_ref().map_err(|_reason| Unreadable::Garbled)?;
        let map = RawMap::open(&self.path, name::CONFIG)?;
        let Some(mut bytes) = map.get(0_u32.as_bytes())? else { return Ok(()) };
        let none = Config::default();
        for (field, value) in
            [("services4", none.services4.as_bytes()), ("services6", none.services6.as_bytes())]
        {
            let place = schema.field("Config", field).and_then(|place| bytes.get_mut(place));
            let place = place.filter(|place| place.len() == value.len());
            let missing = || Unreadable::Field { record: "Config", field: field.to_owned() };
            place.ok_or_else(missing)?.copy_from_slice(value);
        }
        Ok(map.set(0_u32.as_bytes(), &bytes)?)
    }

    /// Whole addresses first: they reject what no other frontend takes.
    fn remove_frontends<K: FrontendKey>(
        &self,
        name: &'static str,
        is_whole: fn(&K) -> bool,
    ) -> Result<(), CarryError> {
        let map = RawMap::open(&self.path, name)?;
        let (key_size, _) = map.sizes();
        let conversion = self.conversion(K::RECORD, Part::Key, key_size)?;
        let (mut whole, mut others) = (Vec::new(), Vec::new());
        map.visit(&mut |keys, _values| {
            for key in keys.chunks_exact(key_size) {
                let is_whole = conversion.convert(key).is_some_and(|key: K| is_whole(&key));
                if is_whole { &mut whole } else { &mut others }.push(key.to_vec());
            }
        })?;
        whole.iter().chain(&others).try_for_each(|key| map.delete(key).map(drop))?;
        Ok(())
    }
}

/// Key of a frontend, either family.
trait FrontendKey: Plain {
    const RECORD: &'static str;
}

impl FrontendKey for FrontendKey4 {
    const RECORD: &'static str = "FrontendKey4";
}

impl FrontendKey for FrontendKey6 {
    const RECORD: &'static str = "FrontendKey6";
}

/// A client of a Service port, either family.
trait Client: Plain {
    const RECORD: &'static str;
    fn service(&self) -> u32;
    fn of_service(self, service: u32) -> Self;
}

macro_rules! client {
    ($key:ident) => {
        impl Client for $key {
            const RECORD: &'static str = stringify!($key);

            fn service(&self) -> u32 {
                self.service
            }

            fn of_service(self, service: u32) -> Self {
                Self { service, ..self }
            }
        }
    };
}
client!(AffinityKey4);
client!(AffinityKey6);

mod sockets;
#[cfg(test)]
mod tests;
