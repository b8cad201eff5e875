//! What the agent answers and tells: health and metrics servers, health-check node ports, Events, logs.
//!
//! Nothing here decides anything about services. The reconciler reports into [`HealthMonitor`], [`Metrics`],
//! [`NodePortServers`] and an [`EventSink`]; readers get what was reported, in kube-proxy's formats.

mod api_requests;
mod clock;
mod event_limiter;
mod events;
mod health;
mod http;
mod listener;
mod logging;
mod metrics;
mod node_ports;

pub use api_requests::{ApiRequestCounter, CountedApi};
pub use clock::{Clock, Moment};
pub use events::{
    ClusterEvent, EventObject, EventSink, KubeEvents, LogEvents, RecordedEvents, ServiceWarning, Severity,
};
pub use health::{HealthMonitor, HealthReport, HealthState};
pub use http::{
    ExplainError, HttpServer, Introspection, MetricsPages, ServeError, ServerRole, health_router,
    metrics_router,
};
pub use listener::{listen, serve};
#[cfg(test)]
pub(crate) use logging::tests::Lines;
pub use logging::{LogFormat, LogHandle, LogOptions, LoggingError, init_logging};
pub use metrics::{LocalPolicy, Metrics, MetricsError, Repair, ServiceSeries, WatchRestart};
pub use node_ports::{HealthCheckService, ListenOn, NodePortServers};
