//! Prometheus metrics: kube-proxy's under their own names, and ours under `shunt_`.
//!
//! Whoever has something to report calls a method; names and labels exist here only. Series with a family label exist
//! from the start, so that a rate over them is never missing; timestamps appear with their first value.

mod datapath;
mod generic;
mod kube_proxy;
mod labels;
mod own;
mod register;
mod service_traffic;
mod slis;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use prometheus::{Registry, TextEncoder};

use crate::domain::{IpFamily, ObjectKind, ServiceName};
use crate::kernel::Observations;
use generic::GenericMetrics;
use kube_proxy::KubeProxyMetrics;
pub use labels::{LocalPolicy, Repair, WatchRestart};
use own::OwnMetrics;
pub use own::ServiceSeries;
use register::Declarations;
use slis::SliMetrics;

/// Everything the agent counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    names: Vec<String>,
    kube_proxy: KubeProxyMetrics,
    generic: GenericMetrics,
    own: OwnMetrics,
    slis: SliMetrics,
}

/// Why metrics cannot be kept or shown.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A metric is declared wrongly, or twice.
    #[error("metric {name} cannot be registered")]
    Registration {
        /// Name of the metric.
        name: String,
        /// What is wrong.
        #[source]
        source: prometheus::Error,
    },
    /// The values cannot be written as text.
    #[error("metrics cannot be written as text")]
    Encoding(#[source] prometheus::Error),
}

impl Metrics {
    /// All metrics at zero. `per_service` bounds how many Services get series of their own.
    pub fn new(per_service: ServiceSeries) -> Result<Self, MetricsError> {
        let declarations = Declarations::default();
        let kube_proxy = KubeProxyMetrics::register(&declarations)?;
        let generic = GenericMetrics::register(&declarations)?;
        let own = OwnMetrics::register(&declarations, per_service)?;
        let slis = SliMetrics::new()?;
        let (registry, names) = declarations.finish();
        Ok(Self { registry, names, kube_proxy, generic, own, slis })
    }

    /// Names of all metrics of `/metrics`, but for those of the process.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The text of `/metrics`.
    pub fn render(&self, now: Instant) -> Result<String, MetricsError> {
        self.own.refresh_ages(now);
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(MetricsError::Encoding)
    }

    /// A sync of that family has ended well. `full` if everything was compared, not only what changed.
    pub fn synced(&self, family: IpFamily, full: bool, took: Duration, at: Timestamp) {
        self.kube_proxy.synced(family, full, took, at);
    }

    /// A sync of that family was asked for.
    pub fn sync_queued(&self, family: IpFamily, at: Timestamp) {
        self.kube_proxy.last_queued.with_label_values(&[labels::family(family)]).set(seconds(at));
    }

    /// A sync of that family failed.
    pub fn sync_failed(&self, family: IpFamily) {
        self.kube_proxy.sync_failures.get(family).inc();
    }

    /// Objects of another dataplane, no longer needed, could not be removed.
    pub fn cleanup_failed(&self, family: IpFamily) {
        self.kube_proxy.cleanup_failures.get(family).inc();
    }

    /// An endpoint change took that long from its trigger (as the control plane dated it) to the kernel.
    pub fn endpoints_programmed(&self, family: IpFamily, took: Duration) {
        self.kube_proxy.network_programming.get(family).observe(took.as_secs_f64());
    }

    /// An EndpointSlice changed.
    pub fn endpoint_change(&self) {
        self.kube_proxy.endpoint_changes.inc();
    }

    /// A Service changed.
    pub fn service_change(&self) {
        self.kube_proxy.service_changes.inc();
    }

    /// How many changes of Services and EndpointSlices wait to be programmed.
    pub fn set_pending(&self, services: usize, endpoint_slices: usize) {
        self.kube_proxy.services_pending.set(count(services));
        self.kube_proxy.endpoints_pending.set(count(endpoint_slices));
    }

    /// How many Services with a Local policy have no local endpoint.
    pub fn set_no_local_endpoints(&self, policy: LocalPolicy, family: IpFamily, services: usize) {
        let labels = [policy.label(), labels::family(family)];
        self.kube_proxy.no_local_endpoints.with_label_values(&labels).set(count(services));
    }

