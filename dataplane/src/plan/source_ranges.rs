//! Who may reach a Service's load balancer addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{NodeView, ProblemReason};
use crate::domain::{IpFamily, Service};

/// What `loadBalancerSourceRanges` mean for one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceRanges {
    /// Sources that may pass: sorted, without overlaps. `None`: everybody may.
    pub(super) allowed: Option<Vec<IpNet>>,
    /// What the author of the Service may not expect.
    pub(super) problem: Option<ProblemReason>,
}

impl SourceRanges {
    const OPEN: Self = Self { allowed: None, problem: None };

    pub(super) fn of(service: &Service, family: IpFamily, node: &NodeView<'_>, strict: bool) -> Self {
        if service.source_ranges.is_empty() || vips(service, family).next().is_none() {
            return Self::OPEN;
        }
        let own: Vec<IpNet> =
            service.source_ranges.iter().copied().filter(|r| family_of(r) == family).collect();
        if own.is_empty() {
            return Self::without_own_ranges(service, family, strict);
        }
        Self { allowed: allowed(&own, service, family, node), problem: None }
    }

    /// Only the other family's ranges are given. kube-proxy lets everybody in then; who restricts one family hardly
    /// means that. Ranges of length 0 restrict nobody, so they close nothing here either.
    fn without_own_ranges(service: &Service, family: IpFamily, strict: bool) -> Self {
        if service.source_ranges.iter().any(|range| range.prefix_len() == 0) {
            return Self::OPEN;
        }
        let problem = Some(ProblemReason::NoSourceRange { family, closed: strict });
        Self { allowed: strict.then(Vec::new), problem }
    }
}

fn allowed(own: &[IpNet], service: &Service, family: IpFamily, node: &NodeView<'_>) -> Option<Vec<IpNet>> {
    let mut allowed: Vec<IpNet> = own.iter().map(IpNet::trunc).collect();
    // A node that holds the load balancer's address talks to it from that address.
    if node.primary.get(family).is_some_and(|primary| allowed.iter().any(|range| range.contains(&primary))) {
        allowed.extend(vips(service, family).map(IpNet::from));
    }
    let mut allowed = IpNet::aggregate(&allowed);
    allowed.sort_unstable();
    allowed.iter().all(|range| range.prefix_len() > 0).then_some(allowed)
}

fn vips(service: &Service, family: IpFamily) -> impl Iterator<Item = IpAddr> {
    service.load_balancer_ips.iter().copied().filter(move |address| IpFamily::of(*address) == family)
}

fn family_of(range: &IpNet) -> IpFamily {
    IpFamily::of(range.addr())
}
