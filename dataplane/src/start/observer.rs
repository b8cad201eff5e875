//! Servers, and everybody else who is told what happens.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use jiff::Timestamp;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::config::{KubeProxyConfiguration, Loaded, NodePortAddresses, Settings};
use crate::reconcile::{Observer, QueryHandle};
use crate::serve::{
    Clock, EventSink, HealthMonitor, HttpServer, LogHandle, Metrics, MetricsPages, NodePortServers,
    ServeError, ServerRole, health_router, metrics_router,
};
use crate::watch::WatchStatus;

/// What the servers show.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) health: &'a Arc<HealthMonitor>,
    pub(super) events: &'a Arc<dyn EventSink>,
    pub(super) queries: QueryHandle,
    pub(super) logs: LogHandle,
    pub(super) started: Timestamp,
    /// What /proxyMode says: the dataplane that runs, once that is known.
    pub(super) proxy_mode: Arc<OnceLock<&'static str>>,
}

/// Starts the health and metrics servers. A task ends only if its server may fail for good.
pub(super) fn spawn_servers(shown: Shown<'_>) -> anyhow::Result<JoinSet<ServeError>> {
    let servers = &shown.loaded.settings.servers;
    let mut tasks = JoinSet::new();
    let mut spawn = |role, address, router| {
        let server = HttpServer { role, address, router, hard_fail: servers.bind_hard_fail };
        tasks.spawn(server.run(Arc::clone(shown.events)));
    };
    if let Some(address) = servers.healthz {
        spawn(
            ServerRole::Health,
            address,
            health_router(Arc::clone(shown.health), Arc::clone(shown.metrics)),
        );
    }
    if let Some(address) = servers.metrics {
        let pages = MetricsPages {
            metrics: Arc::clone(shown.metrics),
            proxy_mode: shown.proxy_mode,
            config: config_value(&shown.loaded.document)?,
            flags: shown.loaded.flags.iter().cloned().collect::<BTreeMap<_, _>>(),
            started: shown.started,
            clock: Clock::System,
            debug: servers.profiling.then_some(shown.logs),
            introspection: Arc::new(shown.queries),
        };
        spawn(ServerRole::Metrics, address, metrics_router(pages));
    }
    Ok(tasks)
}

fn config_value(document: &KubeProxyConfiguration) -> anyhow::Result<Value> {
    serde_json::to_value(document).context("showing the configuration")
}

/// The observer of the agent.
pub(super) fn observer(
    settings: &Settings,
    metrics: Arc<Metrics>,
    health: Arc<HealthMonitor>,
    events: Arc<dyn EventSink>,
    watches: Arc<WatchStatus>,
    started: Timestamp,
) -> Observer {
    let node_ports = NodePortServers::new(&settings.node_name, Arc::clone(&health), Arc::clone(&events));
    Observer {
        metrics,
        health,
        events,
        node_ports,
        service_metrics: settings.service_metrics > 0,
        health_ports_everywhere: accepts_everywhere(&settings.node_port_addresses),
        watches,
        started,
        state: crate::reconcile::ObserverState::default(),
    }
}

/// Every address accepts node ports.
fn accepts_everywhere(addresses: &NodePortAddresses) -> bool {
    match addresses {
        NodePortAddresses::Primary => false,
        NodePortAddresses::Cidrs(cidrs) => cidrs.iter().any(|cidr| cidr.prefix_len() == 0),
    }
}
