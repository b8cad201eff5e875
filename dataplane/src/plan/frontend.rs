//! The vocabulary between `plan` and the dataplanes.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use crate::domain::{IpFamily, Protocol, ServicePortName};

/// What a client addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// The address, or all node port addresses of a family.
    pub address: FrontendAddress,
    /// Port, host order.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// The address part of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrontendAddress {
    /// A cluster, external or load balancer IP.
    Ip(IpAddr),
    /// Each address that accepts node ports ([`Globals::node_port_addresses`]) of that family.
    NodePort(IpFamily),
}

impl Frontend {
    /// Address family of the frontend.
    pub const fn family(&self) -> IpFamily {
        match self.address {
            FrontendAddress::Ip(address) => IpFamily::of(address),
            FrontendAddress::NodePort(family) => family,
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            FrontendAddress::Ip(ip) => {
                write!(f, "{}/{}", SocketAddr::new(ip, self.port), self.protocol.lower())
            }
            FrontendAddress::NodePort(family) => {
                write!(f, "node port {}/{} ({family})", self.port, self.protocol.lower())
            }
        }
    }
}

/// Which field of the Service a frontend comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum FrontendKind {
    /// `spec.clusterIPs`.
    ClusterIp,
    /// `spec.ports[].nodePort`.
    NodePort,
    /// `spec.externalIPs`.
    ExternalIp,
    /// `status.loadBalancer.ingress[].ip`.
    LoadBalancerIp,
}

/// How clients are told apart and when their address is replaced. An endpoint that is chosen for itself (hairpin) is
/// always masqueraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Policy {
    /// Cluster IP: everybody gets [`FrontendSpec::inside`]; clients that are not local pods are masqueraded (if there
    /// is a way to tell them). With masqueradeAll everybody is; like kube-proxy's, it concerns this policy only.
    Internal,
    /// External address, `externalTrafficPolicy: Cluster`: everybody gets `inside`, masqueraded.
    ExternalCluster,
    /// External address, `externalTrafficPolicy: Local`: local pods get `inside` unmasqueraded (if there is a way to
    /// tell them), this node gets `inside` masqueraded, everybody else gets `outside` with the source kept.
    ExternalLocal,
}

/// One endpoint that may be chosen. Ordered by address, then port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Backend {
    /// Address.
    pub address: IpAddr,
    /// Port, host order.
    pub port: u16,
    /// Runs on this node.
    pub local: bool,
}

impl Backend {
    /// Address and port.
    pub const fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

/// The eligible backends of a frontend: sorted, without duplicates, never empty. Frontends of one Service port share it.
pub type Pool = Arc<[Backend]>;

/// Where a packet to a frontend goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To one of these.
    Pool(Pool),
    /// Nowhere: there is no endpoint at all. The client is told (ICMP unreachable).
    Reject,
    /// Nowhere: there are endpoints, but the policy leaves none. Silence.
    Drop,
}

impl Target {
    /// The backends, empty when rejected or dropped.
    pub fn backends(&self) -> &[Backend] {
        match self {
            Self::Pool(pool) => pool,
            Self::Reject | Self::Drop => &[],
        }
    }
}

/// All there is to know about one frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendSpec {
    /// The Service port it belongs to.
    pub owner: Arc<ServicePortName>,
    /// Which field it comes from.
    pub kind: FrontendKind,
    /// Who is told apart.
    pub policy: Policy,
    /// For everybody ([`Policy::Internal`], [`Policy::ExternalCluster`]), or for pods and this node.
    pub inside: Target,
    /// For clients from outside under [`Policy::ExternalLocal`]; equal to `inside` otherwise.
    pub outside: Target,
    /// Seconds of client affinity, shared by all frontends of the owner.
    pub affinity_seconds: Option<u32>,
    /// Load balancer IPs only: sources that may pass, of the frontend's family; everybody else is dropped (empty:
    /// everybody). `None`: all may pass.
    pub source_ranges: Option<Arc<[IpNet]>>,
    /// Every endpoint of the owner in this family that still serves, eligible here or not: a connection to one of
    /// these is not stale. Sorted.
    pub serving: Arc<[SocketAddr]>,
}

/// What does not belong to one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Globals {
    /// Addresses of this node on which node ports are accepted.
    pub node_port_addresses: BTreeSet<IpAddr>,
    /// Ranges from which cluster IPs are allocated.
    pub service_cidrs: BTreeSet<IpNet>,
    /// TCP ports of health-check servers that the host firewall must let in.
    pub health_check_node_ports: BTreeSet<u16>,
}

/// How one frontend changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The frontend.
    pub frontend: Frontend,
    /// What it was; `None` if it is new.
    pub old: Option<Arc<FrontendSpec>>,
    /// What it becomes; `None` if it goes.
    pub new: Option<Arc<FrontendSpec>>,
}

/// What a dataplane has to bring about, in one transaction a family. Sorted by frontend, each at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Frontends that differ.
    pub frontends: Vec<Change>,
    /// The new globals, if they differ.
    pub globals: Option<Globals>,
}

impl Changes {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.frontends.is_empty() && self.globals.is_none()
    }
}
