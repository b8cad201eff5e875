//! networking.k8s.io/v1 ServiceCIDR -> its ranges.

use ipnet::IpNet;

use super::{Converted, Problems};
use crate::domain::ObjectKind;
use crate::watch::wire;

/// The ranges of a ServiceCIDR.
pub fn service_cidr(object: &wire::ServiceCidr<'_>) -> Converted<Vec<IpNet>> {
    let mut problems = Problems::of(ObjectKind::ServiceCidr, &object.metadata);
    let ranges = problems.cidrs("spec.cidrs", object.spec.cidrs.iter().map(|text| &**text));
    problems.with(ranges)
}
