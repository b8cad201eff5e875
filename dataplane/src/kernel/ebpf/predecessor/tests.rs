//! Maps of a build with other layouts, made by hand in a BPF file system of the test's own. Needs root.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use shunt_abi::address::{TCP, mapped_words, word};
use shunt_abi::flow::{ESTABLISHED, FlowKey4, FlowValue4, HAIRPIN, MORE, VACANT};
use shunt_abi::known::Role;
use shunt_abi::reached::{self, ReachedValue};
use shunt_abi::socket::{OriginKey, OriginValue, PeerValue};

use super::sys::{MapKind, create_map};
use super::*;
use crate::domain::IpFamily;
use crate::kernel::ebpf::known::{self, bits};
use crate::kernel::ebpf::model::Capacities;
use crate::kernel::ebpf::model::samples::{destination as at, frontend, spec};
use crate::kernel::ebpf::programs::Programs;
use crate::kernel::ebpf::scratch::in_bpffs;
use crate::kernel::ebpf::service::Surroundings;
use crate::kernel::ebpf::sizes::{Sizes, Wanted};
use crate::plan::{Change, Changes};
use crate::serve::Lines;

/// Values of a build in the other order, with fields of which this one knows nothing, and a key that it cannot know.
const OTHER: [&str; 4] = [
    "FlowValue4:56:colour@0,last_seen@4,generation@8,id@12,service@16,interface@20,place@24,frontend@28,backend@32,\
     chain@36,by_backend@37,by_client@38,pad@39,frontend_port@40,backend_port@42,client_port@44,flags@46,spare@48,",
    "AffinityValue:24:backend@0,generation@4,last_used@8,weight@16,",
    "BackendValue:28:zone@0,generation@4,port@8,flags@10,address@12,",
    "FlowKey6:24:client@0,client_port@16,protocol@18,slot@19,zone@20,",
];

/// Of a build whose flows had two halves each, in other maps.
const HALVES: [&str; 4] = [
    "FlowKey4:16:source@0,destination@4,source_port@8,destination_port@10,protocol@12,direction@13,pad@14,",
    "FlowKey6:40:source@0,destination@16,source_port@32,destination_port@34,protocol@36,direction@37,pad@38,",
    "FlowValue4:32:address@0,port@4,flags@6,backend@8,generation@12,service@16,last_seen@20,interface@24,\
     client_port@28,pad@30,",
    "FlowValue6:44:address@0,port@16,flags@18,backend@20,generation@24,service@28,last_seen@32,interface@36,\
     client_port@40,pad@42,",
];

/// The folder of the other build.
struct Other(PathBuf);

impl Other {
    /// With these layouts in the place of ours.
    fn new(root: &Path, layouts: &[&str]) -> Self {
        let path = root.join("shunt/00000001");
        fs::create_dir_all(&path).unwrap();
        let name_of = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
        let replaced: Vec<String> = layouts.iter().map(|line| name_of(line)).collect();
        let own = Schema::own_text();
        let kept = own.lines().filter(|line| !replaced.contains(&name_of(line)));
        let text = kept.chain(layouts.iter().copied()).collect::<Vec<_>>().join("\n");
        let other = Self(path);
        let size = u32::try_from(text.len()).unwrap();
        other.map(SCHEMA, MapKind::Array, [4, size, 1], &[(&[0; 4], text.as_bytes())]);
        other
    }

    fn map(&self, name: &str, kind: MapKind, sizes: [u32; 3], elements: &[(&[u8], &[u8])]) {
        let map = create_map(kind, sizes).unwrap();
        for (key, value) in elements {
            sys::update(map.as_fd(), key, value).unwrap();
        }
        sys::pin(map.as_fd(), &self.0.join(name)).unwrap();
    }

