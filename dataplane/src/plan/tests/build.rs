//! Objects for tests, written briefly.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::domain::{
    Cluster, Endpoint, EndpointPort, EndpointSlice, Event, Hints, IpFamily, Node, Protocol, Service,
    ServiceName, ServicePort, ServiceType, SliceName, TrafficPolicy,
};
use crate::plan::{Changes, Frontend, FrontendAddress, FrontendSpec, Pending, PlanSettings, Planner, Target};

pub(super) const NODE: &str = "node-a";

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

/// A ClusterIP Service `ns/NAME` with one unnamed TCP port 80.
pub(super) fn service(name: &str, cluster_ip: &str) -> Service {
    Service {
        name: ServiceName::new("ns", name),
        uid: format!("uid-{name}").into(),
        created: 100,
        kind: ServiceType::ClusterIp,
        cluster_ips: vec![ip(cluster_ip)],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        ports: vec![port("", Protocol::Tcp, 80)],
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_seconds: None,
        health_check_node_port: None,
    }
}

pub(super) fn port(name: &str, protocol: Protocol, port: u16) -> ServicePort {
    ServicePort { name: name.into(), protocol, port, node_port: None }
}

/// A slice `ns/NAME` of `ns/SERVICE` with the unnamed TCP port 8080, of the family of its first endpoint.
pub(super) fn slice(name: &str, service: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let family = endpoints.first().map_or(IpFamily::V4, |endpoint| IpFamily::of(endpoint.address));
    EndpointSlice {
        name: SliceName { namespace: "ns".into(), name: name.into() },
        service: ServiceName::new("ns", service),
        family,
        ports: vec![EndpointPort { name: "".into(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints,
        trigger_time_ns: None,
    }
}

/// A ready endpoint on another node.
pub(super) fn ready(address: &str) -> Endpoint {
    Endpoint { address: ip(address), ready: true, serving: true, terminating: false, node: None, hints: None }
}

/// A ready endpoint on this node.
pub(super) fn local(address: &str) -> Endpoint {
    Endpoint { node: Some(NODE.into()), ..ready(address) }
}

/// The endpoint, terminating; `serving` or not.
pub(super) fn terminating(endpoint: Endpoint, serving: bool) -> Endpoint {
    Endpoint { ready: false, serving, terminating: true, ..endpoint }
}

/// The endpoint, not ready.
pub(super) fn unready(endpoint: Endpoint) -> Endpoint {
    Endpoint { ready: false, serving: false, ..endpoint }
}

pub(super) fn hinted(endpoint: Endpoint, zones: &[&str], nodes: &[&str]) -> Endpoint {
    let words = |list: &[&str]| list.iter().map(|word| Arc::from(*word)).collect();
    Endpoint { hints: Some(Box::new(Hints { zones: words(zones), nodes: words(nodes) })), ..endpoint }
}

/// This node, in zone `zone-a`, with one address of each family.
pub(super) fn node() -> Node {
    Node {
        name: NODE.into(),
        zone: Some("zone-a".into()),
        addresses: vec![ip("192.168.0.2"), ip("2001:db8::1")],
        ..Node::default()
    }
}

/// `ADDRESS:PORT/PROTOCOL`, or `node4:PORT/PROTOCOL` for an IPv4 node port.
pub(super) fn frontend(text: &str) -> Frontend {
    let (socket, protocol) = text.split_once('/').unwrap();
    let protocol = Protocol::parse(protocol).unwrap();
    let (address, port) = if let Some(port) = socket.strip_prefix("node4:") {
        (FrontendAddress::NodePort(IpFamily::V4), port.parse().unwrap())
    } else {
        let socket: SocketAddr = socket.parse().unwrap();
        (FrontendAddress::Ip(socket.ip()), socket.port())
    };
    Frontend { address, port, protocol }
}

/// Objects and a planner that follows them.
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) planner: Planner,
    pub(super) interfaces: BTreeSet<IpAddr>,
    pending: Pending,
}

impl World {
    /// A world with this node and no Services.
    pub(super) fn new() -> Self {
        Self::with(PlanSettings::new(NODE))
    }

    pub(super) fn with(settings: PlanSettings) -> Self {
        let mut world = Self {
            cluster: Cluster::default(),
            planner: Planner::new(settings),
            interfaces: BTreeSet::new(),
            pending: Pending::default(),
        };
        world.apply(Event::Node(Some(Box::new(node()))));
        world.update();
        world
    }

    pub(super) fn apply(&mut self, event: Event) {
        let dirty = self.cluster.apply(event);
        self.pending.add(dirty);
    }

    /// Takes objects in, plans them.
    pub(super) fn put(&mut self, services: &[Service], slices: &[EndpointSlice]) -> Changes {
        for service in services {
            self.apply(Event::Service(Box::new(service.clone())));
        }
        for slice in slices {
            self.apply(Event::Slice(Box::new(slice.clone())));
        }
        self.update()
    }

    pub(super) fn gone(&mut self, service: &str) -> Changes {
        self.apply(Event::ServiceGone(ServiceName::new("ns", service)));
        self.update()
    }

    pub(super) fn update(&mut self) -> Changes {
        let pending = self.pending.take();
        self.planner.update(&self.cluster, &self.interfaces, &pending)
    }

    pub(super) fn spec(&self, text: &str) -> Arc<FrontendSpec> {
        let found = self.planner.table().frontends.get(&frontend(text));
        Arc::clone(found.unwrap_or_else(|| panic!("no frontend {text}")))
    }

    /// Every frontend, as text.
    pub(super) fn frontends(&self) -> Vec<String> {
        self.planner.table().frontends.keys().map(ToString::to_string).collect()
    }

    /// Problems, as text.
    pub(super) fn problems(&self) -> Vec<String> {
        self.planner.problems().iter().map(ToString::to_string).collect()
    }
}

/// The backends of a target as text; `reject` or `drop` for the others.
pub(super) fn text(target: &Target) -> Vec<String> {
    match target {
        Target::Pool(pool) => pool.iter().map(|backend| backend.socket().to_string()).collect(),
        Target::Reject => vec!["reject".to_owned()],
        Target::Drop => vec!["drop".to_owned()],
    }
}
