//! A Service, reduced to what a proxy needs.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Protocol, ServiceName};

/// `spec.type`, of the types a proxy serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceType {
    /// ClusterIP.
    ClusterIp,
    /// NodePort.
    NodePort,
    /// LoadBalancer.
    LoadBalancer,
}

/// `spec.internalTrafficPolicy` and `spec.externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrafficPolicy {
    /// All endpoints.
    Cluster,
    /// Endpoints of this node only.
    Local,
}

/// A Service that this proxy serves. Headless, `ExternalName` and foreign (`service-proxy-name`) Services never become
/// one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: ServiceName,
    /// `metadata.uid`, for Events.
    pub uid: Arc<str>,
    /// `metadata.creationTimestamp` in seconds since the epoch; the older Service wins a disputed address.
    pub created: i64,
    /// `spec.type`.
    pub kind: ServiceType,
    /// `spec.clusterIPs`, at most one a family.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs` that are addresses.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of `status.loadBalancer.ingress` with `ipMode` VIP (or none); hostnames and `Proxy` are left out.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges` (or the annotation of the same meaning), trimmed and parsed; empty if none is
    /// given. A range of length 0 is kept: `plan` reads it as "all".
    pub source_ranges: Vec<IpNet>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`; Cluster for Services without external addresses.
    pub external_policy: TrafficPolicy,
    /// Seconds of `ClientIP` session affinity; `None` without affinity.
    pub affinity_seconds: Option<u32>,
    /// `spec.healthCheckNodePort`, if the Service needs one (`LoadBalancer` with external policy Local).
    pub health_check_node_port: Option<u16>,
}

/// One entry of `spec.ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name, empty for the unnamed port.
    pub name: Arc<str>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port of the cluster, external and load balancer addresses.
    pub port: u16,
    /// Node port, if one is allocated.
    pub node_port: Option<u16>,
}
