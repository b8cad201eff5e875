//! Numbers over all Services, for metrics.

use super::service::Counts;
use super::{PerFamily, ServicePlan};
use crate::domain::IpFamily;

/// Numbers over all Services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Services.
    pub services: u64,
    /// Service ports.
    pub ports: PerFamily<u64>,
    /// Endpoints, in any condition, once for each Service port.
    pub endpoints: PerFamily<u64>,
    /// `sync_proxy_rules_no_local_endpoints_total{traffic_policy="internal"}`.
    pub no_local_internal: PerFamily<u64>,
    /// `sync_proxy_rules_no_local_endpoints_total{traffic_policy="external"}`.
    pub no_local_external: PerFamily<u64>,
}

impl Totals {
    pub(super) fn add(&mut self, plan: &ServicePlan) {
        self.services += 1;
        self.each(plan, |total, part| *total += part);
    }

    pub(super) fn subtract(&mut self, plan: &ServicePlan) {
        self.services -= 1;
        self.each(plan, |total, part| *total -= part);
    }

    fn each(&mut self, plan: &ServicePlan, apply: impl Fn(&mut u64, u64)) {
        for family in IpFamily::ALL {
            let Counts { ports, endpoints, no_local_internal, no_local_external } = *plan.counts.get(family);
            apply(self.ports.get_mut(family), ports.into());
            apply(self.endpoints.get_mut(family), endpoints.into());
            apply(self.no_local_internal.get_mut(family), no_local_internal.into());
            apply(self.no_local_external.get_mut(family), no_local_external.into());
        }
    }
}
