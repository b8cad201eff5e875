//! The programs in the kernel, with maps of their own that a test fills.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader, Pod, include_bytes_aligned,
    maps::{Array, HashMap, MapData, PerCpuArray, ProgramArray},
    programs::{
        CgroupAttachMode, CgroupSockAddr, SchedClassifier, TcAttachType, TestRun as _, TestRunOptions,
    },
};
use shunt_abi::{
    address::{mapped_words, word, words},
    affinity::{AffinityKey4, AffinityKey6, AffinityValue},
    backend::{self, BackendValue},
    config::{Config, MASQUERADES4, MASQUERADES6},
    counter::Counter,
    flow::{FlowKey4, FlowKey6, FlowValue4, FlowValue6},
    fragment::{FragmentKey4, FragmentKey6, FragmentValue4, FragmentValue6},
    frontend::{self, FrontendKey4, FrontendKey6, FrontendValue},
    interface::InterfaceValue,
    known::{self, Bits, Role},
    name, roles,
    service::ServiceCounters,
    tail::Tail,
};

use crate::{checksums, packet::Packet};

static OBJECT: &[u8] = include_bytes_aligned!(env!("SHUNT_DATAPATH_OBJECT_PATH"));

/// Names another object file to test or measure than the one that the agent embeds.
const OTHER_OBJECT: &str = "SHUNT_PACKETS_OBJECT";

fn object() -> Cow<'static, [u8]> {
    std::env::var_os(OTHER_OBJECT).map_or(Cow::Borrowed(OBJECT), |path| Cow::Owned(fs::read(path).unwrap()))
}

/// Verdicts of tc programs.
pub(crate) const NEXT: i32 = -1;
pub(crate) const DROP: i32 = 2;
pub(crate) const REDIRECT: i32 = 7;

/// Sets of counters that tests ask for by name.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// What became of a packet.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: i32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) mark: u32,
    pub(crate) duration: Duration,
}

impl Outcome {
    pub(crate) fn packet(&self) -> Packet {
        Packet::read(&self.bytes)
    }
}

/// Where a packet is met, and what the kernel knows of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    /// Interface that the program is attached to; 0: loopback.
    pub(crate) interface: u32,
    /// Interface by which the packet came to the host; 0: none.
    pub(crate) ingress_interface: u32,
    /// Times that the program runs on the same packet; 0: once.
    pub(crate) repeat: u32,
}

/// `struct __sk_buff` (linux/bpf.h).
const SKB_LENGTH: usize = 192;
const SKB_MARK: usize = 8;
const SKB_INGRESS_IFINDEX: usize = 36;
const SKB_IFINDEX: usize = 40;

