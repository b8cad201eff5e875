//! How traffic of this node's pods is recognised.

use ipnet::IpNet;

/// What `detectLocalMode` comes down to for one address family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalDetector {
    /// There is no way to tell pods from other clients.
    #[default]
    None,
    /// Sources inside these ranges are local pods (modes ClusterCIDR and NodeCIDR).
    Cidrs(Vec<IpNet>),
    /// Packets that enter through this bridge.
    BridgeInterface(String),
    /// Packets that enter through interfaces whose name starts with this.
    InterfaceNamePrefix(String),
}
