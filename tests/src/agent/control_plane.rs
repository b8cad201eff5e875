//! The API server on a machine of its own: ours, or a real one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::sync::Mutex;

use super::envtest::Envtest;
use crate::apiserver::{ApiServer, Faults, Options, Store};
use crate::lab::{Cluster, Host};

const PORT: u16 = 6443;

/// Which API server.
#[derive(Clone, Debug)]
pub enum ApiKind {
    /// The one for tests, which can misbehave.
    Own(Options),
    /// kube-apiserver and etcd from the folder that `KUBEBUILDER_ASSETS` names.
    Real,
}

impl Default for ApiKind {
    fn default() -> Self {
        Self::Own(Options::default())
    }
}

impl ApiKind {
    /// Our own, and a real one where there is one.
    pub fn all() -> Vec<Self> {
        let real = Envtest::is_available().then_some(Self::Real);
        [Self::default()].into_iter().chain(real).collect()
    }
}

/// The running API server and its machine.
#[derive(Debug)]
pub struct ControlPlane {
    // Before the host: the server's sockets are in its namespace.
    server: Server,
    host: Host,
}

#[derive(Debug)]
enum Server {
    Own { server: Arc<Mutex<ApiServer>>, store: Store },
    Real(Box<Envtest>),
}

impl ControlPlane {
    /// Adds the machine to the cluster and starts the server on it.
    pub fn start(cluster: &Cluster, address: IpAddr, kind: &ApiKind) -> Result<Self> {
        let host = cluster.host("control", &[format!("{address}/24").parse()?])?;
        let socket = SocketAddr::new(address, PORT);
        let server = match kind {
            ApiKind::Own(options) => {
                let options = options.clone();
                let server = host.worker().run(async move { ApiServer::start(socket, options).await })??;
                let store = server.store().clone();
                Server::Own { server: Arc::new(Mutex::new(server)), store }
            }
            ApiKind::Real => {
                let unique = format!("{}-control", cluster.unique());
                Server::Real(Box::new(Envtest::start(&unique, &host, socket)?))
            }
        };
        Ok(Self { server, host })
    }

    /// A kubeconfig for the agent.
    pub fn kubeconfig(&self) -> String {
        match &self.server {
            Server::Own { server, .. } => server.blocking_lock().kubeconfig(),
            Server::Real(server) => server.kubeconfig(),
        }
    }

    /// The URL of the server.
    pub fn url(&self) -> String {
        match &self.server {
            Server::Own { server, .. } => server.blocking_lock().url(),
            Server::Real(server) => server.url(),
        }
    }

    /// The machine.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The switches of misbehaviour; a real server has none.
    pub fn faults<T>(&self, turn: impl FnOnce(&Faults) -> T) -> Result<T> {
        match &self.server {
            Server::Own { server, .. } => Ok(turn(server.blocking_lock().faults())),
            Server::Real(_) => bail!("a real API server does not misbehave on demand"),
        }
    }

    /// The objects of our own server.
    pub fn store(&self) -> Result<&Store> {
        match &self.server {
            Server::Own { store, .. } => Ok(store),
            Server::Real(_) => bail!("the objects of a real API server are its own"),
        }
    }

    /// Creates or replaces an object.
    pub fn put(&self, object: Value) -> Result<()> {
        match &self.server {
            Server::Own { store, .. } => store.put(object).map(drop).context("cannot put an object"),
            Server::Real(server) => server.put(&self.host, object),
        }
    }

    /// Deletes an object of namespace `default` (or of none).
    pub fn delete(&self, kind: &str, name: &str) -> Result<()> {
        match &self.server {
            Server::Own { store, .. } => store
                .remove(kind, "default", name)
                .map(drop)
                .with_context(|| format!("cannot delete {kind} {name}")),
            Server::Real(server) => server.delete(&self.host, kind, name),
        }
    }

    /// All objects of a kind.
    pub fn list(&self, kind: &str) -> Result<Vec<Value>> {
        match &self.server {
            Server::Own { store, .. } => Ok(store.all(kind)),
            Server::Real(server) => server.list(&self.host, kind),
        }
    }

    /// Stops the server; the objects stay.
    pub fn stop(&mut self) -> Result<()> {
        match &mut self.server {
            Server::Own { server, .. } => {
                let server = Arc::clone(server);
                self.host.worker().run(async move { server.lock().await.stop().await })
            }
            Server::Real(server) => server.stop(),
        }
    }

    /// Starts the server again.
    pub fn resume(&mut self) -> Result<()> {
        match &mut self.server {
            Server::Own { server, .. } => {
                let server = Arc::clone(server);
                self.host.worker().run(async move { server.lock().await.resume().await })?
            }
            Server::Real(server) => server.resume(),
        }
    }
}
