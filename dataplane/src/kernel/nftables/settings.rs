//! What the operator decides about the tables.

use crate::domain::{IpFamily, LocalDetector};

/// Settings of the nftables dataplane; they do not change while the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The families to serve, each with its way of telling local pods from other clients.
    pub families: Vec<(IpFamily, LocalDetector)>,
    /// The packet mark bit that means "masquerade this one"; it is cleared again before the packet leaves.
    pub masquerade_mark: u32,
    /// Masquerade every client of a cluster IP. As in kube-proxy, external traffic policy Local still keeps sources.
    pub masquerade_all: bool,
}

impl Settings {
    /// The settings of one family.
    pub(super) fn family(&self, family: IpFamily, detector: &LocalDetector) -> FamilySettings {
        let detector = match detector {
            LocalDetector::Cidrs(cidrs) => {
                let own = cidrs.iter().filter(|cidr| IpFamily::of(cidr.addr()) == family);
                let own: Vec<_> = own.map(ipnet::IpNet::trunc).collect();
                if own.is_empty() { LocalDetector::None } else { LocalDetector::Cidrs(own) }
            }
            other => other.clone(),
        };
        FamilySettings { family, detector, mark: self.masquerade_mark, masquerade_all: self.masquerade_all }
    }
}

/// The settings of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FamilySettings {
    pub(super) family: IpFamily,
    /// Ranges are of this family, truncated, and never an empty list.
    pub(super) detector: LocalDetector,
    pub(super) mark: u32,
    pub(super) masquerade_all: bool,
}
