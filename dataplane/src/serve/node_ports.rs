//! Health-check node ports: one HTTP server for each Service of type LoadBalancer with a Local external policy, by
//! which load balancers find the nodes that have endpoints.
//!
//! A server answers any method on any path. Each address is a socket of its own, so that one that cannot be bound
//! takes nothing from the others; it is tried again every few seconds, and with each [`NodePortServers::sync`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use tokio::task::JoinHandle;

use super::listener::{listen, serve};
use super::{ClusterEvent, EventObject, EventSink, HealthMonitor, Severity};
use crate::domain::ServiceName;

/// Pause between two attempts to open what could not be opened.
const RETRY: Duration = Duration::from_secs(5);

/// The Service behind one health-check node port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheckService {
    /// Its name.
    pub name: ServiceName,
    /// `metadata.uid`, for Events.
    pub uid: Arc<str>,
    /// Distinct addresses of ready endpoints on this node.
    pub local_endpoints: usize,
}

/// Where the servers listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenOn {
    /// Every address of the node, of both families.
    All,
    /// These addresses (`nodePortAddresses`).
    Only(BTreeSet<IpAddr>),
}

/// All health-check servers of the node. Dropping it closes them.
#[derive(Debug)]
pub struct NodePortServers {
    shared: Arc<Shared>,
    retrying: JoinHandle<()>,
}

type Services = Arc<RwLock<BTreeMap<u16, HealthCheckService>>>;

#[derive(Debug)]
struct Shared {
    node: String,
    health: Arc<HealthMonitor>,
    events: Arc<dyn EventSink>,
    services: Services,
    sockets: Mutex<Sockets>,
}

#[derive(Debug, Default)]
struct Sockets {
    wanted: BTreeSet<SocketAddr>,
    open: BTreeMap<SocketAddr, JoinHandle<()>>,
    /// Those that cannot be opened, with what was told about it.
    failed: BTreeMap<SocketAddr, String>,
}

impl NodePortServers {
    /// No servers yet. Needs a tokio runtime. `node` is named in Events.
    pub fn new(node: &str, health: Arc<HealthMonitor>, events: Arc<dyn EventSink>) -> Self {
        Self::retrying(node, health, events, RETRY)
    }

    fn retrying(node: &str, health: Arc<HealthMonitor>, events: Arc<dyn EventSink>, pause: Duration) -> Self {
        let shared = Arc::new(Shared {
            node: node.to_owned(),
            health,
            events,
            services: Services::default(),
            sockets: Mutex::default(),
        });
        let retrying = tokio::spawn(retry_for_ever(Arc::downgrade(&shared), pause));
        Self { shared, retrying }
    }

    /// Makes the servers those of `wanted` (by port). What stays, stays open: a changed count of endpoints shows in
    /// the next answer. Waits for nothing but the closing of sockets, so that a port can move from all addresses to
    /// some.
    pub async fn sync(&mut self, wanted: BTreeMap<u16, HealthCheckService>, addresses: &ListenOn) {
        let sockets = wanted.keys().flat_map(|&port| socket_addresses(addresses, port)).collect();
        *self.shared.services.write().unwrap_or_else(PoisonError::into_inner) = wanted;
        let closing = self.shared.sockets().want(sockets);
        for server in closing {
            // Ends at once, as it was aborted; that is its only outcome.
            drop(server.await);
        }
        self.shared.open_missing(&mut self.shared.sockets());
    }
}

impl Drop for NodePortServers {
    fn drop(&mut self) {
        self.retrying.abort();
        self.shared.sockets().want(BTreeSet::new());
    }
}

fn socket_addresses(addresses: &ListenOn, port: u16) -> Vec<SocketAddr> {
    match addresses {
        ListenOn::All => vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))],
        ListenOn::Only(addresses) => {
            addresses.iter().map(|&address| SocketAddr::new(address, port)).collect()
        }
    }
}

async fn retry_for_ever(shared: Weak<Shared>, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.open_missing(&mut shared.sockets());
    }
}

impl Sockets {
    /// Tells every server that is not wanted any more to close, which they have done once their tasks end.
    fn want(&mut self, wanted: BTreeSet<SocketAddr>) -> Vec<JoinHandle<()>> {
        let unwanted = self.open.extract_if(.., |address, _| !wanted.contains(address));
        let closing: Vec<_> = unwanted.map(|(_, server)| server).collect();
        closing.iter().for_each(JoinHandle::abort);
        self.failed.retain(|address, _| wanted.contains(address));
        self.wanted = wanted;
        closing
    }

    fn missing(&self) -> Vec<SocketAddr> {
        self.wanted.iter().filter(|address| !self.open.contains_key(address)).copied().collect()
    }
}

impl Shared {
    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_missing(&self, sockets: &mut Sockets) {
        for address in sockets.missing() {
            match listen(address) {
                Ok(listener) => {
                    tracing::debug!(%address, "opened health-check node port");
                    sockets.failed.remove(&address);
                    sockets.open.insert(address, tokio::spawn(serve(listener, self.router(address.port()))));
                }
                Err(error) => self.tell_failure(sockets, address, &error),
            }
        }
    }

    /// Tells the same failure of the same socket once.
    fn tell_failure(&self, sockets: &mut Sockets, address: SocketAddr, error: &io::Error) {
        let error = error.to_string();
        let told = sockets.failed.insert(address, error.clone());
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        let Some(service) = services.get(&address.port()).filter(|_| told.as_ref() != Some(&error)) else {
            return;
        };
        self.events.emit(ClusterEvent {
            object: EventObject::Service(service.name.clone(), Arc::clone(&service.uid)),
            severity: Severity::Warning,
            reason: "FailedToStartServiceHealthcheck",
            action: "Listen",
            message: format!(
                "node {} failed to start healthcheck \"{}\" on port {}: {address}: {error}",
                self.node,
                service.name,
                address.port(),
            ),
        });
    }

    fn router(&self, port: u16) -> Router {
        let (services, health) = (Arc::clone(&self.services), Arc::clone(&self.health));
        Router::new().fallback(move || std::future::ready(answer(&services, &health, port)))
    }
}

fn answer(services: &Services, health: &HealthMonitor, port: u16) -> Response {
    let services = services.read().unwrap_or_else(PoisonError::into_inner);
    match services.get(&port) {
        Some(service) => service_health(service, health.report().healthy),
        // The Service went while the request was on its way.
        None => StatusCode::OK.into_response(),
    }
}

fn service_health(service: &HealthCheckService, healthy: bool) -> Response {
    let count = service.local_endpoints;
    let ok = count != 0 && healthy;
    let headers = [
        (CONTENT_TYPE.as_str(), "application/json".to_owned()),
        (X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff".to_owned()),
        ("x-load-balancing-endpoint-weight", count.to_string()),
    ];
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\"localEndpoints\": {count},\n\
         \t\"serviceProxyHealthy\": {healthy}\n}}",
        service.name.namespace, service.name.name,
    );
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, headers, body).into_response()
}

#[cfg(test)]
#[path = "node_ports_tests.rs"]
mod tests;
