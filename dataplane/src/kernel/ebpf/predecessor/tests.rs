//! Maps of a build with other layouts, made by hand in a BPF file system of the test's own. Needs root.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use shunt_abi::address::{TCP, mapped_words, word};
use shunt_abi::flow::{FORWARD, FlowKey4, FlowValue4, SEEN_AGAIN};
use shunt_abi::known::Role;
use shunt_abi::reached::{self, ReachedValue};
use shunt_abi::socket::{OriginKey, OriginValue, PeerValue};

use super::sys::{MapKind, create_map};
use super::*;
use crate::kernel::ebpf::known::{self, bits};
use crate::kernel::ebpf::model::Capacities;
use crate::kernel::ebpf::model::samples::{destination as at, frontend, spec};
use crate::kernel::ebpf::programs::Programs;
use crate::kernel::ebpf::service::Surroundings;
use crate::kernel::ebpf::sizes::{Sizes, Wanted};
use crate::plan::{Change, Changes};

/// Values of the other build: other orders, fields of which this one knows nothing, and a key that it cannot know.
const OTHER: [&str; 4] = [
    "FlowValue4:36:colour@0,generation@4,backend@8,service@12,last_seen@16,interface@20,address@24,port@28,flags@30,spare@32,",
    "AffinityValue:24:backend@0,generation@4,last_used@8,weight@16,",
    "BackendValue:28:zone@0,generation@4,port@8,flags@10,address@12,",
    "FlowKey6:44:source@0,destination@16,source_port@32,destination_port@34,protocol@36,direction@37,pad@38,zone@40,",
];

fn in_bpffs(test: impl FnOnce(&Path) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let folder = tempfile::tempdir().unwrap();
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).expect("this test needs root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), none).unwrap();
        test(folder.path());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The folder of the other build.
struct Other(PathBuf);

impl Other {
    fn new(root: &Path) -> Self {
        let path = root.join("shunt/00000001");
        fs::create_dir_all(&path).unwrap();
        let name_of = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
        let replaced: Vec<String> = OTHER.iter().map(|line| name_of(line)).collect();
        let own = Schema::own_text();
        let kept = own.lines().filter(|line| !replaced.contains(&name_of(line)));
        let text = kept.chain(OTHER).collect::<Vec<_>>().join("\n");
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
    Programs::load(&path, false, Some(&sizes)).unwrap();
    let room = Capacities { backends: 100, pool: 100, services: 100, frontends: 100, source_ranges: 100 };
    let mut model = Model::new(Surroundings::default(), room, 500);
    let new = Some(Arc::new(spec("web", &["10.0.0.1:8080", "10.0.0.2:8080"])));
    let frontends = vec![Change { frontend: frontend("10.96.0.2", 80), old: None, new }];
    model.apply(&Changes { frontends, globals: None }, Instant::now());
    (Maps::open(&path).unwrap(), model)
}

const VIP: [u8; 4] = [10, 96, 0, 2];
const CLIENT: [u8; 4] = [10, 9, 9, 9];

fn forward() -> FlowKey4 {
    FlowKey4 {
        source: word(CLIENT.into()),
        destination: word(VIP.into()),
        source_port: 4000_u16.to_be(),
        destination_port: 80_u16.to_be(),
        protocol: TCP,
        direction: FORWARD,
        pad: 0,
    }
}

fn fill(other: &Other) {
    let port = 8080_u16.to_be();
    let backend = word([10, 0, 0, 2].into());
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
    let flow = bytes(&[99, 6, 7, 33, 1234, 5, backend, two(port, SEEN_AGAIN), 99]);
    other.hash(name::FLOWS4, 16, 36, &[(forward().as_bytes(), &flow)]);
    other.hash(name::OPENING4, 16, 36, &[]);
    other.hash(name::FLOWS6, 44, 40, &[(&[1; 44], &[2; 40])]);
    other.hash(name::OPENING6, 44, 40, &[]);
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
        let other = Other::new(root);
        fill(&other);
        let (maps, model) = own(root);
        let earlier = Predecessor::open(other.0.clone());
        let carried = earlier.carry(&model, &maps);
        assert_eq!(carried, Carried { flows: 1, clients: 1, sockets: 1, left: 0 });
        let translation = Translation::new(&model);
        let place = translation.place(&at("10.96.0.2", 80), "10.0.0.2:8080".parse().unwrap()).unwrap();
        assert!(place.generation >= 500);
        let expected = FlowValue4 {
            address: word([10, 0, 0, 2].into()),
            port: 8080_u16.to_be(),
            flags: SEEN_AGAIN,
            backend: place.backend,
            generation: place.generation,
            service: place.service,
            last_seen: 1234,
            interface: 5,
            // A field that the other build does not have.
            client_port: 0,
            pad: 0,
        };
        assert_eq!(maps.flows4.get(&forward()).unwrap(), Some(expected));
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
        let other = Other::new(root);
        fill(&other);
        let (maps, model) = own(root);
        let later = FlowValue4 { last_seen: 1235, flags: 1, ..FlowValue4::default() };
        maps.flows4.set(&forward(), &later).unwrap();
        Predecessor::open(other.0.clone()).carry(&model, &maps);
        assert_eq!(maps.flows4.get(&forward()).unwrap(), Some(later));
    });
}

#[test]
fn the_other_programs_begin_no_flow_any_more_and_drop_nothing() {
    in_bpffs(|root| {
        let other = Other::new(root);
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
        let other = Other::new(root);
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
