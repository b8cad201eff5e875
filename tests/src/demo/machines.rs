//! The machines of the demo, all of them network namespaces.
//!
//! ```text
//!    a-1 a-2 a-3          b-1 b-2 b-3            pods, each on a routed veth pair
//!      \  |  /              \  |  /
//!      node-a .10          node-b .20      client .100, .101     control-plane .1
//!         |_____________________|________________|_____________________|
//!                                 192.168.50.0/24
//! ```
//!
//! Every machine also has IPv6 addresses. The client sends load balancer addresses to node-a and external IPs to
//! node-b, as announcements by BGP or ARP would make it do.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use super::names::Names;
use super::web;
use crate::lab::{Cluster, Host, Node, Pod, PodLink, Protocol};

/// The pod network, one CIDR per IP version.
pub(super) const POD_CIDRS: [&str; 2] = ["10.244.0.0/16", "fd00:244::/32"];
/// The service network, one CIDR per IP version.
pub(super) const SERVICE_CIDRS: [&str; 2] = ["10.96.0.0/12", "fd00:96::/112"];
/// Load balancer addresses, which the client sends to node-a.
pub(super) const LOAD_BALANCER_CIDR: &str = "203.0.113.0/24";
/// External IPs, which the client sends to node-b.
pub(super) const EXTERNAL_CIDR: &str = "198.51.100.0/24";
/// Where pods serve HTTP.
pub(super) const WEB_PORT: u16 = 8080;
/// Where pods answer datagrams.
pub(super) const DNS_PORT: u16 = 53;
/// Where pods keep up long conversations.
pub(super) const CHAT_PORT: u16 = 7;

