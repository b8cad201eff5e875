//! The listening side: accepts, speaks TLS if asked to, and can be stopped and started again on the same port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::faults::Faults;
use super::routes::{Api, handle};
use super::store::Store;
use super::tls::{Identity, identity};

/// How to serve.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Serve HTTPS with a certificate of its own.
    pub tls: bool,
    /// Ask for this bearer token.
    pub token: Option<String>,
}

/// A running API server. Dropped, it stops.
#[derive(Debug)]
pub struct ApiServer {
    api: Api,
    address: SocketAddr,
    identity: Option<Identity>,
    token: Option<String>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl ApiServer {
    /// Listens on `address` (port 0: any free one) in the network namespace of the calling thread.
    pub async fn start(address: SocketAddr, options: Options) -> anyhow::Result<Self> {
        let identity = options.tls.then(|| identity(address.ip())).transpose()?;
        let api = Api { store: Store::default(), faults: Arc::new(Faults::default()) };
        api.faults.require_token(options.token.clone());
        let mut server = Self { api, address, identity, token: options.token, running: None };
        server.resume().await?;
        Ok(server)
    }

    /// Another server of the same objects, with the same token and the same faults, on another address.
    pub async fn beside(&self, address: SocketAddr) -> anyhow::Result<Self> {
        let identity = self.identity.is_some().then(|| identity(address.ip())).transpose()?;
        let mut server =
            Self { api: self.api.clone(), address, identity, token: self.token.clone(), running: None };
        server.resume().await?;
        Ok(server)
    }

    /// The objects.
    pub fn store(&self) -> &Store {
        &self.api.store
    }

    /// The switches of misbehaviour.
    pub fn faults(&self) -> &Faults {
        &self.api.faults
    }

    /// Address it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://127.0.0.1:6443`.
    pub fn url(&self) -> String {
        let scheme = if self.identity.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> String {
        let mut cluster = serde_json::json!({"server": self.url()});
        if let (Some(identity), Some(cluster)) = (&self.identity, cluster.as_object_mut()) {
            let data = base64(identity.certificate.as_bytes());
            cluster.insert("certificate-authority-data".to_owned(), data.into());
        }
        let user =
            self.token.as_ref().map_or(serde_json::json!({}), |token| serde_json::json!({"token": token}));
        serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "shunt",
            "clusters": [{"name": "shunt", "cluster": cluster}],
            "users": [{"name": "shunt", "user": user}],
            "contexts": [{"name": "shunt", "context": {"cluster": "shunt", "user": "shunt"}}],
        })
        .to_string()
    }

    /// Stops listening and cuts every connection; the objects stay.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.cancel();
            running.tasks.close();
            running.tasks.wait().await;
        }
    }

    /// Listens again, on the same port.
    pub async fn resume(&mut self) -> anyhow::Result<()> {
        self.stop().await;
        let listener = listen(self.address).with_context(|| format!("listening on {}", self.address))?;
        self.address = listener.local_addr().context("reading the listening address")?;
        let running = Running { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        let tls = self
            .identity
            .as_ref()
            .map(|identity| tokio_rustls::TlsAcceptor::from(Arc::clone(&identity.config)));
        running.tasks.spawn(accept(
            listener,
            tls,
            self.api.clone(),
            running.stop.clone(),
            running.tasks.clone(),
        ));
        self.running = Some(running);
        Ok(())
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.stop.cancel();
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn accept(
    listener: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    api: Api,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
            () = stop.cancelled() => return,
        };
        tasks.spawn(connection(stream, tls.clone(), api.clone(), stop.clone()));
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<tokio_rustls::TlsAcceptor>,
    api: Api,
    stop: CancellationToken,
) {
    // Watch events are small: waiting to fill a segment would only delay them. Without it they are merely slower.
    drop(stream.set_nodelay(true));
    match tls {
        None => serve(stream, api, stop).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, api, stop).await;
            }
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    api: Api,
    stop: CancellationToken,
) {
    let router = axum::Router::new().fallback(handle).with_state(api);
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::select! {
        // A client that goes away in the middle is its own business.
        ended = connection => drop(ended),
        () = stop.cancelled() => {}
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
