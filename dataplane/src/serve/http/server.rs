//! A server that insists on its address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;

use crate::serve::listener::{listen, serve};
use crate::serve::{ClusterEvent, EventObject, EventSink, Severity};

/// Pause between two attempts to bind.
const BIND_RETRY: Duration = Duration::from_secs(5);

/// Which of the two servers it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerRole {
    /// Answers health checks.
    Health,
    /// Shows metrics and the rest.
    Metrics,
}

/// A server about to run.
#[derive(Debug)]
pub struct HttpServer {
    /// Which one.
    pub role: ServerRole,
    /// Where it listens, see [`listen`].
    pub address: SocketAddr,
    /// What it answers.
    pub router: Router,
    /// An address that cannot be bound ends the agent (`bindAddressHardFail`).
    pub hard_fail: bool,
}

/// Why a server gave up.
#[derive(Debug, thiserror::Error)]
#[error("{name} server cannot listen on {address}")]
pub struct ServeError {
    name: &'static str,
    address: SocketAddr,
    #[source]
    source: io::Error,
}

impl ServerRole {
    const fn name(self) -> &'static str {
        match self {
            Self::Health => "healthz",
            Self::Metrics => "metrics",
        }
    }

    /// Reason of the Event about an address that cannot be bound.
    const fn failure(self) -> &'static str {
        match self {
            Self::Health => "FailedToStartProxierHealthcheck",
            Self::Metrics => "FailedToStartMetricServer",
        }
    }
}

impl HttpServer {
    /// Serves for ever, binding again every five seconds until it works; returns only in `hard_fail` mode. The first
    /// failure is an Event on the Node.
    pub async fn run(self, events: Arc<dyn EventSink>) -> ServeError {
        self.run_retrying(events, BIND_RETRY).await
    }

    pub(super) async fn run_retrying(self, events: Arc<dyn EventSink>, pause: Duration) -> ServeError {
        let mut told = false;
        let listener = loop {
            let source = match listen(self.address) {
                Ok(listener) => break listener,
                Err(source) => source,
            };
            let error = ServeError { name: self.role.name(), address: self.address, source };
            if !told {
                events.emit(self.failure(&error));
                told = true;
            }
            if self.hard_fail {
                return error;
            }
            tokio::time::sleep(pause).await;
        };
        tracing::info!(address = %self.address, server = self.role.name(), "listening");
        serve(listener, self.router).await;
        std::future::pending().await
    }

    fn failure(&self, error: &ServeError) -> ClusterEvent {
        ClusterEvent {
            object: EventObject::Node,
            severity: Severity::Warning,
            reason: self.role.failure(),
            action: "StartKubeProxy",
            message: format!("{error}: {}", error.source),
        }
    }
}
