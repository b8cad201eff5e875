//! Namespaces for each test, and frontends.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use shunt::domain::{LocalDetector, Protocol, ServiceName, ServicePortName};
use shunt::kernel::ebpf::{Attaching, Ebpf, Settings, Sizes, Sockets, WantedSizes};
use shunt::plan::{
    Backend, Change, Changes, Frontend, FrontendAddress, FrontendKind, FrontendSpec, PerFamily, Policy,
    Table, Target,
};

pub(crate) use crate::bpffs::in_namespace;
pub(crate) use crate::namespace::run;

/// A network namespace of a pod, gone with this value.
pub(crate) struct Pod {
    process: nix::unistd::Pid,
    _end: Sender<()>,
}

impl Pod {
    pub(crate) fn new() -> Self {
        let (end, wait) = channel::<()>();
        let (say, hear) = channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            say.send(nix::unistd::gettid()).unwrap();
            // Ends with an error when the pod does.
            wait.recv().unwrap_or_default();
        });
        Self { process: hear.recv().unwrap(), _end: end }
    }

    /// Does something within the pod's network namespace, on a thread of its own.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.process)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// Runs commands, one a line, in the pod's network namespace.
    pub(crate) fn run(&self, commands: &str) {
        self.inside(|| run_all(commands));
    }

    /// Runs `job` on a thread in the namespace.
    pub(crate) fn spawn<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = File::open(format!("/proc/self/task/{}/ns/net", self.process)).unwrap();
        std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            job()
        })
    }

    /// Connects the namespace: an interface `name` here with address `.1` of the network, `eth0` there with `.2`.
    pub(crate) fn connect(&self, name: &str, network: &str) {
        let (name, network) = (name.to_owned(), network.to_owned());
        run(&format!("ip link add {name} type veth peer name eth0 netns {}", self.process));
        run(&format!("ip addr add {network}.1/24 dev {name}"));
        run(&format!("ip link set {name} up"));
        self.spawn(move || {
            run(&format!("ip addr add {network}.2/24 dev eth0"));
            run("ip link set eth0 up");
            run("ip link set lo up");
            run(&format!("ip route add default via {network}.1"));
        })
        .join()
        .unwrap();
    }

    /// By which `ip` knows the namespace.
    pub(crate) const fn process(&self) -> nix::unistd::Pid {
        self.process
    }
}

/// Runs commands, one a line.
pub(crate) fn run_all(commands: &str) {
    commands.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| drop(run(line)));
}

pub(crate) fn settings(bpffs: &Path) -> Settings {
    Settings {
        cgroup_root: "/sys/fs/cgroup".into(),
        bpffs_root: bpffs.to_owned(),
        sockets: Sockets::Off,
        attaching: Attaching::default(),
        detectors: PerFamily {
            v4: LocalDetector::Cidrs(vec!["10.0.0.0/8".parse().unwrap()]),
            v6: LocalDetector::None,
        },
        masquerade_mark: 0x4000,
        masquerade_all: false,
        loopback_node_ports: false,
        accelerate: false,
        sizes: sizes(),
        tcp_idle_seconds: 3600,
    }
}

/// Of a node with 4 GiB.
pub(crate) fn sizes() -> Sizes {
    Sizes::new(&WantedSizes { memory_millionths: 10_000, ..WantedSizes::default() }, 4 << 30, 2, false)
}

pub(crate) fn dataplane(bpffs: &Path) -> Ebpf {
    Ebpf::new(settings(bpffs)).unwrap()
}

/// The folder of this build's pins.
pub(crate) fn pins(bpffs: &Path) -> PathBuf {
    let mut versions = fs::read_dir(bpffs.join("shunt")).unwrap();
    let version = versions.next().unwrap().unwrap().path();
    assert!(versions.next().is_none());
    version
}

/// Names of the pinned links, sorted.
pub(crate) fn links(bpffs: &Path) -> Vec<String> {
    let entries = fs::read_dir(pins(bpffs).join("links")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn index_of(interface: &str) -> u32 {
    nix::net::if_::if_nametoindex(interface).unwrap()
}

/// Whether it becomes true in time; the time it took.
pub(crate) fn within(limit: Duration, mut holds: impl FnMut() -> bool) -> Option<Duration> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if holds() {
            return Some(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

pub(crate) fn frontend(at: &str) -> Frontend {
    let at: SocketAddr = at.parse().unwrap();
    Frontend { address: FrontendAddress::Ip(at.ip()), port: at.port(), protocol: Protocol::Tcp }
}

pub(crate) fn spec(policy: Policy, backends: &[&str]) -> FrontendSpec {
    let backend = |text: &&str| {
        let socket: SocketAddr = text.parse().unwrap();
        Backend { address: socket.ip(), port: socket.port(), local: false }
    };
    let inside = Target::Pool(backends.iter().map(backend).collect());
    FrontendSpec {
        owner: Arc::new(ServicePortName {
            service: ServiceName::new("default", "web"),
            port: "http".into(),
            protocol: Protocol::Tcp,
        }),
        kind: if policy == Policy::Internal { FrontendKind::ClusterIp } else { FrontendKind::ExternalIp },
        policy,
        outside: inside.clone(),
        inside,
        affinity_seconds: None,
        source_ranges: None,
        serving: backends.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

/// Services with two endpoints each, IPv4 and IPv6.
pub(crate) fn services(count: u8) -> Table {
    let mut table = Table::default();
    for number in 1..=count {
        let mut add = |at: String, endpoints: [String; 2]| {
            let mut spec = spec(Policy::Internal, &endpoints.each_ref().map(String::as_str));
            let service = ServiceName::new("default", format!("s{number}"));
            spec.owner = Arc::new(ServicePortName { service, ..ServicePortName::clone(&spec.owner) });
            table.frontends.insert(frontend(&at), Arc::new(spec));
        };
        let [one, two] = [1, 2].map(|host| format!("10.{number}.0.{host}:80"));
        add(format!("172.30.0.{number}:80"), [one, two]);
        let [one, two] = [1, 2].map(|host| format!("[fd00:{number:x}::{host}]:80"));
        add(format!("[fd00:30::{number:x}]:80"), [one, two]);
    }
    table
}

pub(crate) fn change(table: &mut Table, frontend: Frontend, new: Option<FrontendSpec>) -> Changes {
    let new = new.map(Arc::new);
    let old = match &new {
        Some(spec) => table.frontends.insert(frontend, Arc::clone(spec)),
        None => table.frontends.remove(&frontend),
    };
    Changes { frontends: vec![Change { frontend, old, new }], globals: None }
}
