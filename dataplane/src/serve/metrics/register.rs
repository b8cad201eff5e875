//! Declaring metrics.

use std::cell::RefCell;

use prometheus::core::{Collector, GenericCounter, MetricVec, MetricVecBuilder};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::{MetricsError, labels};
use crate::domain::IpFamily;

/// A registry that is being filled.
#[derive(Default)]
pub(super) struct Declarations {
    pub(super) registry: Registry,
    names: RefCell<Vec<String>>,
}

impl Declarations {
    /// The registry, and the names of what was declared in it.
    pub(super) fn finish(self) -> (Registry, Vec<String>) {
        (self.registry, self.names.into_inner())
    }
}

/// Declares metrics with a common prefix.
pub(super) struct Declare<'a> {
    declarations: &'a Declarations,
    prefix: &'static str,
    /// Stability in front of the help text, as Kubernetes writes it: `[ALPHA] `.
    stability: &'static str,
}

/// One series for each address family.
#[derive(Debug)]
pub(super) struct PerFamily<T> {
    v4: T,
    v6: T,
}

impl<T> PerFamily<T> {
    /// The series of that family.
    pub(super) const fn get(&self, family: IpFamily) -> &T {
        match family {
            IpFamily::V4 => &self.v4,
            IpFamily::V6 => &self.v6,
        }
    }

    fn of<B: MetricVecBuilder<M = T>>(vec: &MetricVec<B>) -> Self
    where
        T: prometheus::core::Metric,
    {
        Self {
            v4: vec.with_label_values(&[labels::family(IpFamily::V4)]),
            v6: vec.with_label_values(&[labels::family(IpFamily::V6)]),
        }
    }
}

const IP_FAMILY: &[&str] = &["ip_family"];

impl<'a> Declare<'a> {
    /// Metrics whose names start with `prefix`.
    pub(super) const fn new(
        declarations: &'a Declarations,
        prefix: &'static str,
        stability: &'static str,
    ) -> Self {
        Self { declarations, prefix, stability }
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.register(name, IntCounter::with_opts(self.opts(name, help)))
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricsError> {
        self.register(name, IntCounterVec::new(self.opts(name, help), labels))
    }

    pub(super) fn family_counters(
        &self,
        name: &str,
        help: &str,
    ) -> Result<PerFamily<GenericCounter<prometheus::core::AtomicU64>>, MetricsError> {
        Ok(PerFamily::of(&self.counters(name, help, IP_FAMILY)?))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.register(name, IntGauge::with_opts(self.opts(name, help)))
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, MetricsError> {
        self.register(name, IntGaugeVec::new(self.opts(name, help), labels))
    }

    pub(super) fn float_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, MetricsError> {
        self.register(name, GaugeVec::new(self.opts(name, help), labels))
    }

    pub(super) fn float_gauge(&self, name: &str, help: &str) -> Result<Gauge, MetricsError> {
        self.register(name, Gauge::with_opts(self.opts(name, help)))
    }

    pub(super) fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: Vec<f64>,
    ) -> Result<Histogram, MetricsError> {
        let opts = HistogramOpts { common_opts: self.opts(name, help), buckets };
        self.register(name, Histogram::with_opts(opts))
    }

    pub(super) fn family_histograms(
        &self,
        name: &str,
        help: &str,
        buckets: Vec<f64>,
    ) -> Result<PerFamily<Histogram>, MetricsError> {
        let opts = HistogramOpts { common_opts: self.opts(name, help), buckets };
        Ok(PerFamily::of(&self.register(name, HistogramVec::new(opts, IP_FAMILY))?))
    }

    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("{}{name}", self.prefix), format!("{}{help}", self.stability))
    }

    fn register<C: Collector + Clone + 'static>(
        &self,
        name: &str,
        collector: prometheus::Result<C>,
    ) -> Result<C, MetricsError> {
        let name = format!("{}{name}", self.prefix);
        let registered = collector.and_then(|collector| {
            self.declarations.registry.register(Box::new(collector.clone()))?;
            Ok(collector)
        });
        match registered {
            Ok(collector) => {
                self.declarations.names.borrow_mut().push(name);
                Ok(collector)
            }
            Err(source) => Err(MetricsError::Registration { name, source }),
        }
    }
}

/// `count` bounds: `start`, then each `factor` times the one before.
pub(super) fn exponential(start: f64, factor: f64, count: usize) -> Vec<f64> {
    std::iter::successors(Some(start), |bound| Some(bound * factor)).take(count).collect()
}

/// `count` bounds: `start`, then each `width` more than the one before.
pub(super) fn linear(start: f64, width: f64, count: usize) -> Vec<f64> {
    std::iter::successors(Some(start), |bound| Some(bound + width)).take(count).collect()
}