/// Programs and maps.
pub(crate) struct World {
    bpf: Ebpf,
    pool_end: u32,
    backends: u32,
    services: u32,
    /// Emptied by the kernel when nobody holds it.
    tails: Option<ProgramArray<MapData>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_capacities(&[])
    }

    /// Programs with maps of other capacities than `shunt_abi::name::capacity`.
    pub(crate) fn with_capacities(capacities: &[(&'static str, u32)]) -> Self {
        let mut loader = EbpfLoader::new();
        for (map, capacity) in capacities {
            loader.map_max_entries(map, *capacity);
            if *map == name::PEERS {
                loader.override_global(name::PEERS_ELEMENTS, capacity, true);
            }
        }
        let mut world = Self {
            bpf: loader.load(&object()).expect("needs root"),
            pool_end: 0,
            backends: 0,
            services: 0,
            tails: None,
        };
        let programs = [
            name::INGRESS_PROGRAM,
            name::ACCELERATED_INGRESS_PROGRAM,
            name::EGRESS_PROGRAM,
            name::CLOCK_PROGRAM,
            name::EMPTY_PROGRAM,
        ];
        for name in programs {
            world.program(name).load().unwrap_or_else(|error| panic!("{name}: {error:#?}"));
        }
        world.fill_tails();
        let places = capacities
            .iter()
            .find(|(map, _)| *map == name::HALF_OPEN4)
            .map_or(name::capacity::HALF_OPEN, |(_, places)| *places);
        world.configure(|config| {
            config.half_open_shift = half_open_shift(places);
            config.established = name::capacity::FLOWS - name::capacity::HALF_OPEN;
            config.hairpin4 = word("169.254.20.7".parse().unwrap());
            config.hairpin6 = words("fd00:ffff::7".parse().unwrap());
            config.masquerade_mark = 0x4000;
            config.flags |= MASQUERADES4 | MASQUERADES6;
        });
        for hairpin in ["169.254.20.7", "fd00:ffff::7"] {
            world.node_address(hairpin);
        }
        world
    }

    fn fill_tails(&mut self) {
        let mut tails = ProgramArray::try_from(self.bpf.take_map(name::TAILS).unwrap()).unwrap();
        for (index, program) in Tail::ALL.as_flattened().iter().enumerate() {
            let Some(loaded) = self.bpf.program_mut(program) else { continue };
            let loaded: &mut SchedClassifier = loaded.try_into().unwrap();
            loaded.load().unwrap_or_else(|error| panic!("{program}: {error:#?}"));
            tails.set(u32::try_from(index).unwrap(), loaded.fd().unwrap(), 0).unwrap();
        }
        self.tails = Some(tails);
    }

    /// Takes away the programs that others continue in there.
    pub(crate) fn without(mut self, missing: &[Tail]) -> Self {
        let tails = self.tails.as_mut().unwrap();
        for tail in missing {
            for version in [4, 6] {
                tails.clear_index(&tail.index(version)).unwrap();
            }
        }
        self
    }

    fn program(&mut self, name: &str) -> &mut SchedClassifier {
        self.bpf.program_mut(name).unwrap().try_into().unwrap()
    }

    pub(crate) fn hash<K: Pod, V: Pod>(&mut self, name: &str) -> HashMap<&mut MapData, K, V> {
        HashMap::try_from(self.bpf.map_mut(name).unwrap()).unwrap()
    }

    pub(crate) fn array<V: Pod>(&mut self, name: &str) -> Array<&mut MapData, V> {
        Array::try_from(self.bpf.map_mut(name).unwrap()).unwrap()
    }

    pub(crate) fn map(&mut self, name: &str) -> &mut aya::maps::Map {
        self.bpf.map_mut(name).unwrap()
    }

    pub(crate) fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        let mut array = self.array::<Config>(name::CONFIG);
        let mut config = array.get(&0, 0).unwrap();
        if config.pods4[0].mask == 0 {
            config = Config::default();
        }
        change(&mut config);
        array.set(0, config, 0).unwrap();
    }

    fn set_bits(&mut self, map: &str, index: u32, mask: u64) {
        let mut array = self.array::<u64>(map);
        let word = array.get(&index, 0).unwrap();
        array.set(index, word | mask, 0).unwrap();
    }

    /// Marks (address, port, protocol) as perhaps a frontend or backend.
    pub(crate) fn know_socket(&mut self, role: Role, address: IpAddr, port: u16, protocol: u8) {
        let Bits { word: index, mask } = match address {
            IpAddr::V4(address) => known::bits4(role, word(address), port.to_be(), protocol),
            IpAddr::V6(address) => known::bits6(role, words(address), port.to_be(), protocol),
        };
        self.set_bits(name::KNOWN, index, mask);
        self.know_address(role, address);
    }

    fn know_address(&mut self, role: Role, address: IpAddr) {
        let place = match address {
            IpAddr::V4(address) => roles::place4(word(address)),
            IpAddr::V6(address) => roles::place6(words(address)),
        };
        self.set_bits(name::ROLES, place.word, place.mask(role));
    }

    /// An address of the node itself.
    pub(crate) fn node_address(&mut self, address: &str) {
        self.know_address(Role::Node, address.parse().unwrap());
    }

    /// A new backend in all pools; its id.
    pub(crate) fn backend(&mut self, socket: SocketAddr, flags: u16, protocol: u8) -> u32 {
        self.backends += 1;
        let id = self.backends;
        let eligible = backend::ELIGIBLE_INTERNAL | backend::ELIGIBLE_INSIDE | backend::ELIGIBLE_OUTSIDE;
        self.set_backend(id, socket, flags | eligible, 1);
        self.know_socket(Role::Backend, socket.ip(), socket.port(), protocol);
        id
    }

    pub(crate) fn set_backend(&mut self, id: u32, socket: SocketAddr, flags: u16, generation: u32) {
        let value = BackendValue {
            address: mapped_words(socket.ip()),
            port: socket.port().to_be(),
            flags,
            generation,
        };
        self.array(name::BACKENDS).set(id, value, 0).unwrap();
    }

    /// A new pool of these ids: where it begins, and its length.
    pub(crate) fn pool(&mut self, ids: &[u32]) -> (u32, u32) {
        let offset = self.pool_end;
        for id in ids {
            let end = self.pool_end;
            self.array::<u32>(name::POOL).set(end, id, 0).unwrap();
            self.pool_end += 1;
        }
        (offset, self.pool_end - offset)
    }

    /// A frontend with one pool of backends on this node; their ids.
    pub(crate) fn service(&mut self, frontend: &str, protocol: u8, backends: &[&str]) -> Vec<u32> {
        self.service_with(frontend, protocol, backends, backend::LOCAL, frontend::INTERNAL)
    }

    /// The same with flags of backends and frontend.
    pub(crate) fn service_with(
        &mut self,
        frontend: &str,
        protocol: u8,
        backends: &[&str],
        backend_flags: u16,
        flags: u32,
    ) -> Vec<u32> {
        let ids: Vec<u32> = backends
            .iter()
            .map(|backend| self.backend(backend.parse().unwrap(), backend_flags, protocol))
            .collect();
        let (inside_offset, inside_length) = self.pool(&ids);
        self.services += 1;
        let service = self.services;
        self.frontend(
            frontend,
            protocol,
            FrontendValue { flags, service, inside_offset, inside_length, ..FrontendValue::default() },
        );
        ids
    }

    /// Writes a frontend.
    pub(crate) fn frontend(&mut self, frontend: &str, protocol: u8, value: FrontendValue) {
        let socket: SocketAddr = frontend.parse().unwrap();
        self.know_socket(Role::Frontend, socket.ip(), socket.port(), protocol);
        self.put_frontend(socket.ip(), socket.port(), protocol, value);
    }

    pub(crate) fn put_frontend(&mut self, address: IpAddr, port: u16, protocol: u8, value: FrontendValue) {
        match address {
            IpAddr::V4(address) => {
                let key = FrontendKey4 { address: word(address), port: port.to_be(), protocol, pad: 0 };
                self.hash(name::FRONTENDS4).insert(key, value, 0).unwrap();
            }
            IpAddr::V6(address) => {
                let key = FrontendKey6 { address: words(address), port: port.to_be(), protocol, pad: 0 };
                self.hash(name::FRONTENDS6).insert(key, value, 0).unwrap();
            }
        }
    }

    /// The frontend as it is.
    pub(crate) fn get_frontend(&mut self, frontend: &str, protocol: u8) -> FrontendValue {
        let socket: SocketAddr = frontend.parse().unwrap();
        match socket.ip() {
            IpAddr::V4(address) => {
                let key =
                    FrontendKey4 { address: word(address), port: socket.port().to_be(), protocol, pad: 0 };
                self.hash(name::FRONTENDS4).get(&key, 0).unwrap()
            }
            IpAddr::V6(address) => {
                let key =
                    FrontendKey6 { address: words(address), port: socket.port().to_be(), protocol, pad: 0 };
                self.hash(name::FRONTENDS6).get(&key, 0).unwrap()
            }
        }
    }

    pub(crate) fn interface(&mut self, index: u32, value: InterfaceValue) {
        self.hash(name::INTERFACES).insert(index, value, 0).unwrap();
    }

    /// Every loaded program with the instructions that the verifier looked at.
    pub(crate) fn verified(&self) -> Vec<(String, u32)> {
        let programs = self.bpf.programs();
        let loaded = programs.filter_map(|(name, program)| Some((name, program.info().ok()?)));
        loaded.map(|(name, info)| (name.to_owned(), info.verified_instruction_count().unwrap_or(0))).collect()
    }

    /// Attaches a program to an interface of this thread's network namespace.
    pub(crate) fn attach(&mut self, program: &str, interface: &str, is_ingress: bool) {
        let hook = if is_ingress { TcAttachType::Ingress } else { TcAttachType::Egress };
        self.program(program).attach(interface, hook).unwrap();
    }

    /// Loads a socket program and attaches it to a cgroup.
    pub(crate) fn attach_to_cgroup(&mut self, program: &str, cgroup: &File) {
        let program: &mut CgroupSockAddr = self.bpf.program_mut(program).unwrap().try_into().unwrap();
        program.load().unwrap_or_else(|error| panic!("{error:#?}"));
        program.attach(cgroup, CgroupAttachMode::Single).unwrap();
    }

    /// Runs a program on bytes. If every checksum was right that can be told, every one of what comes out is.
    pub(crate) fn run(&mut self, program: &str, bytes: &[u8], run: Run) -> Outcome {
        let mut context = [0_u8; SKB_LENGTH];
        for (at, value) in [(SKB_IFINDEX, run.interface), (SKB_INGRESS_IFINDEX, run.ingress_interface)] {
            context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let (mut data_out, mut context_out) = (vec![0; bytes.len() + 256], [0_u8; SKB_LENGTH]);
        let result = self
            .program(program)
            .test_run(TestRunOptions {
                data_in: Some(bytes),
                data_out: Some(&mut data_out),
                ctx_in: Some(&context),
                ctx_out: Some(&mut context_out),
                repeat: run.repeat.max(1),
                ..TestRunOptions::new()
            })
            .unwrap_or_else(|error| panic!("{program} on {bytes:02x?}: {error:?}"));
        data_out.truncate(usize::try_from(result.data_size_out).unwrap());
        if checksums::wrong(bytes).is_none() {
            let wrong = checksums::wrong(&data_out);
            assert_eq!(wrong, None, "checksum that {program} left of {bytes:02x?}: {data_out:02x?}");
        }
        Outcome {
            verdict: result.return_value.cast_signed(),
            bytes: data_out,
            mark: u32::from_ne_bytes(context_out[SKB_MARK..SKB_MARK + 4].try_into().unwrap()),
            duration: result.duration,
        }
    }

    /// A packet that enters the host.
    pub(crate) fn ingress(&mut self, packet: &Packet) -> Outcome {
        self.run(name::INGRESS_PROGRAM, &packet.build(), Run { ingress_interface: 1, ..Run::default() })
    }

    /// A packet that was forwarded, and leaves.
    pub(crate) fn egress(&mut self, packet: &Packet) -> Outcome {
        self.run(name::EGRESS_PROGRAM, &packet.build(), Run { ingress_interface: 1, ..Run::default() })
    }

    /// A packet that this host itself sends.
    pub(crate) fn host_egress(&mut self, packet: &Packet) -> Outcome {
        self.run(name::EGRESS_PROGRAM, &packet.build(), Run::default())
    }

    /// Every counter that is not zero.
    pub(crate) fn counts(&mut self) -> Counts {
        let map = PerCpuArray::<_, u64>::try_from(self.bpf.map(name::COUNTERS).unwrap()).unwrap();
        let total = |counter: &Counter| map.get(&counter.index(), 0).unwrap().iter().sum::<u64>();
        let all = Counter::ALL.iter().map(|counter| (counter.label(), total(counter)));
        all.filter(|(_, total)| *total > 0).collect()
    }

    /// Traffic of a Service port, of all CPUs.
    pub(crate) fn traffic(&mut self, service: u32) -> ServiceCounters {
        let map = PerCpuArray::<_, ServiceCounters>::try_from(self.bpf.map(name::SERVICES).unwrap()).unwrap();
        map.get(&service, 0).unwrap().iter().fold(ServiceCounters::default(), |sum, one| ServiceCounters {
            packets: sum.packets + one.packets,
            bytes: sum.bytes + one.bytes,
            flows: sum.flows + one.flows,
        })
    }

    /// Forgets frontends, flows, affinity, fragments, settings and counts, as a world that was just made. (Backends that
    /// nothing leads to stay, and what may be known.)
    pub(crate) fn clear(&mut self) {
        self.empty::<FrontendKey4, FrontendValue>(name::FRONTENDS4);
        self.empty::<FrontendKey6, FrontendValue>(name::FRONTENDS6);
        self.forget_flows();
        self.empty::<AffinityKey4, AffinityValue>(name::AFFINITY4);
        self.empty::<AffinityKey6, AffinityValue>(name::AFFINITY6);
        self.empty::<FragmentKey4, FragmentValue4>(name::FRAGMENTS4);
        self.empty::<FragmentKey6, FragmentValue6>(name::FRAGMENTS6);
        self.empty::<u32, InterfaceValue>(name::INTERFACES);
        let mut counters =
            PerCpuArray::<_, u64>::try_from(self.bpf.map_mut(name::COUNTERS).unwrap()).unwrap();
        for counter in Counter::ALL {
            let zeroes = vec![0; aya::util::nr_cpus().unwrap()];
            counters.set(counter.index(), zeroes.try_into().unwrap(), 0).unwrap();
        }
        self.configure(|config| config.flags = 0);
    }

    /// Forgets every flow.
    pub(crate) fn forget_flows(&mut self) {
        self.empty::<FlowKey4, FlowValue4>(name::FLOWS4);
        self.empty::<FlowKey6, FlowValue6>(name::FLOWS6);
        for family in 0..2 {
            self.array::<i64>(name::ESTABLISHED).set(family, 0, 0).unwrap();
        }
    }

    fn empty<K: Pod, V: Pod>(&mut self, name: &str) {
        let mut map = self.hash::<K, V>(name);
        for key in map.keys().collect::<Result<Vec<_>, _>>().unwrap() {
            map.remove(&key).unwrap();
        }
    }
}

/// log2 of the places that each CPU has in a ring.
fn half_open_shift(places: u32) -> u32 {
    let cpus = u32::try_from(aya::util::nr_cpus().unwrap()).unwrap();
    (places / cpus.next_power_of_two()).ilog2()
}
