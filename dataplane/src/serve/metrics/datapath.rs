//! What the BPF programs have counted, and how full their tables are.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::register::Declare;
use super::service_traffic::ServiceTraffic;
use super::{MetricsError, labels};
use crate::kernel::{EventCount, Observations};

#[derive(Debug)]
pub(super) struct DatapathMetrics {
    events: IntCounterVec,
    drops: IntCounterVec,
    map_entries: IntGaugeVec,
    map_capacity: IntGaugeVec,
    left_out: IntGaugeVec,
    flows: IntGaugeVec,
    service_traffic: ServiceTraffic,
}

impl DatapathMetrics {
    /// `limit`: how many Services may have series of their own.
    pub(super) fn register(own: &Declare<'_>, limit: usize) -> Result<Self, MetricsError> {
        Ok(Self {
            events: own.counters(
                "datapath_events_total",
                "What happened to packets and sockets in the BPF programs",
                &["event"],
            )?,
            drops: own.counters(
                "datapath_drops_total",
                "Packets that the BPF programs dropped, by why",
                &["reason"],
            )?,
            map_entries: own.gauges("map_entries", "Entries of kernel tables of fixed size", &["map"])?,
            map_capacity: own.gauges(
                "map_capacity",
                "Entries that kernel tables of fixed size can hold",
                &["map"],
            )?,
            left_out: own.gauges(
                "frontends_left_out",
                "Frontends that are not programmed, or not with all of their endpoints, because this kernel table is full",
                &["map"],
            )?,
            flows: own.gauges(
                "flows",
                "Flows that the BPF programs follow, at the last look",
                &["ip_family", "state"],
            )?,
            service_traffic: ServiceTraffic::register(own, limit)?,
        })
    }

    /// The kernel's counts only grow, also while no agent runs; a count that is lower is of maps made anew.
    pub(super) fn set(&self, seen: &Observations) {
        for EventCount { event, drops, count } in &seen.events {
            let family = if *drops { &self.drops } else { &self.events };
            let counter = family.with_label_values(&[*event]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        for (map, entries, capacity) in &seen.occupancy {
            let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            self.map_entries.with_label_values(&[*map]).set(number(*entries));
            self.map_capacity.with_label_values(&[*map]).set(number(*capacity));
        }
        for (map, frontends) in &seen.left_out {
            self.left_out.with_label_values(&[*map]).set(i64::try_from(*frontends).unwrap_or(i64::MAX));
        }
        for (family, state, flows) in &seen.flows {
            let labels = [labels::family(*family), *state];
            self.flows.with_label_values(&labels).set(i64::try_from(*flows).unwrap_or(i64::MAX));
        }
        self.service_traffic.set(&seen.services);
    }
}
