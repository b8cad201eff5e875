//! Our own metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus::{Gauge, GaugeVec, Histogram, IntCounterVec, IntGauge, IntGaugeVec};

use super::MetricsError;
use super::datapath::DatapathMetrics;
use super::labels::Repair;
use super::register::{Declarations, Declare, exponential};
use crate::domain::{ObjectKind, ServiceName};
use crate::kernel::Observations;

/// How many Services may have series of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceSeries {
    /// None: clusters with many Services would have many series.
    #[default]
    Off,
    /// The first so many that are reported.
    UpTo(usize),
}

impl ServiceSeries {
    const fn limit(self) -> usize {
        match self {
            Self::Off => 0,
            Self::UpTo(limit) => limit,
        }
    }
}

#[derive(Debug)]
pub(super) struct OwnMetrics {
    watch_age: GaugeVec,
    heard: Mutex<BTreeMap<ObjectKind, Instant>>,
    pub(super) watch_restarts: IntCounterVec,
    pub(super) queue_lag: Histogram,
    pub(super) programmed: IntGaugeVec,
    pub(super) repairs: IntCounterVec,
    pub(super) services: IntGaugeVec,
    service_endpoints: ServiceEndpoints,
    pub(super) mode: IntGaugeVec,
    pub(super) shortcomings: IntGauge,
    pub(super) conntrack_entries: IntGauge,
    pub(super) conntrack_limit: IntGauge,
    pub(super) object_problems: IntGaugeVec,
    datapath: DatapathMetrics,
}

#[derive(Debug)]
struct ServiceEndpoints {
    limit: usize,
    ready: IntGaugeVec,
    unlisted: Gauge,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    listed: BTreeSet<ServiceName>,
    unlisted: BTreeSet<ServiceName>,
}

impl OwnMetrics {
    pub(super) fn register(
        declarations: &Declarations,
        per_service: ServiceSeries,
    ) -> Result<Self, MetricsError> {
        let own = Declare::new(declarations, "shunt_", "");
        let metrics = Self {
            watch_age: own.float_gauges(
                "watch_age_seconds",
                "Time since the watch last gave a sign of life",
                &["resource"],
            )?,
            heard: Mutex::default(),
            watch_restarts: own.counters(
                "watch_restarts_total",
                "Watches started anew, by why",
                &["resource", "reason"],
            )?,
            queue_lag: own.histogram(
                "queue_lag_seconds",
                "Time from a watch event to its effect in the kernel",
                exponential(0.000_5, 2.0, 18),
            )?,
            programmed: own.gauges("programmed_objects", "Kernel objects programmed now", &["kind"])?,
            repairs: own.counters(
                "repairs_total",
                "Times the kernel state had to be brought back, by how it was noticed",
                &["reason"],
            )?,
            services: own.gauges("services", "Services served", &["ip_family"])?,
            service_endpoints: ServiceEndpoints::register(&own, per_service)?,
            mode: own.gauges("mode", "1 for the dataplane that runs", &["configured", "running"])?,
            shortcomings: own.gauge(
                "degraded_features",
                "Things that do not work on this node as they could; shunt status names them",
            )?,
            conntrack_entries: own.gauge("conntrack_entries", "Connection tracking entries of the node")?,
            conntrack_limit: own.gauge("conntrack_limit", "Connection tracking entries the node can hold")?,
            object_problems: own.gauges(
                "object_problems",
                "Objects with parts that cannot be used",
                &["resource"],
            )?,
            datapath: DatapathMetrics::register(&own, per_service.limit())?,
        };
        for reason in Repair::ALL {
            metrics.repairs.with_label_values(&[reason.label()]);
        }
        Ok(metrics)
    }

    pub(super) fn watch_heard(&self, kind: ObjectKind, at: Instant) {
        lock(&self.heard).insert(kind, at);
    }

    pub(super) fn refresh_ages(&self, now: Instant) {
        for (kind, &heard) in lock(&self.heard).iter() {
            let age = now.saturating_duration_since(heard).as_secs_f64();
            self.watch_age.with_label_values(&[kind.resource()]).set(age);
        }
    }

    pub(super) fn set_observations(&self, seen: &Observations) {
        self.datapath.set(seen);
    }

    pub(super) fn set_service_endpoints(&self, service: &ServiceName, ready: usize) {
        self.service_endpoints.set(service, ready);
    }

    pub(super) fn forget_service(&self, service: &ServiceName) {
        self.service_endpoints.forget(service);
    }
}

impl ServiceEndpoints {
    fn register(own: &Declare<'_>, per_service: ServiceSeries) -> Result<Self, MetricsError> {
        Ok(Self {
            limit: per_service.limit(),
            ready: own.gauges(
                "service_ready_endpoints",
                "Ready endpoints of a Service",
                &["namespace", "service"],
            )?,
            unlisted: own.float_gauge(
                "service_series_left_out",
                "Services without series of their own because there are too many",
            )?,
            known: Mutex::default(),
        })
    }

    fn set(&self, service: &ServiceName, ready: usize) {
        if self.limit == 0 {
            return;
        }
        let mut known = lock(&self.known);
        if !known.listed.contains(service) {
            if known.listed.len() >= self.limit {
                known.unlisted.insert(service.clone());
                self.show_unlisted(&known);
                return;
            }
            known.unlisted.remove(service);
            known.listed.insert(service.clone());
            self.show_unlisted(&known);
        }
        self.ready.with_label_values(&[&*service.namespace, &*service.name]).set(super::count(ready));
    }

    fn forget(&self, service: &ServiceName) {
        let mut known = lock(&self.known);
        known.unlisted.remove(service);
        if known.listed.remove(service)
            && let Err(error) = self.ready.remove_label_values(&[&*service.namespace, &*service.name])
        {
            tracing::debug!(%service, %error, "no series to remove");
        }
        self.show_unlisted(&known);
    }

    fn show_unlisted(&self, known: &Known) {
        self.unlisted.set(f64::from(u32::try_from(known.unlisted.len()).unwrap_or(u32::MAX)));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
