//! What the agent's own probe says of this kernel.

use shunt::kernel::probe::{ProbeOptions, probe_kernel};

use super::report::Report;

/// A line for each feature, `ok` or `missing`.
pub(super) fn report(report: &mut Report) {
    for feature in probe_kernel(&ProbeOptions::default()).features {
        let name = format!("{} ({})", feature.name, feature.need);
        if feature.available {
            report.ok("features", &name, &feature.detail);
        } else {
            report.missing("features", &name, &feature.detail);
        }
    }
}
