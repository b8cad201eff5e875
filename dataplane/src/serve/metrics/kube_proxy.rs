//! kube-proxy's metrics, those of its nftables mode.

use std::time::Duration;

use jiff::Timestamp;
use prometheus::{GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::register::{Declarations, Declare, PerFamily, exponential, linear};
use super::{MetricsError, labels, seconds};
use crate::domain::IpFamily;

#[derive(Debug)]
pub(super) struct KubeProxyMetrics {
    syncs: SyncMetrics,
    pub(super) last_queued: GaugeVec,
    pub(super) network_programming: PerFamily<Histogram>,
    pub(super) endpoints_pending: IntGauge,
    pub(super) endpoint_changes: IntCounter,
    pub(super) services_pending: IntGauge,
    pub(super) service_changes: IntCounter,
    pub(super) no_local_endpoints: IntGaugeVec,
    pub(super) sync_failures: PerFamily<IntCounter>,
    pub(super) cleanup_failures: PerFamily<IntCounter>,
    pub(super) conntrack_duration: PerFamily<Histogram>,
    pub(super) conntrack_deleted: PerFamily<IntCounter>,
    pub(super) healthz: IntCounterVec,
    pub(super) livez: IntCounterVec,
}

#[derive(Debug)]
struct SyncMetrics {
    all: PerFamily<Histogram>,
    full: PerFamily<Histogram>,
    partial: PerFamily<Histogram>,
    last: GaugeVec,
}

impl KubeProxyMetrics {
    pub(super) fn register(declarations: &Declarations) -> Result<Self, MetricsError> {
        let sync = Declare::new(declarations, "kubeproxy_sync_proxy_rules_", "[ALPHA] ");
        let proxy = Declare::new(declarations, "kubeproxy_", "[ALPHA] ");
        let metrics = Self {
            syncs: SyncMetrics::register(&proxy)?,
            last_queued: sync.float_gauges(
                "last_queued_timestamp_seconds",
                "The last time a sync of proxy rules was queued",
                &["ip_family"],
            )?,
            network_programming: proxy.family_histograms(
                "network_programming_duration_seconds",
                "In Cluster Network Programming Latency in seconds",
                network_programming_buckets(),
            )?,
            endpoints_pending: sync
                .gauge("endpoint_changes_pending", "Pending proxy rules Endpoint changes")?,
            endpoint_changes: sync
                .counter("endpoint_changes_total", "Cumulative proxy rules Endpoint changes")?,
            services_pending: sync.gauge("service_changes_pending", "Pending proxy rules Service changes")?,
            service_changes: sync
                .counter("service_changes_total", "Cumulative proxy rules Service changes")?,
            no_local_endpoints: sync.gauges(
                "no_local_endpoints_total",
                "Number of services with a Local traffic policy and no endpoints",
                &["traffic_policy", "ip_family"],
            )?,
            sync_failures: sync
                .family_counters("nftables_sync_failures_total", "Cumulative proxy nftables sync failures")?,
            cleanup_failures: sync.family_counters(
                "nftables_cleanup_failures_total",
                "Cumulative proxy nftables cleanup failures",
            )?,
            conntrack_duration: proxy.family_histograms(
                "conntrack_reconciler_sync_duration_seconds",
                "ReconcileConntrackFlowsLatency latency in seconds",
                sync_buckets(),
            )?,
            conntrack_deleted: proxy.family_counters(
                "conntrack_reconciler_deleted_entries_total",
                "Cumulative conntrack flows deleted by conntrack reconciler",
            )?,
            healthz: proxy.counters(
                "proxy_healthz_total",
                "Cumulative proxy healthz HTTP status",
                &["code"],
            )?,
            livez: proxy.counters("proxy_livez_total", "Cumulative proxy livez HTTP status", &["code"])?,
        };
        for code in [true, false].map(labels::code) {
            metrics.healthz.with_label_values(&[code]);
            metrics.livez.with_label_values(&[code]);
        }
        Ok(metrics)
    }

    pub(super) fn synced(&self, family: IpFamily, full: bool, took: Duration, at: Timestamp) {
        let kind = if full { &self.syncs.full } else { &self.syncs.partial };
        kind.get(family).observe(took.as_secs_f64());
        self.syncs.all.get(family).observe(took.as_secs_f64());
        self.syncs.last.with_label_values(&[labels::family(family)]).set(seconds(at));
    }
}

impl SyncMetrics {
    fn register(proxy: &Declare<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            all: proxy.family_histograms(
                "sync_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds",
                sync_buckets(),
            )?,
            full: proxy.family_histograms(
                "sync_full_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for full resyncs",
                sync_buckets(),
            )?,
            partial: proxy.family_histograms(
                "sync_partial_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for partial resyncs",
                sync_buckets(),
            )?,
            last: proxy.float_gauges(
                "sync_proxy_rules_last_timestamp_seconds",
                "The last time proxy rules were successfully synced",
                &["ip_family"],
            )?,
        })
    }
}

fn sync_buckets() -> Vec<f64> {
    exponential(0.001, 2.0, 15)
}

fn network_programming_buckets() -> Vec<f64> {
    [linear(0.25, 0.25, 2), linear(1.0, 1.0, 59), linear(60.0, 5.0, 12), linear(120.0, 30.0, 7)].concat()
}
