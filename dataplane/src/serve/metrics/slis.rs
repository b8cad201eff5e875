//! Health checks as service level indicators, on a page of their own.

use prometheus::{IntCounterVec, IntGaugeVec, Registry, TextEncoder};

use super::MetricsError;
use super::register::{Declarations, Declare};

#[derive(Debug)]
pub(super) struct SliMetrics {
    registry: Registry,
    result: IntGaugeVec,
    results: IntCounterVec,
}

impl SliMetrics {
    pub(super) fn new() -> Result<Self, MetricsError> {
        let declarations = Declarations::default();
        let declare = Declare::new(&declarations, "kubernetes_", "[STABLE] ");
        Ok(Self {
            result: declare.gauges(
                "healthcheck",
                "This metric records the result of a single healthcheck.",
                &["name", "type"],
            )?,
            results: declare.counters(
                "healthchecks_total",
                "This metric records the results of all healthcheck.",
                &["name", "type", "status"],
            )?,
            registry: declarations.finish().0,
        })
    }

    pub(super) fn observe(&self, name: &str, kind: &str, ok: bool) {
        let status = if ok { "success" } else { "error" };
        self.result.with_label_values(&[name, kind]).set(i64::from(ok));
        self.results.with_label_values(&[name, kind, status]).inc();
    }

    pub(super) fn render(&self) -> Result<String, MetricsError> {
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(MetricsError::Encoding)
    }

    pub(super) fn reset(&self) {
        self.result.reset();
        self.results.reset();
    }
}
