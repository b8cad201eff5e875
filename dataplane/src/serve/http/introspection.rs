//! Questions about the agent's state, answered by whoever owns it.

use std::fmt;

use futures::future::BoxFuture;
use serde_json::Value;

/// What `shunt status`, `shunt services` and `shunt explain` ask the running agent.
pub trait Introspection: Send + Sync + fmt::Debug {
    /// What is programmed, how healthy the agent is, how far it lags.
    fn status(&self) -> BoxFuture<'_, Value>;

    /// Frontends, pools and policies of this node.
    fn services(&self) -> BoxFuture<'_, Value>;

    /// Where traffic goes. `from` is an address (or empty: this node), `to` is `ADDRESS:PORT/PROTOCOL`; with `probe` a
    /// packet is run through what is loaded.
    fn explain(&self, from: String, to: String, probe: bool) -> BoxFuture<'_, Result<Value, ExplainError>>;

    /// Called before metrics are shown, to bring those up to date that are measured on demand.
    fn before_metrics(&self) -> BoxFuture<'_, ()>;
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// A parameter is missing or not understood.
    #[error("{parameter}: {reason}")]
    BadParameter {
        /// Name of the parameter: `from`, `to` or `probe`.
        parameter: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The agent cannot say at the moment.
    #[error("no answer: {0}")]
    Unavailable(String),
}
