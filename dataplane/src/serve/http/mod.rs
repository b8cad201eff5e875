//! The two HTTP servers: health (port 10256) and metrics (port 10249).

mod accept;
mod health;
mod introspection;
mod metrics;
mod reply;
mod server;
mod zpages;

pub use health::health_router;
pub use introspection::{ExplainError, Introspection};
pub use metrics::{MetricsPages, metrics_router};
pub use server::{HttpServer, ServeError, ServerRole};

#[cfg(test)]
pub(super) mod test_client;
#[cfg(test)]
mod tests;
