//! v1 Node -> [`Node`].

use ipnet::IpNet;

use super::{Converted, Names, Problems};
use crate::domain::{Node, ObjectKind};
use crate::watch::wire;

/// Node addresses that kube-proxy uses, in its order of preference.
const ADDRESS_TYPES: [&str; 2] = ["InternalIP", "ExternalIP"];
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
const AUTOSCALER_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// Converts a Node.
pub fn node(object: &wire::Node<'_>, names: &Names) -> Converted<Node> {
    let mut problems = Problems::of(ObjectKind::Node, &object.metadata);
    let meta = &object.metadata;
    let node = Node {
        name: names.shared(&meta.name),
        uid: (*meta.uid).into(),
        zone: meta.labels.get(ZONE_LABEL).filter(|zone| !zone.is_empty()).map(|zone| names.shared(zone)),
        addresses: addresses(object, &mut problems),
        pod_cidrs: pod_cidrs(&object.spec, &mut problems),
        deleting: meta.deletion_timestamp.is_some(),
        autoscaler_drains: object.spec.taints.iter().any(|taint| &*taint.key == AUTOSCALER_TAINT),
    };
    problems.with(node)
}

fn addresses(object: &wire::Node<'_>, problems: &mut Problems) -> Vec<std::net::IpAddr> {
    let mut addresses = Vec::new();
    for kind in ADDRESS_TYPES {
        for (index, entry) in
            object.status.addresses.iter().enumerate().filter(|(_, entry)| &*entry.kind == kind)
        {
            let field = || format!("status.addresses[{index}].address");
            let Some(address) = problems.ip(field, &entry.address) else { continue };
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    addresses
}

fn pod_cidrs(spec: &wire::NodeSpec<'_>, problems: &mut Problems) -> Vec<IpNet> {
    if spec.pod_cidrs.is_empty() {
        problems
            .cidrs("spec.podCIDR", spec.pod_cidr.iter().map(|text| &**text).filter(|text| !text.is_empty()))
    } else {
        problems.cidrs("spec.podCIDRs", spec.pod_cidrs.iter().map(|text| &**text))
    }
}
