//! From the numbers of another agent to those of this one: what flows, affinity and sockets refer to is known by
//! addresses, which both have. Pure.

use std::collections::HashMap;
use std::net::SocketAddr;

use shunt_abi::address::{UDP, from_words};
use shunt_abi::socket::{OriginKey, OriginValue};

use super::flows::Key;
use super::maps::destination;
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

    /// An element of a flow with the numbers of this agent. Connections stay with their backend even when the plan has
    /// neither it nor the frontend any more; datagrams do not, and begin anew.
    pub(super) fn flow<K: Key>(&self, key: &K, value: &K::Value) -> Option<K::Value> {
        let [frontend, backend] = key.ends(value);
        let place = match self.place(&frontend, SocketAddr::new(backend.address, backend.port)) {
            Some(place) => place,
            None if key.protocol() == UDP => return None,
            None => Place { service: self.service(&[frontend]).unwrap_or(0), ..NOBODY },
        };
        let Place { service, backend, generation } = place;
        Some(K::with_numbers(value, service, backend, generation))
    }

    /// What a socket believes its peer to be; `None` if that has no such backend any more.
    pub(super) fn origin(&self, key: &OriginKey, value: &OriginValue) -> Option<OriginValue> {
        let frontend = destination(from_words(value.address), value.port, key.protocol);
        let backend = SocketAddr::new(from_words(key.address), u16::from_be(key.port));
        let Place { backend, generation, .. } = self.place(&frontend, backend)?;
        Some(OriginValue { backend, generation, ..*value })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use shunt_abi::address::{TCP, mapped_words, word};
    use shunt_abi::flow::{FlowKey4, FlowValue4};

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

    /// A flow from a client through 10.96.0.2.
    fn flow(protocol: u8, backend: [u8; 4]) -> (FlowKey4, FlowValue4) {
        let key =
            FlowKey4 { client: word([10, 9, 9, 9].into()), client_port: 4000_u16.to_be(), protocol, slot: 0 };
        let value = FlowValue4 {
            frontend: word([10, 96, 0, 2].into()),
            frontend_port: 80_u16.to_be(),
            backend: word(backend.into()),
            backend_port: 8080_u16.to_be(),
            id: 77,
            generation: 3,
            service: 66,
            last_seen: 5,
            ..FlowValue4::default()
        };
        (key, value)
    }

    #[test]
    fn a_flow_gets_the_numbers_of_this_agent() {
        let model = model();
        let translation = Translation::new(&model);
        let held = translation.place(&at("10.96.0.2", 80), "10.0.0.2:8080".parse().unwrap()).unwrap();
        assert!(held.generation >= 50 && held.service != 66);
        let (key, value) = flow(TCP, [10, 0, 0, 2]);
        let Place { service, backend, generation } = held;
        let expected = FlowValue4 { service, id: backend, generation, ..value };
        assert_eq!(translation.flow(&key, &value), Some(expected));
    }

    #[test]
    fn connections_stay_with_a_backend_that_is_gone_and_datagrams_leave_it() {
        let model = model();
        let translation = Translation::new(&model);
        let (key, value) = flow(TCP, [10, 0, 0, 7]);
        let new = translation.flow(&key, &value).unwrap();
        assert_eq!((new.id, new.backend), (0, value.backend));
        assert_ne!(new.generation, 0, "number 0 has generation 0");
        let (key, value) = flow(UDP, [10, 0, 0, 7]);
        assert_eq!(translation.flow(&key, &value), None);
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