    fn hash(&self, name: &str, key: u32, value: u32, elements: &[(&[u8], &[u8])]) {
        self.map(name, MapKind::Hash, [key, value, 64], elements);
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn two(high: u16, low: u16) -> u32 {
    let ([a, b], [c, d]) = (high.to_ne_bytes(), low.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// Maps of our own with a Service of two endpoints.
fn own(root: &Path) -> (Maps, Model) {
    let path = root.join("shunt/own");
    fs::create_dir_all(&path).unwrap();
    let sizes = Sizes::new(&Wanted::default(), 1 << 30, 2, false);
    Programs::load(&path, false, Some(&sizes), false).unwrap();
    let room = Capacities { backends: 100, pool: 100, services: 100, frontends: 100, source_ranges: 100 };
    let mut model = Model::new(Surroundings::default(), room, 500);
    let new = Some(Arc::new(spec("web", &["10.0.0.1:8080", "10.0.0.2:8080"])));
    let frontends = vec![Change { frontend: frontend("10.96.0.2", 80), old: None, new }];
    model.apply(&Changes { frontends, globals: None }, Instant::now());
    (Maps::open(&path).unwrap(), model)
}

const VIP: [u8; 4] = [10, 96, 0, 2];
const CLIENT: [u8; 4] = [10, 9, 9, 9];

fn key(slot: u8) -> FlowKey4 {
    FlowKey4 { client: word(CLIENT.into()), client_port: 4000_u16.to_be(), protocol: TCP, slot }
}

/// A flow of the other build, in its order.
fn flow(backend: [u8; 4], frontend: u16, (chain, by_client): (u8, u8)) -> Vec<u8> {
    let bits = u32::from_ne_bytes([chain, 0, by_client, 0]);
    let ports = two(frontend.to_be(), 8080_u16.to_be());
    let (frontend, backend) = (word(VIP.into()), word(backend.into()));
    bytes(&[99, 1234, 6, 7, 33, 5, 17, frontend, backend, bits, ports, two(0, HAIRPIN), 99, 99])
}

/// Flows of the other build.
fn fill_flows(other: &Other) {
    let flows = [
        (key(0), flow([10, 0, 0, 2], 80, (MORE | VACANT, ESTABLISHED))),
        (key(1), flow([10, 0, 0, 2], 80, (MORE, ESTABLISHED))),
        (key(2), flow([10, 0, 0, 2], 443, (0, 0))),
    ];
    let flows: Vec<_> = flows.iter().map(|(key, value)| (key.as_bytes(), &value[..])).collect();
    other.hash(name::FLOWS4, 8, 56, &flows);
    other.hash(name::FLOWS6, 24, 68, &[(&[1; 24], &[2; 68])]);
}

/// What else the other build has.
fn fill(other: &Other) {
    let port = 8080_u16.to_be();
    let vip = FrontendKey4 { address: word(VIP.into()), port: 80_u16.to_be(), protocol: TCP, pad: 0 };
    let whole = FrontendKey4 { port: 0, protocol: 0, ..vip };
    let value = FrontendValue { service: 33, ..FrontendValue::default() };
    other.hash(
        name::FRONTENDS4,
        8,
        32,
        &[(vip.as_bytes(), value.as_bytes()), (whole.as_bytes(), FrontendValue::default().as_bytes())],
    );
    other.hash(name::FRONTENDS6, 20, 32, &[]);
    let [a, b, c, d] = mapped_words(std::net::IpAddr::from([10, 0, 0, 2]));
    let held = bytes(&[1, 6, two(port, 0), a, b, c, d]);
    other.map(name::BACKENDS, MapKind::Array, [4, 28, 64], &[(&7_u32.to_ne_bytes(), &held)]);
    let client = AffinityKey4 { client: word(CLIENT.into()), service: 33 };
    let had = bytes(&[7, 6, 4_000_000, 0, 9, 9]);
    other.hash(name::AFFINITY4, 8, 24, &[(client.as_bytes(), &had)]);
    other.hash(name::AFFINITY6, 20, 24, &[]);
    let origin = OriginKey { cookie: 12, address: [a, b, c, d], port, protocol: TCP, pad: [0; 5] };
    let named = OriginValue {
        address: mapped_words(VIP.into()),
        port: 80_u16.to_be(),
        backend: 7,
        generation: 6,
        ..OriginValue::default()
    };
    other.hash(name::ORIGINS, 32, 28, &[(origin.as_bytes(), named.as_bytes())]);
    let mut config = Config { flags: 4, hash_seed: 77, ..Config::default() };
    if let Some(range) = config.services4.first_mut() {
        *range = shunt_abi::config::Range4 {
            network: word([10, 96, 0, 0].into()),
            mask: word([255, 255, 0, 0].into()),
        };
    }
    other.map(
        name::CONFIG,
        MapKind::Array,
        [4, size_of::<Config>().try_into().unwrap(), 1],
        &[(&[0; 4], config.as_bytes())],
    );
}

#[test]
fn maps_of_other_layouts_are_read_field_by_field_and_what_cannot_be_read_is_left_out() {
    in_bpffs(|root| {
        let other = Other::new(root, &OTHER);
        fill(&other);
        fill_flows(&other);
        let (maps, model) = own(root);
        let earlier = Predecessor::open(other.0.clone());
        let carried = earlier.carry(&model, &maps);
        assert_eq!(carried, Carried { flows: 2, clients: 1, sockets: 1, left: 0 });
        let translation = Translation::new(&model);
        let place = translation.place(&at("10.96.0.2", 80), "10.0.0.2:8080".parse().unwrap()).unwrap();
        assert!(place.generation >= 500);
        let expected = FlowValue4 {
            frontend: word(VIP.into()),
            frontend_port: 80_u16.to_be(),
            backend: word([10, 0, 0, 2].into()),
            backend_port: 8080_u16.to_be(),
            flags: HAIRPIN,
            client_port: 0,
            by_client: ESTABLISHED,
            by_backend: 0,
            chain: MORE,
            pad: 0,
            last_seen: 1234,
            id: place.backend,
            generation: place.generation,
            service: place.service,
            interface: 5,
            // Its ring is not ours.
            place: 0,
            client: 0,
            backend_interface: 0,
        };
        assert_eq!(maps.flows4.get(&key(0)).unwrap(), Some(expected), "the vacant slot is left out");
        let half_open = maps.flows4.get(&key(1)).unwrap().unwrap();
        assert_eq!((half_open.frontend_port, half_open.chain, half_open.id), (443_u16.to_be(), 0, 0));
        assert_eq!(maps.flows4.get(&key(2)).unwrap(), None);
        let established = IpFamily::ALL.map(|family| maps.established.read(family));
        assert_eq!(established, [1, 0], "the half-open one does not count");
        let backend = reached::element(bits(Role::Backend, at("10.0.0.2", 8080)));
        assert_eq!(
            maps.reached.get(&backend).unwrap(),
            Some(ReachedValue::ANYBODY),
            "or replies are not looked up"
        );
        let host = known::place("10.0.0.2".parse().unwrap());
        assert_eq!(maps.reached_hosts.get(&host.word).unwrap(), Some(reached::ALL_HOSTS), "nor these");
        assert!(host.is_in(Role::Backend, maps.roles.get(&host.word).unwrap().unwrap()), "nor requests");
        assert!(maps.flows6.entries().unwrap().is_empty(), "keys with an unknown part cannot be read");
        assert_eq!(earlier.carry(&model, &maps).flows, 2, "what is as new is taken once more, not added");
        assert_eq!((maps.flows4.entries().unwrap().len(), maps.established.read(IpFamily::V4)), (2, 1));
        let client = AffinityKey4 { client: word(CLIENT.into()), service: place.service };
        let had =
            AffinityValue { last_used: 4_000_000, backend: place.backend, generation: place.generation };
        assert_eq!(maps.affinity4.entries().unwrap(), [(client, had)]);
        let origins = maps.origins.entries().unwrap();
        assert_eq!((origins[0].1.backend, origins[0].1.generation), (place.backend, place.generation));
    });
}

#[test]
fn what_this_agent_has_seen_later_is_not_overwritten() {
    in_bpffs(|root| {
        let other = Other::new(root, &OTHER);
        fill(&other);
        fill_flows(&other);
        let (maps, model) = own(root);
        let later = FlowValue4 {
            frontend: word(VIP.into()),
            frontend_port: 80_u16.to_be(),
            backend: word([10, 0, 0, 2].into()),
            backend_port: 8080_u16.to_be(),
            last_seen: 1235,
            ..FlowValue4::default()
        };
        maps.flows4.set(&key(0), &later).unwrap();
        Predecessor::open(other.0.clone()).carry(&model, &maps);
        let expected = FlowValue4 { chain: MORE, ..later };
        assert_eq!(maps.flows4.get(&key(0)).unwrap(), Some(expected), "but for the one that follows it");
    });
}

/// What is said meanwhile.
fn said(job: impl FnOnce()) -> String {
    let lines = Lines::default();
    let to = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || to.clone()).finish();
    tracing::subscriber::with_default(subscriber, job);
    lines.text()
}

#[test]
fn flows_of_a_build_that_had_two_halves_of_each_are_named_and_everything_else_goes_on() {
    in_bpffs(|root| {
        let [_, affinity, backend, _] = OTHER;
        let [key4, key6, value4, value6] = HALVES;
        let other = Other::new(root, &[key4, key6, value4, value6, affinity, backend]);
        fill(&other);
        for (four, six) in [(name::FLOWS4, name::FLOWS6), ("OPENING4", "OPENING6")] {
            other.hash(four, 16, 32, &[(&[1; 16], &[2; 32])]);
            other.hash(six, 40, 44, &[(&[1; 40], &[2; 44])]);
        }
        let (maps, model) = own(root);
        let mut carried = Carried::default();
        let words = said(|| {
            let earlier = Predecessor::open(other.0.clone());
            carried = earlier.carry(&model, &maps);
            earlier.take_no_more();
        });
        assert_eq!(carried, Carried { flows: 0, clients: 1, sockets: 1, left: 0 });
        assert_eq!((maps.flows4.entries().unwrap().len(), maps.flows6.entries().unwrap().len()), (0, 0));
        let lines: Vec<&str> = words.lines().collect();
        assert_eq!(lines.len(), 2, "{words}");
        for (line, map, record) in [(lines[0], "FLOWS4", "FlowKey4"), (lines[1], "FLOWS6", "FlowKey6")] {
            assert!(line.contains("WARN") && line.contains("not carried over"), "{line}");
            assert!(line.contains(map) && line.contains(record) && line.contains("client"), "{line}");
        }
        let frontends = RawMap::open(&other.0, name::FRONTENDS4).unwrap();
        frontends.visit(&mut |keys, _values| assert!(keys.is_empty(), "it begins no flow any more")).unwrap();
    });
}

#[test]
fn the_other_programs_begin_no_flow_any_more_and_drop_nothing() {
    in_bpffs(|root| {
        let other = Other::new(root, &OTHER);
        fill(&other);
        let earlier = Predecessor::open(other.0.clone());
        assert_eq!(earlier.config().map(|config| (config.hash_seed, config.flags)), Some((77, 4)));
        earlier.take_no_more();
        let mut left = 0;
        let frontends = RawMap::open(&other.0, name::FRONTENDS4).unwrap();
        frontends.visit(&mut |keys, _values| left += keys.len()).unwrap();
        assert_eq!(left, 0);
        let config = RawMap::open(&other.0, name::CONFIG).unwrap().get(&[0; 4]).unwrap().unwrap();
        let expected = Config { flags: 4, hash_seed: 77, ..Config::default() };
        assert_eq!(config, expected.as_bytes());
    });
}

/// A connected socket, with the other build's numbers.
fn peer(cookie: u64, address: [u8; 4]) -> PeerValue {
    PeerValue {
        cookie,
        backend_address: mapped_words(std::net::IpAddr::from([10, 0, 0, 2])),
        address: mapped_words(address.into()),
        backend_port: 8080_u16.to_be(),
        port: 80_u16.to_be(),
        backend: 7,
        generation: 6,
        protocol: TCP,
        ..PeerValue::default()
    }
    .summed()
}

#[test]
fn connected_sockets_keep_their_places_and_those_without_one_are_found_elsewhere() {
    in_bpffs(|root| {
        let other = Other::new(root, &OTHER);
        fill(&other);
        let (maps, model) = own(root);
        let capacity = maps.peers.capacity();
        let own_place = PeerValue::index(5, capacity);
        let later = peer(5 + u64::from(capacity), VIP);
        maps.peers.set(&own_place, &later).unwrap();
        let [seen, taken, gone] = [peer(3, VIP), peer(5, VIP), peer(6, [10, 96, 0, 3])];
        let torn = PeerValue { port: 81_u16.to_be(), ..peer(7, VIP) };
        let held = [&seen, &taken, &gone, &torn];
        let keys = held.map(|peer| PeerValue::index(peer.cookie, 8).to_ne_bytes());
        let elements: Vec<(&[u8], &[u8])> =
            keys.iter().zip(held).map(|(key, peer)| (key.as_slice(), peer.as_bytes())).collect();
        other.map(name::PEERS, MapKind::Array, [4, 64, 8], &elements);
        let carried = Predecessor::open(other.0.clone()).carry(&model, &maps);
        assert_eq!((carried.sockets, carried.left), (3, 1));
        let translation = Translation::new(&model);
        let place = translation.place(&at("10.96.0.2", 80), "10.0.0.2:8080".parse().unwrap()).unwrap();
        let expected = |mut peer: PeerValue| {
            (peer.backend, peer.generation) = (place.backend, place.generation);
            peer.summed()
        };
        let in_place = |peer: &PeerValue| maps.peers.get(&PeerValue::index(peer.cookie, capacity)).unwrap();
        assert_eq!(in_place(&seen), Some(expected(seen)));
        assert_eq!(in_place(&taken), Some(later));
        for carried in [&seen, &taken] {
            let (key, value) = expected(*carried).origin();
            assert_eq!(maps.origin(&key).unwrap(), Some(value));
        }
        for left in [&gone, &torn] {
            assert_eq!(maps.origin(&left.origin().0).unwrap(), None);
        }
    });
}
