//! From the numbers of another agent to those of this one: what flows, affinity and sockets refer to is known by
//! addresses, which both have. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use shunt_abi::address::{UDP, from_word, from_words};
use shunt_abi::flow::{FlowKey4, FlowKey6, FlowValue4, FlowValue6};
use shunt_abi::socket::{OriginKey, OriginValue};

use super::flows::Key;
use super::maps::{destination, from_words6};
use super::model::Model;
use super::service::Service;
use super::write::Destination;

/// A generation that no backend has: number 0 is never used.
const NOBODY: Place = Place { service: 0, backend: 0, generation: 1 };

/// Numbers of this agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) service: u32,
    pub(super) backend: u32,
    pub(super) generation: u32,
}

/// Where frontends and their backends are in the maps of this agent.
#[derive(Debug)]
pub(super) struct Translation<'a> {
    services: HashMap<Destination, &'a Service>,
}

impl<'a> Translation<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        let services = model.services.values();
        let each = services.flat_map(|service| service.values.keys().map(move |key| (*key, service)));
        Self { services: each.collect() }
    }

    /// Number of the Service port that has one of these frontends.
    pub(super) fn service(&self, frontends: &[Destination]) -> Option<u32> {
        frontends.iter().find_map(|frontend| self.services.get(frontend)).map(|service| service.id)
    }

    /// The numbers of a frontend and its backend; `None` if it has no such backend any more.
    pub(super) fn place(&self, frontend: &Destination, backend: SocketAddr) -> Option<Place> {
        let service = self.services.get(frontend)?;
        let held = service.backends.get(&backend)?;
        Some(Place { service: service.id, backend: held.id.index, generation: held.id.generation })
    }

    /// One half of a flow with the numbers of this agent. Connections stay with their backend even when the plan has
    /// neither it nor the frontend any more; datagrams do not, and begin anew.
    pub(super) fn flow<K: Half>(&self, key: &K, value: &K::Value) -> Option<K::Value> {
        let (frontend, backend) = key.ends(value);
        match self.place(&frontend, backend) {
            Some(place) => Some(K::with(value, place)),
            None if key.protocol() == UDP => None,
            None => {
                let service = self.service(&[frontend]).unwrap_or(0);
                Some(K::with(value, Place { service, ..NOBODY }))
            }
        }
    }

    /// What a socket believes its peer to be; `None` if that has no such backend any more.
    pub(super) fn origin(&self, key: &OriginKey, value: &OriginValue) -> Option<OriginValue> {
        let frontend = destination(from_words(value.address), value.port, key.protocol);
        let backend = SocketAddr::new(from_words(key.address), u16::from_be(key.port));
        let Place { backend, generation, .. } = self.place(&frontend, backend)?;
        Some(OriginValue { backend, generation, ..*value })
    }
}