    /// Connection tracking was looked through for stale entries.
    pub fn conntrack_reconciled(&self, family: IpFamily, took: Duration, deleted: u64) {
        self.kube_proxy.conntrack_duration.get(family).observe(took.as_secs_f64());
        self.kube_proxy.conntrack_deleted.get(family).inc_by(deleted);
    }

    /// `/healthz` was answered with 200 (`ok`) or 503.
    pub fn healthz_answered(&self, ok: bool) {
        self.kube_proxy.healthz.with_label_values(&[labels::code(ok)]).inc();
    }

    /// `/livez` was answered with 200 (`ok`) or 503.
    pub fn livez_answered(&self, ok: bool) {
        self.kube_proxy.livez.with_label_values(&[labels::code(ok)]).inc();
    }

    /// The API answered a request (or did not: code `<error>`). `method` in capitals, `host` with its port.
    pub fn api_request(&self, code: &str, method: &str, host: &str) {
        self.generic.api_requests.with_label_values(&[code, method, host]).inc();
    }

    /// The watch of that kind gave a sign of life: a list, an event or a bookmark.
    pub fn watch_heard(&self, kind: ObjectKind, at: Instant) {
        self.own.watch_heard(kind, at);
    }

    /// A watch was started anew.
    pub fn watch_restarted(&self, kind: ObjectKind, reason: WatchRestart) {
        self.own.watch_restarts.with_label_values(&[kind.resource(), reason.label()]).inc();
    }

    /// A change received that long ago is in the kernel.
    pub fn change_programmed(&self, lag: Duration) {
        self.own.queue_lag.observe(lag.as_secs_f64());
    }

    /// Kernel objects that exist now, by kind, as [`crate::kernel::Dataplane::programmed`] gives them.
    pub fn set_programmed(&self, objects: &[(&'static str, u64)]) {
        for &(kind, number) in objects {
            self.own.programmed.with_label_values(&[kind]).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// What the kernel has counted, as [`crate::kernel::Dataplane::observations`] gives it.
    pub fn set_observations(&self, seen: &Observations) {
        self.own.set_observations(seen);
    }

    /// The dataplane that runs, for what was asked for.
    pub fn set_mode(&self, configured: &str, running: &str) {
        self.own.mode.with_label_values(&[configured, running]).set(1);
    }

    /// How many things do not work on this node as they could.
    pub fn set_shortcomings(&self, shortcomings: usize) {
        self.own.shortcomings.set(count(shortcomings));
    }

    /// The kernel state was brought back to what it should be.
    pub fn repaired(&self, reason: Repair) {
        self.own.repairs.with_label_values(&[reason.label()]).inc();
    }

    /// How many Services are served in that family.
    pub fn set_services(&self, family: IpFamily, services: usize) {
        self.own.services.with_label_values(&[labels::family(family)]).set(count(services));
    }

    /// Ready endpoints of one Service; not shown beyond the limit given to [`Metrics::new`].
    pub fn set_service_endpoints(&self, service: &ServiceName, ready: usize) {
        self.own.set_service_endpoints(service, ready);
    }

    /// A Service is gone, and its series with it.
    pub fn forget_service(&self, service: &ServiceName) {
        self.own.forget_service(service);
    }

    /// Connection tracking entries, and how many there may be.
    pub fn set_conntrack(&self, entries: u64, limit: u64) {
        self.own.conntrack_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.own.conntrack_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// How many objects of that kind have parts that cannot be used.
    pub fn set_object_problems(&self, kind: ObjectKind, objects: usize) {
        self.own.object_problems.with_label_values(&[kind.resource()]).set(count(objects));
    }

    /// A health check of the metrics server ran.
    pub fn health_checked(&self, name: &str, kind: &str, ok: bool) {
        self.slis.observe(name, kind, ok);
    }

    /// The text of `/metrics/slis`.
    pub fn render_slis(&self) -> Result<String, MetricsError> {
        self.slis.render()
    }

    /// Forgets all results of health checks.
    pub fn reset_slis(&self) {
        self.slis.reset();
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Seconds since the epoch, with microseconds: more than that does not fit beside them.
fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests;
