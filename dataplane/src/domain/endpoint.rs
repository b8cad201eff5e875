//! EndpointSlices, reduced to what a proxy needs.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::{IpFamily, Protocol, ServiceName};

/// Namespace and name of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SliceName {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name within the namespace.
    pub name: Arc<str>,
}

impl fmt::Display for SliceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One EndpointSlice of address type IPv4 or IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub name: SliceName,
    /// The Service it belongs to: label `kubernetes.io/service-name`.
    pub service: ServiceName,
    /// `addressType`.
    pub family: IpFamily,
    /// Ports that all endpoints of the slice have.
    pub ports: Vec<EndpointPort>,
    /// Endpoints, one for each address that is used (kube-proxy uses the first address of each).
    pub endpoints: Vec<Endpoint>,
    /// Annotation `endpoints.kubernetes.io/last-change-trigger-time`, nanoseconds since the epoch.
    pub trigger_time_ns: Option<i64>,
}

/// One entry of an EndpointSlice's `ports`; entries without a port number are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// Name that ties it to a Service port.
    pub name: Arc<str>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port of the endpoint.
    pub port: u16,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address, of the slice's family.
    pub address: IpAddr,
    /// `conditions.ready`, true if absent.
    pub ready: bool,
    /// `conditions.serving`, true if absent (kube-proxy reads it so).
    pub serving: bool,
    /// `conditions.terminating`, false if absent.
    pub terminating: bool,
    /// `nodeName`.
    pub node: Option<Arc<str>>,
    /// `hints`, if there are any.
    pub hints: Option<Box<Hints>>,
}

/// Topology hints of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `forZones`.
    pub zones: Vec<Arc<str>>,
    /// `forNodes`.
    pub nodes: Vec<Arc<str>>,
}