/// One half of a flow, for those who change its numbers.
pub(super) trait Half: Key {
    /// Names of the key's and the value's layout.
    const RECORDS: [&'static str; 2];
    /// Frontend and backend.
    fn ends(&self, value: &Self::Value) -> (Destination, SocketAddr);
    /// The value with other numbers.
    fn with(value: &Self::Value, place: Place) -> Self::Value;
}

macro_rules! half {
    ($key:ident, $value:ident, $address:expr) => {
        impl Half for $key {
            const RECORDS: [&'static str; 2] = [stringify!($key), stringify!($value)];

            fn ends(&self, value: &$value) -> (Destination, SocketAddr) {
                let named = ($address(value.address), value.port);
                let (frontend, backend): ((IpAddr, u16), (IpAddr, u16)) = if self.is_forward() {
                    (($address(self.destination), self.destination_port), named)
                } else {
                    (named, ($address(self.source), self.source_port))
                };
                (
                    destination(frontend.0, frontend.1, self.protocol),
                    SocketAddr::new(backend.0, u16::from_be(backend.1)),
                )
            }

            fn with(value: &$value, place: Place) -> $value {
                let Place { service, backend, generation } = place;
                $value { service, backend, generation, ..*value }
            }
        }
    };
}
half!(FlowKey4, FlowValue4, |word| IpAddr::V4(from_word(word)));
half!(FlowKey6, FlowValue6, from_words6);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use shunt_abi::address::{TCP, mapped_words, word};
    use shunt_abi::flow::{FORWARD, REVERSE};

    use super::*;
    use crate::kernel::ebpf::model::samples::{destination as at, frontend, spec};
    use crate::kernel::ebpf::model::{Capacities, Model};
    use crate::kernel::ebpf::service::Surroundings;
    use crate::plan::{Change, Changes};

    fn model() -> Model {
        let room = Capacities { backends: 100, pool: 100, services: 100, frontends: 100, source_ranges: 100 };
        let mut model = Model::new(Surroundings::default(), room, 50);
        let change = |address, name, endpoints: &[&str]| Change {
            frontend: frontend(address, 80),
            old: None,
            new: Some(Arc::new(spec(name, endpoints))),
        };
        let frontends = vec![
            change("10.96.0.1", "other", &["10.0.0.9:8080"]),
            change("10.96.0.2", "web", &["10.0.0.1:8080", "10.0.0.2:8080"]),
        ];
        model.apply(&Changes { frontends, globals: None }, Instant::now());
        model
    }

    /// Both halves of a flow from a client to a backend of 10.96.0.2.
    fn halves(protocol: u8, backend: [u8; 4]) -> [(FlowKey4, FlowValue4); 2] {
        let (client, vip, backend) =
            (word([10, 9, 9, 9].into()), word([10, 96, 0, 2].into()), word(backend.into()));
        let key = FlowKey4 { protocol, pad: 0, ..FlowKey4::default() };
        let old =
            FlowValue4 { backend: 77, generation: 3, service: 66, last_seen: 5, ..FlowValue4::default() };
        let forward = FlowKey4 {
            source: client,
            destination: vip,
            source_port: 4000_u16.to_be(),
            destination_port: 80_u16.to_be(),
            direction: FORWARD,
            ..key
        };
        let to = FlowValue4 { address: backend, port: 8080_u16.to_be(), ..old };
        let back = FlowValue4 { address: vip, port: 80_u16.to_be(), ..old };
        let reverse = forward.other_half(&to, 0);
        assert_eq!(reverse.direction, REVERSE);
        [(forward, to), (reverse, back)]
    }

    #[test]
    fn both_halves_of_a_flow_get_the_same_numbers_of_this_agent() {
        let model = model();
        let translation = Translation::new(&model);
        let held = translation.place(&at("10.96.0.2", 80), "10.0.0.2:8080".parse().unwrap()).unwrap();
        assert!(held.generation >= 50 && held.service != 66);
        for (key, value) in halves(TCP, [10, 0, 0, 2]) {
            let new = translation.flow(&key, &value).unwrap();
            let numbers = Place { service: new.service, backend: new.backend, generation: new.generation };
            assert_eq!(numbers, held);
            assert_eq!((new.address, new.port, new.last_seen), (value.address, value.port, value.last_seen));
        }
    }

    #[test]
    fn connections_stay_with_a_backend_that_is_gone_and_datagrams_leave_it() {
        let model = model();
        let translation = Translation::new(&model);
        for (key, value) in halves(TCP, [10, 0, 0, 7]) {
            let new = translation.flow(&key, &value).unwrap();
            assert_eq!((new.backend, new.address), (0, value.address));
            assert_ne!(new.generation, 0, "number 0 has generation 0");
        }
        for (key, value) in halves(UDP, [10, 0, 0, 7]) {
            assert_eq!(translation.flow(&key, &value), None);
        }
    }

    #[test]
    fn sockets_keep_what_they_believe_their_peer_to_be() {
        let model = model();
        let translation = Translation::new(&model);
        let words = |text: &str| mapped_words(text.parse().unwrap());
        let key = OriginKey {
            address: words("10.0.0.1"),
            port: 8080_u16.to_be(),
            protocol: TCP,
            ..OriginKey::default()
        };
        let old = OriginValue {
            address: words("10.96.0.2"),
            port: 80_u16.to_be(),
            backend: 70,
            ..OriginValue::default()
        };
        let new = translation.origin(&key, &old).unwrap();
        let held = translation.place(&at("10.96.0.2", 80), "10.0.0.1:8080".parse().unwrap()).unwrap();
        assert_eq!((new.address, new.backend, new.generation), (old.address, held.backend, held.generation));
        assert_eq!(translation.origin(&OriginKey { port: 1, ..key }, &old), None);
    }

    #[test]
    fn a_service_is_known_by_any_of_its_frontends() {
        let model = model();
        let translation = Translation::new(&model);
        let gone = at("10.96.0.8", 80);
        assert_eq!(translation.service(&[gone]), None);
        assert!(translation.service(&[gone, at("10.96.0.2", 80)]).is_some());
    }
}
