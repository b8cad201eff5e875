//! A node with an agent's core: objects, planner, and the eBPF dataplane in a namespace of its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::Path;

use shunt::domain::{Cluster, Event, IpFamily, LocalDetector, Protocol};
use shunt::kernel::ebpf::{Attaching, Ebpf, Settings, Sizes, Sockets, WantedSizes};
use shunt::kernel::{Dataplane as _, Inspected, Inspection};
use shunt::plan::explain::{Explanation, Question, SourceHandling, explain};
use shunt::plan::{Frontend, FrontendAddress, NodePortAddresses, Pending, PerFamily, PlanSettings, Planner};

use crate::bpffs;
use crate::namespace::run;
use crate::objects::{self, NODE};

/// The mark that asks for masquerading.
pub(crate) const MARK: u32 = 0x4000;

/// Pods are behind `pod1`, everybody else behind `up0`.
const TOPOLOGY: &str = "
link add pod1 type veth peer name pod1peer
link add up0 type veth peer name up0peer
link set pod1 up
link set pod1peer up
link set up0 up
link set up0peer up
addr add 192.168.0.2/24 dev up0
addr add 2001:db8::2/64 dev up0 nodad
route add 10.0.0.0/16 dev pod1
route add fd00:10::/64 dev pod1
route add default dev up0
-6 route add default dev up0
";

/// Runs a test on a thread of its own in new namespaces, with a BPF file system.
pub(crate) fn in_namespace(test: impl FnOnce(&Path) + Send) {
    bpffs::in_namespace(|bpffs| {
        TOPOLOGY.trim().lines().for_each(|command| drop(run(&format!("ip {command}"))));
        test(bpffs);
    });
}

/// The dataplane, with the objects that it follows.
pub(crate) struct Node {
    cluster: Cluster,
    planner: Planner,
    pending: Pending,
    interfaces: BTreeSet<IpAddr>,
    dataplane: Ebpf,
    /// The dataplane holds what is planned, and can follow changes.
    follows: bool,
}

impl Node {
    pub(crate) fn new(bpffs: &Path) -> Self {
        // Every restore and audit reads all of these.
        let few = WantedSizes {
            backends: NonZeroU32::new(1 << 12),
            pool_slots: NonZeroU32::new(1 << 12),
            ..WantedSizes::default()
        };
        let settings = Settings {
            cgroup_root: "/sys/fs/cgroup".into(),
            bpffs_root: bpffs.to_owned(),
            sockets: Sockets::Off,
            attaching: Attaching::default(),
            detectors: PerFamily {
                v4: LocalDetector::Cidrs(vec!["10.0.0.0/16".parse().unwrap()]),
                v6: LocalDetector::Cidrs(vec!["fd00:10::/64".parse().unwrap()]),
            },
            masquerade_mark: MARK,
            masquerade_all: false,
            loopback_node_ports: false,
            accelerate: false,
            sizes: Sizes::of_this_node(&few, false),
            tcp_idle_seconds: 3600,
        };
        Self {
            cluster: Cluster::default(),
            planner: planner(),
            pending: Pending::everything(),
            interfaces: ["192.168.0.2", "2001:db8::2", "127.0.0.1"].map(|a| a.parse().unwrap()).into(),
            dataplane: Ebpf::new(settings).unwrap(),
            follows: false,
        }
    }

    /// Forgets all objects. What the last history left in the maps is for the next plan to deal with.
    pub(crate) fn begin(&mut self) {
        self.cluster = Cluster::default();
        self.planner = planner();
        self.pending = Pending::everything();
        self.follows = false;
        for event in objects::surroundings() {
            self.cluster.apply(event);
        }
    }

    /// Plans the events and programs the difference; at first everything is compared.
    pub(crate) fn take_in(&mut self, events: Vec<Event>) {
        for event in events {
            self.pending.add(self.cluster.apply(event));
        }
        let changes = self.planner.update(&self.cluster, &self.interfaces, &self.pending.take());
        if self.follows {
            self.dataplane.apply(&changes).unwrap();
        } else {
            self.dataplane.restore(self.planner.table()).unwrap();
            self.follows = true;
        }
    }

    /// What the changes have led to is exactly what is planned: nothing is missing, and nothing is left over.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        match self.dataplane.audit(self.planner.table()).unwrap() {
            0 => Ok(()),
            elements => Err(format!("the audit finds {elements} differences, which the log names")),
        }
    }

    pub(crate) fn explain(&self, question: &Question) -> Explanation {
        let sources = SourceHandling { masquerade_all: false, pods_told_apart: true };
        explain(&self.planner, &self.cluster, sources, question)
    }

    pub(crate) fn probe(&mut self, question: Question) -> Inspected {
        self.dataplane.inspect(&Inspection { question, probe: true }).unwrap()
    }

    /// Everything that is programmed, as packets are addressed to it.
    pub(crate) fn frontends(&self) -> Vec<(SocketAddr, Protocol)> {
        let frontends = self.planner.table().frontends.keys();
        let destination = |frontend: &Frontend| {
            let address = match frontend.address {
                FrontendAddress::Ip(address) => address,
                FrontendAddress::NodePort(IpFamily::V4) => "192.168.0.2".parse().unwrap(),
                FrontendAddress::NodePort(IpFamily::V6) => "2001:db8::2".parse().unwrap(),
            };
            (SocketAddr::new(address, frontend.port), frontend.protocol)
        };
        frontends.map(destination).collect()
    }

    /// Whether the endpoint is on this node.
    pub(crate) fn is_local(&self, endpoint: &str) -> bool {
        let frontends = self.planner.table().frontends.values();
        frontends
            .flat_map(|spec| spec.inside.backends().iter().chain(spec.outside.backends()))
            .any(|backend| backend.local && backend.socket().to_string() == endpoint)
    }
}

fn planner() -> Planner {
    let all = NodePortAddresses::Cidrs(Vec::new());
    Planner::new(PlanSettings { node_port_addresses: all, ..PlanSettings::new(NODE) })
}
