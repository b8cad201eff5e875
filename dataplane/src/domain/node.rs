//! This node.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// What the proxy takes from its Node object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.uid`, for Events.
    pub uid: Arc<str>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// Node addresses (`InternalIP`, then `ExternalIP`), in the order kube-proxy takes them.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Tainted `ToBeDeletedByClusterAutoscaler`.
    pub autoscaler_drains: bool,
}
