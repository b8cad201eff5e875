//! The connection to the API server.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

use super::token_file::TokenFile;
use crate::serve::{ApiRequestCounter, Metrics};

/// Long enough for two attempts of the kernel.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A silent connection is probed after this time ...
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// ... and then this often ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// ... until so many probes are lost: a half-open connection is found within 25 s.
const KEEPALIVE_PROBES: u32 = 3;
/// The same bound for data that the server does not acknowledge.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that nobody uses are closed after this time.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// How to find the API server: kube-proxy's `--kubeconfig` and `--master`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// Kubeconfig file; without it (and without `master`) the service account of the pod is used.
    pub kubeconfig: Option<PathBuf>,
    /// Address of the API server; overrides that of the kubeconfig.
    pub master: Option<String>,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig is missing or wrong.
    #[error("kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// There is no kubeconfig, and this is not a pod.
    #[error("neither a kubeconfig nor a service account: set clientConnection.kubeconfig, or run in a pod")]
    InCluster(#[source] kube::config::InClusterError),
    /// `--master` is not an address.
    #[error("master {master:?} is not a URL")]
    Master {
        /// As given.
        master: String,
        /// What is wrong with it.
        #[source]
        source: http::uri::InvalidUri,
    },
    /// The file that has the token cannot be used.
    #[error("token file {}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// Certificates, keys or credentials cannot be used.
    #[error("credentials for the API server")]
    Credentials(#[source] Box<kube::Error>),
}

/// Makes the client for the API server; does not connect yet. Requests are counted in `metrics`. Must be
/// called within a tokio runtime.
pub async fn client(settings: &ClientSettings, metrics: Option<Arc<Metrics>>) -> Result<Client, ClientError> {
    // Another crate may have chosen a provider before; then it stays.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut config = config(settings).await?;
    config.headers.push((USER_AGENT, HeaderValue::from_static(concat!("shunt/", env!("CARGO_PKG_VERSION")))));
    // The watch loop does its own waiting.
    config.default_retry = false;
    let host = config.cluster_url.authority().map_or("", http::uri::Authority::as_str);
    let counter = metrics.map(|metrics| ApiRequestCounter::new(metrics, host));
    let token = TokenFile::take(&mut config.auth_info).map(open_token).transpose()?;
    build(config, counter, token).map_err(|error| ClientError::Credentials(Box::new(error)))
}

async fn config(settings: &ClientSettings) -> Result<Config, ClientError> {
    let master =
        settings.master.as_deref().filter(|master| !master.is_empty()).map(parse_master).transpose()?;
    match (&settings.kubeconfig, master) {
        (Some(path), master) => {
            let mut config = from_kubeconfig(path).await?;
            if let Some(master) = master {
                config.cluster_url = master;
            }
            Ok(config)
        }
        (None, Some(master)) => Ok(Config::new(master)),
        (None, None) => Config::incluster().map_err(ClientError::InCluster),
    }
}

async fn from_kubeconfig(path: &PathBuf) -> Result<Config, ClientError> {
    let failed = |source| ClientError::Kubeconfig { path: path.clone(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)
}

/// kube-proxy takes `host:port` too, and means plain HTTP by it.
fn parse_master(master: &str) -> Result<http::Uri, ClientError> {
    let text = if master.contains("://") { master.to_owned() } else { format!("http://{master}") };
    text.parse().map_err(|source| ClientError::Master { master: master.to_owned(), source })
}

fn open_token(path: PathBuf) -> Result<TokenFile, ClientError> {
    TokenFile::open(path.clone()).map_err(|source| ClientError::TokenFile { path, source })
}

fn build(
    config: Config,
    counter: Option<ApiRequestCounter>,
    token: Option<TokenFile>,
) -> kube::Result<Client> {
    // Through a proxy the other end of the connection is the proxy: probing it says nothing about the API server, and
    // the deadline of each watch has to do.
    if config.proxy_url.is_some() {
        let layers = ServiceBuilder::new().option_layer(counter).option_layer(token).into_inner();
        return Ok(ClientBuilder::try_from(config)?.with_layer(&layers).build());
    }
    let connector = config.rustls_https_connector_with_connector(tcp_connector())?;
    let http = HttpClient::builder(TokioExecutor::new()).pool_idle_timeout(POOL_IDLE).build(connector);
    let service = ServiceBuilder::new()
        .option_layer(counter)
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .option_layer(token)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

fn tcp_connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(KEEPALIVE_IDLE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    connector.set_tcp_user_timeout(Some(USER_TIMEOUT));
    connector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let settings = ClientSettings {
            kubeconfig: Some("/nonexistent/kubeconfig".into()),
            ..ClientSettings::default()
        };
        let error = client(&settings, None).await.err().unwrap();
        assert_eq!(error.to_string(), "kubeconfig /nonexistent/kubeconfig");
    }

    #[tokio::test]
    async fn a_kubeconfig_without_its_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts:\n- name: a\n  context: {cluster: b, user: c}\n";
        std::fs::write(&path, text).unwrap();
        let settings = ClientSettings { kubeconfig: Some(path), ..ClientSettings::default() };
        assert!(matches!(client(&settings, None).await, Err(ClientError::Kubeconfig { .. })));
    }

    #[tokio::test]
    async fn the_master_overrides_the_server_of_the_kubeconfig() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts:\n- {name: a, context: {cluster: b}}\n\
                    clusters:\n- {name: b, cluster: {server: 'https://10.0.0.1:6443'}}\n";
        std::fs::write(&path, text).unwrap();
        let of = |master: Option<&str>| ClientSettings {
            kubeconfig: Some(path.clone()),
            master: master.map(str::to_owned),
        };
        assert_eq!(config(&of(None)).await.unwrap().cluster_url, "https://10.0.0.1:6443/");
        assert!(client(&of(None), None).await.is_ok(), "a client with TLS");
        assert_eq!(config(&of(Some(""))).await.unwrap().cluster_url, "https://10.0.0.1:6443/");
        assert_eq!(config(&of(Some("10.0.0.9:8080"))).await.unwrap().cluster_url, "http://10.0.0.9:8080/");
    }

    #[tokio::test]
    async fn a_master_that_is_no_address_is_refused() {
        let settings = ClientSettings { kubeconfig: None, master: Some("https://a b".to_owned()) };
        assert!(matches!(client(&settings, None).await, Err(ClientError::Master { .. })));
    }

    #[tokio::test]
    async fn half_open_connections_are_probed() {
        use nix::sys::socket::{getsockopt, sockopt};
        use tower::{Service, ServiceExt};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let stream = tcp_connector().ready().await.unwrap().call(uri).await.unwrap();
        let socket = stream.inner();
        assert!(getsockopt(socket, sockopt::KeepAlive).unwrap());
        let idle = getsockopt(socket, sockopt::TcpKeepIdle).unwrap();
        let interval = getsockopt(socket, sockopt::TcpKeepInterval).unwrap();
        let probes = getsockopt(socket, sockopt::TcpKeepCount).unwrap();
        assert_eq!((idle, interval, probes), (10, 5, 3));
        assert_eq!(getsockopt(socket, sockopt::TcpUserTimeout).unwrap(), 20_000);
    }
}
