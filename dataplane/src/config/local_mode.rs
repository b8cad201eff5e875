//! `detectLocalMode`: how pods of this node are recognised, and what that comes down to for one address family.

use ipnet::IpNet;

use super::error::ConfigError;
use super::settings::Settings;
use crate::domain::{IpFamily, LocalDetector, Node};

/// `detectLocalMode` with its argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalMode {
    /// Sources inside the cluster's pod ranges; none are known if this is empty.
    ClusterCidr(Vec<IpNet>),
    /// Sources inside `spec.podCIDRs` of the Node object. kube-proxy waits for them at start, and restarts when they
    /// change.
    NodeCidr,
    /// Packets that enter through this bridge.
    BridgeInterface(String),
    /// Packets that enter through interfaces whose name starts with this.
    InterfaceNamePrefix(String),
}

impl Settings {
    /// How traffic of this node's pods is recognised in `family`.
    ///
    /// Without ranges of that family it is [`LocalDetector::None`]; whether that is an error is for
    /// [`Settings::check_families`] to say. Mode NodeCIDR fails while the node has no pod CIDRs at all.
    pub fn local_detector(&self, family: IpFamily, node: &Node) -> Result<LocalDetector, ConfigError> {
        Ok(match &self.local_mode {
            LocalMode::ClusterCidr(ranges) => of_family(ranges, family),
            LocalMode::NodeCidr if node.pod_cidrs.is_empty() => {
                return Err(ConfigError::NoPodCidrs { node: self.node_name.clone() });
            }
            LocalMode::NodeCidr => of_family(&node.pod_cidrs, family),
            LocalMode::BridgeInterface(name) => LocalDetector::BridgeInterface(name.clone()),
            LocalMode::InterfaceNamePrefix(prefix) => LocalDetector::InterfaceNamePrefix(prefix.clone()),
        })
    }

    /// Compares the pod ranges with the families this node serves: ranges of the wrong family only are an error on a
    /// single-stack node, and give warnings on a dual-stack one.
    pub fn check_families(
        &self,
        primary: IpFamily,
        dual_stack: bool,
        node: &Node,
    ) -> Result<Vec<String>, ConfigError> {
        let (field, ranges) = match &self.local_mode {
            LocalMode::ClusterCidr(ranges) if ranges.is_empty() => {
                return Ok(vec!["clusterCIDR is empty: pods cannot be told from other clients".to_owned()]);
            }
            LocalMode::ClusterCidr(ranges) => ("clusterCIDR", ranges.as_slice()),
            LocalMode::NodeCidr => ("spec.podCIDRs", node.pod_cidrs.as_slice()),
            LocalMode::BridgeInterface(_) | LocalMode::InterfaceNamePrefix(_) => return Ok(Vec::new()),
        };
        let has_primary = ranges.iter().any(|range| IpFamily::of(range.addr()) == primary);
        if has_primary || ranges.is_empty() {
            Ok(Vec::new())
        } else if dual_stack {
            Ok(vec![format!(
                "the node is {primary}-primary, but {field} has only ranges of the other family"
            )])
        } else {
            Err(ConfigError::WrongFamily { family: primary, field })
        }
    }
}

fn of_family(ranges: &[IpNet], family: IpFamily) -> LocalDetector {
    let matching: Vec<_> =
        ranges.iter().copied().filter(|range| IpFamily::of(range.addr()) == family).collect();
    if matching.is_empty() { LocalDetector::None } else { LocalDetector::Cidrs(matching) }
}
