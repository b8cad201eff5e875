//! The API server that proxies under test talk to.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::apiserver::{ApiServer, Options, Store};
use crate::lab::{Namespace, Worker};

/// An API server on a thread of its own in the node's namespace, with TLS and a token as in a cluster.
#[derive(Debug)]
pub(super) struct Api {
    // Dropped first: what runs on the worker.
    server: Arc<Mutex<ApiServer>>,
    worker: Worker,
    store: Store,
    kubeconfig: String,
}

impl Api {
    pub(super) fn start(namespace: &Arc<Namespace>) -> Result<Self> {
        let worker = Worker::start(namespace)?;
        let options = Options { tls: true, token: Some("benchmark".to_owned()) };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 6443));
        let server = worker.run(ApiServer::start(address, options))?.context("starting the API server")?;
        let (store, kubeconfig) = (server.store().clone(), server.kubeconfig());
        Ok(Self { server: Arc::new(Mutex::new(server)), worker, store, kubeconfig })
    }

    /// Creates or replaces an object.
    pub(super) fn put(&self, object: Value) -> Result<()> {
        self.store.put(object).context("writing to the API server")?;
        Ok(())
    }

    /// Creates or replaces objects.
    pub(super) fn put_all(&self, objects: impl IntoIterator<Item = Value>) -> Result<()> {
        objects.into_iter().try_for_each(|object| self.put(object))
    }

    /// The objects, for other threads.
    pub(super) fn store(&self) -> Store {
        self.store.clone()
    }

    /// A kubeconfig that leads to it.
    pub(super) fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// Stops listening and cuts all connections.
    pub(super) fn stop(&self) -> Result<()> {
        let server = Arc::clone(&self.server);
        self.worker.run(async move { server.lock().await.stop().await })
    }

    /// Listens again.
    pub(super) fn resume(&self) -> Result<()> {
        let server = Arc::clone(&self.server);
        self.worker.run(async move { server.lock().await.resume().await })?
    }
}
