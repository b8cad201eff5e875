//! A small cluster in namespaces: hosts on one network.
//!
//! ```text
//!   pod  pod      pod  pod
//!     \  /          \  /
//!    node-a        node-b       client
//!       \____________|____________/
//!                 fabric (a bridge)
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use ipnet::IpNet;

use super::cluster_node::Node;
use super::ip::ip_outside;
use super::message::{Attempt, Outcome, Protocol};
use super::{
    Client, Dial, Listen, Namespace, PEER_SYSCTLS, Responder, Worker, ip, unique_name, write_sysctls,
};

const FABRIC_BRIDGE: &str = "fabric0";
/// A host's interface on the fabric.
pub(crate) const UPLINK: &str = "up0";

/// Hosts joined by a bridge in a namespace of its own.
#[derive(Debug)]
pub struct Cluster {
    unique: String,
    fabric: Namespace,
}

/// A machine: a namespace with a worker that listens and asks in it.
#[derive(Debug)]
pub struct Host {
    // Dropped in this order: sockets first, then the namespace.
    worker: Worker,
    responder: Responder,
    namespace: Arc<Namespace>,
    addresses: Vec<IpAddr>,
}

impl Cluster {
    /// An empty cluster.
    pub fn create() -> Result<Self> {
        let unique = unique_name();
        let fabric = Namespace::create(&unique, "fabric")?;
        ip(
            &fabric,
            None,
            &[
                format!("link add {FABRIC_BRIDGE} type bridge forward_delay 0 mcast_snooping 0"),
                format!("link set {FABRIC_BRIDGE} up"),
            ],
        )?;
        Ok(Self { unique, fabric })
    }

    /// The name all namespaces of this cluster begin with.
    pub fn unique(&self) -> &str {
        &self.unique
    }

    /// Adds a machine with addresses on the fabric (with prefix lengths).
    pub fn host(&self, name: &str, addresses: &[IpNet]) -> Result<Host> {
        let host = Host::bare(&self.unique, name, addresses.iter().map(IpNet::addr).collect())?;
        ip_outside(&[format!(
            "link add {UPLINK} netns {} type veth peer name {name} netns {}",
            host.namespace.name(),
            self.fabric.name()
        )])?;
        ip(&self.fabric, None, &[format!("link set {name} master {FABRIC_BRIDGE} up")])?;
        write_sysctls(&host.namespace, PEER_SYSCTLS)?;
        let mut lines = vec![format!("link set {UPLINK} up")];
        lines.extend(addresses.iter().map(|address| address_line(*address, UPLINK)));
        ip(&host.namespace, None, &lines)?;
        Ok(host)
    }

    /// Adds a node: a machine that forwards and has pods.
    pub fn node(&self, name: &str, addresses: &[IpNet]) -> Result<Node> {
        Node::new(&self.unique, name, self.host(name, addresses)?)
    }
}

/// The ip(8) command that adds an address, usable at once.
pub(crate) fn address_line(address: IpNet, device: &str) -> String {
    let no_detection = if address.addr().is_ipv6() { " nodad" } else { "" };
    format!("addr add {address} dev {device}{no_detection}")
}

impl Host {
    /// A machine without any link.
    pub(crate) fn bare(unique: &str, name: &str, addresses: Vec<IpAddr>) -> Result<Self> {
        let namespace = Arc::new(Namespace::create(unique, name)?);
        let worker = Worker::start(&namespace)?;
        Ok(Self { worker, responder: Responder::default(), namespace, addresses })
    }

    /// The namespace.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// The addresses given at the start.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The first address given at the start.
    pub fn address(&self) -> Result<IpAddr> {
        self.addresses.first().copied().context("this host was made without addresses")
    }

    /// The event loop.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Runs ip(8) commands on the machine.
    pub fn ip<S: AsRef<str>>(&self, commands: &[S]) -> Result<()> {
        ip(&self.namespace, None, commands)
    }

    /// Answers on a port, on all addresses.
    pub fn listen(&self, protocol: Protocol, port: u16) -> Result<()> {
        let responder = self.responder.clone();
        self.worker.run(async move { responder.listen(Listen { protocol, port, address: None }) })?
    }

    /// Talks to a destination once, from a fresh socket.
    pub fn ask(&self, protocol: Protocol, to: SocketAddr) -> Result<Attempt> {
        self.worker.run(Dial::new(protocol, to).once())
    }

    /// Talks to a destination many times, one after the other.
    pub fn ask_often(&self, dial: Dial, count: usize) -> Result<Vec<Attempt>> {
        self.worker.run(async move {
            let mut attempts = Vec::with_capacity(count);
            for _ in 0..count {
                attempts.push(dial.clone().once().await);
            }
            attempts
        })
    }

    /// Opens a socket that stays open.
    pub fn open(&self, dial: Dial) -> Result<Client> {
        self.worker.run(Client::open(dial))?.context("cannot open a connection")
    }

    /// Uses an open socket again.
    pub fn ask_again(&self, mut client: Client) -> Result<(Client, Outcome)> {
        self.worker.run(async move {
            let outcome = client.ask().await;
            (client, outcome)
        })
    }
}
