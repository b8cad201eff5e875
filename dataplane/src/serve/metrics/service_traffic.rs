//! Traffic of single Services, of so many as were asked for; all others together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntCounterVec;

use super::MetricsError;
use super::register::Declare;
use crate::domain::{ServiceName, ServicePortName};
use crate::kernel::Traffic;

/// Labels of the series of all that have none of their own: no namespace is without a name.
const OTHERS: [&str; 2] = ["", "other"];

/// Counters by namespace and Service.
#[derive(Debug)]
pub(super) struct ServiceTraffic {
    limit: usize,
    packets: IntCounterVec,
    bytes: IntCounterVec,
    connections: IntCounterVec,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What each Service had when it was last seen.
    seen: BTreeMap<ServiceName, Traffic>,
    /// Those with series of their own.
    listed: BTreeSet<ServiceName>,
}

impl ServiceTraffic {
    pub(super) fn register(own: &Declare<'_>, limit: usize) -> Result<Self, MetricsError> {
        let labels = &["namespace", "service"];
        let counters = |name: &str, help: &str| own.counters(name, help, labels);
        Ok(Self {
            limit,
            packets: counters(
                "service_packets_total",
                "Packets to and from a Service that the BPF programs translated; Services beyond serviceMetrics are \
                 counted together, without namespace, as \"other\"",
            )?,
            bytes: counters(
                "service_bytes_total",
                "Bytes of the packets to and from a Service, link-layer headers included",
            )?,
            connections: counters(
                "service_connections_total",
                "Connections to a Service that began, those of sockets included",
            )?,
            state: Mutex::default(),
        })
    }

    /// Takes in what Service ports have had so far.
    pub(super) fn set(&self, ports: &[(Arc<ServicePortName>, Traffic)]) {
        if self.limit == 0 {
            return;
        }
        let services = by_service(ports);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget_gone(&mut state, &services);
        self.list(&mut state, &services);
        for (service, now) in services {
            let before = state.seen.insert(service.clone(), now).unwrap_or_default();
            let labels: [&str; 2] =
                if state.listed.contains(&service) { [&service.namespace, &service.name] } else { OTHERS };
            let series = [
                (&self.packets, before.packets, now.packets),
                (&self.bytes, before.bytes, now.bytes),
                (&self.connections, before.connections, now.connections),
            ];
            for (counter, before, now) in series {
                // What is less than before was begun anew.
                counter.with_label_values(&labels).inc_by(now.checked_sub(before).unwrap_or(now));
            }
        }
    }

    fn forget_gone(&self, state: &mut State, services: &BTreeMap<ServiceName, Traffic>) {
        state.seen.retain(|service, _| services.contains_key(service));
        let gone: Vec<_> =
            state.listed.iter().filter(|service| !services.contains_key(*service)).cloned().collect();
        for service in gone {
            state.listed.remove(&service);
            for counter in [&self.packets, &self.bytes, &self.connections] {
                if let Err(error) = counter.remove_label_values(&[&*service.namespace, &*service.name]) {
                    tracing::debug!(%service, %error, "no series to remove");
                }
            }
        }
    }

    /// Gives free series to those with most traffic. Who has one keeps it, or its counters would jump.
    fn list(&self, state: &mut State, services: &BTreeMap<ServiceName, Traffic>) {
        let free = self.limit.saturating_sub(state.listed.len());
        if free == 0 {
            return;
        }
        let mut others: Vec<_> =
            services.iter().filter(|(service, _)| !state.listed.contains(*service)).collect();
        others.sort_by_key(|(service, traffic)| (std::cmp::Reverse(traffic.bytes), (*service).clone()));
        state.listed.extend(others.into_iter().take(free).map(|(service, _)| service.clone()));
    }
}

fn by_service(ports: &[(Arc<ServicePortName>, Traffic)]) -> BTreeMap<ServiceName, Traffic> {
    let mut services: BTreeMap<ServiceName, Traffic> = BTreeMap::new();
    for (port, traffic) in ports {
        let sum = services.entry(port.service.clone()).or_default();
        sum.packets = sum.packets.wrapping_add(traffic.packets);
        sum.bytes = sum.bytes.wrapping_add(traffic.bytes);
        sum.connections = sum.connections.wrapping_add(traffic.connections);
    }
    services
}

#[cfg(test)]
mod tests {
    use super::super::register::Declarations;
    use super::*;
    use crate::domain::Protocol;

    fn port(service: &str, port: &str, bytes: u64) -> (Arc<ServicePortName>, Traffic) {
        let service = ServiceName::new("ns", service);
        let name = ServicePortName { service, port: port.into(), protocol: Protocol::Tcp };
        (Arc::new(name), Traffic { packets: bytes / 100, bytes, connections: 1 })
    }

    fn metrics(limit: usize) -> ServiceTraffic {
        let declarations = Declarations::default();
        ServiceTraffic::register(&Declare::new(&declarations, "shunt_", ""), limit).unwrap()
    }

    fn bytes(metrics: &ServiceTraffic, labels: [&str; 2]) -> u64 {
        metrics.bytes.with_label_values(&labels).get()
    }

    #[test]
    fn ports_of_a_service_are_counted_together_and_only_grow() {
        let metrics = metrics(10);
        metrics.set(&[port("web", "http", 100), port("web", "https", 1000)]);
        assert_eq!(bytes(&metrics, ["ns", "web"]), 1100);
        metrics.set(&[port("web", "http", 300), port("web", "https", 1000)]);
        assert_eq!(bytes(&metrics, ["ns", "web"]), 1300);
        metrics.set(&[port("web", "http", 50)]);
        assert_eq!(bytes(&metrics, ["ns", "web"]), 1350, "begun anew");
        assert_eq!(metrics.packets.with_label_values(&["ns", "web"]).get(), 13);
    }

    #[test]
    fn those_with_most_traffic_have_series_and_the_rest_one_together() {
        let metrics = metrics(2);
        metrics.set(&[port("a", "p", 10), port("b", "p", 500), port("c", "p", 400), port("d", "p", 20)]);
        assert_eq!(bytes(&metrics, ["ns", "b"]), 500);
        assert_eq!(bytes(&metrics, ["ns", "c"]), 400);
        assert_eq!(bytes(&metrics, OTHERS), 30);
        metrics.set(&[port("a", "p", 9000), port("c", "p", 400), port("d", "p", 25)]);
        assert_eq!(bytes(&metrics, ["ns", "a"]), 8990, "b has gone, and left its place to a");
        assert_eq!(bytes(&metrics, OTHERS), 35);
        let mut labels =
            metrics.state.lock().unwrap().listed.iter().map(ToString::to_string).collect::<Vec<_>>();
        labels.sort();
        assert_eq!(labels, ["ns/a", "ns/c"]);
    }

    #[test]
    fn nothing_is_shown_unless_asked_for() {
        let metrics = metrics(0);
        metrics.set(&[port("a", "p", 10)]);
        assert!(metrics.state.lock().unwrap().seen.is_empty());
    }
}