/// A node and what is known of it before it exists.
#[derive(Debug)]
pub(super) struct NodePlan {
    /// Name of the node.
    pub(super) name: &'static str,
    /// Addresses, IPv4 first.
    pub(super) addresses: [&'static str; 2],
    /// Networks of its pods.
    pub(super) pod_cidrs: [&'static str; 2],
    /// Third group of its pods' IPv4 addresses.
    number: u8,
    letter: char,
}

/// The nodes.
pub(super) const NODES: [NodePlan; 2] = [
    NodePlan {
        name: "node-a",
        addresses: ["192.168.50.10", "fd00:50::10"],
        pod_cidrs: ["10.244.1.0/24", "fd00:244:1::/64"],
        number: 1,
        letter: 'a',
    },
    NodePlan {
        name: "node-b",
        addresses: ["192.168.50.20", "fd00:50::20"],
        pod_cidrs: ["10.244.2.0/24", "fd00:244:2::/64"],
        number: 2,
        letter: 'b',
    },
];

const GATEWAY: [&str; 2] = ["192.168.50.1", "fd00:50::1"];
/// The client's addresses; load balancers with source ranges let only the first in.
pub(super) const CLIENT: [&str; 3] = ["192.168.50.100", "192.168.50.101", "fd00:50::100"];

/// A pod, running.
#[derive(Debug)]
pub(super) struct DemoPod {
    /// The node it is on.
    pub(super) node: &'static str,
    /// `app` label.
    pub(super) app: &'static str,
    /// Addresses, IPv4 first.
    pub(super) addresses: [IpAddr; 2],
    pod: Pod,
}

/// All machines. Dropped in this order: pods before their nodes, the network last.
#[derive(Debug)]
pub(super) struct Machines {
    /// Pods by name.
    pub(super) pods: BTreeMap<String, DemoPod>,
    nodes: BTreeMap<String, Node>,
    client: Host,
    control: Host,
    cluster: Cluster,
    /// Who has which address.
    pub(super) names: Names,
}

impl Machines {
    /// Makes all of them, and the servers in the pods.
    pub(super) fn create() -> Result<Self> {
        let cluster = Cluster::create()?;
        let control = cluster.host("control-plane", &[net(GATEWAY[0], 24)?, net(GATEWAY[1], 64)?])?;
        let client =
            cluster.host("client", &[net(CLIENT[0], 24)?, net(CLIENT[1], 24)?, net(CLIENT[2], 64)?])?;
        let mut machines = Self {
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            client,
            control,
            cluster,
            names: Names::default(),
        };
        for plan in &NODES {
            machines.add_node(plan)?;
        }
        machines.add_routes()?;
        machines.names.note("client", addresses(&CLIENT)?);
        machines.names.note("control-plane", addresses(&GATEWAY)?);
        Ok(machines)
    }

    fn add_node(&mut self, plan: &'static NodePlan) -> Result<()> {
        let [v4, v6] = plan.addresses;
        let node = self.cluster.node(plan.name, &[net(v4, 24)?, net(v6, 64)?])?;
        self.names.note(plan.name, addresses(&plan.addresses)?);
        for index in 1..=3 {
            let name = format!("{}-{index}", plan.letter);
            let pod = DemoPod::create(&node, plan, &name, index)?;
            self.names.note(&name, pod.addresses);
            self.pods.insert(name, pod);
        }
        self.nodes.insert(plan.name.to_owned(), node);
        Ok(())
    }

    fn add_routes(&self) -> Result<()> {
        let [a, b] = &NODES;
        for (plan, other) in [(a, b), (b, a)] {
            let mut lines: Vec<String> = other.pod_cidrs.iter().zip(&other.addresses).map(route).collect();
            // What no service takes has to leave the node, as it would in a real network.
            lines.extend(GATEWAY.iter().map(|gateway| format!("route add default via {gateway}")));
            self.node(plan.name)?.host().ip(&lines)?;
        }
        self.client
            .ip(&[route((&LOAD_BALANCER_CIDR, &a.addresses[0])), route((&EXTERNAL_CIDR, &b.addresses[0]))])?;
        let all = NODES.iter().flat_map(|plan| plan.pod_cidrs.iter().zip(&plan.addresses));
        self.control.ip(&all.map(route).collect::<Vec<_>>())
    }

    /// A node.
    pub(super) fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.get(name).with_context(|| format!("no node is called {name}"))
    }

    /// Any machine by its name.
    pub(super) fn host(&self, name: &str) -> Result<&Host> {
        match name {
            "client" => Ok(&self.client),
            "control-plane" => Ok(&self.control),
            name => match self.pods.get(name) {
                Some(pod) => Ok(pod.pod.host()),
                None => Ok(self.node(name)?.host()),
            },
        }
    }

    /// A pod.
    pub(super) fn pod(&self, name: &str) -> Result<&DemoPod> {
        self.pods.get(name).with_context(|| format!("no pod is called {name}"))
    }

    /// What the names of all namespaces begin with.
    pub(super) fn unique(&self) -> &str {
        self.cluster.unique()
    }

    /// Serves HTTP in a pod, on one more port, until `stop`.
    pub(super) fn serve(&self, pod: &str, port: u16, stop: CancellationToken) -> Result<()> {
        let name = pod.to_owned();
        let host = self.host(pod)?;
        host.worker()
            .run(web::serve(name, port, stop))?
            .with_context(|| format!("cannot serve on port {port} of pod {pod}"))
    }
}

impl DemoPod {
    fn create(node: &Node, plan: &'static NodePlan, name: &str, index: u8) -> Result<Self> {
        let v4: IpAddr = [10, 244, plan.number, 10 + index].into();
        let v6: IpAddr = format!("fd00:244:{}::1{index}", plan.number).parse()?;
        let pod = node.pod(name, PodLink::Routed, &[IpNet::new(v4, 32)?, IpNet::new(v6, 128)?], &[])?;
        pod.host()
            .worker()
            .run(web::serve(name.to_owned(), WEB_PORT, CancellationToken::new()))?
            .with_context(|| format!("cannot serve in pod {name}"))?;
        pod.host().listen(Protocol::Udp, DNS_PORT)?;
        pod.host().listen(Protocol::Tcp, CHAT_PORT)?;
        let app = if index == 3 { "dns" } else { "web" };
        Ok(Self { node: plan.name, app, addresses: [v4, v6], pod })
    }

    /// The IPv4 address.
    pub(super) fn v4(&self) -> IpAddr {
        let [v4, _] = self.addresses;
        v4
    }
}

fn route((network, gateway): (&&str, &&str)) -> String {
    format!("route add {network} via {gateway}")
}

fn net(address: &str, prefix: u8) -> Result<IpNet> {
    Ok(IpNet::new(address.parse()?, prefix)?)
}

fn addresses(texts: &[&str]) -> Result<Vec<IpAddr>> {
    texts.iter().map(|text| text.parse().with_context(|| format!("not an address: {text}"))).collect()
}
