//! Gather, plan, apply: the loop that keeps the kernel at what the objects say, and the only place that retries.
//!
//! [`Engine`] is the loop without time or tasks of its own: it takes events, and when asked to it plans what they
//! changed and has the dataplane apply it. [`Agent`] runs it: one task owns all state, everybody else sends messages.

mod agent;
mod answer;
mod backoff;
mod engine;
mod observe;
mod query;
mod running;

pub use agent::{AfterFirstSync, Agent, AgentError, AgentParts, OptOut};
pub use answer::ClientClasses;
pub use backoff::Backoff;
pub use engine::{Engine, Readiness, SyncFailure, SyncReport};
pub use observe::{Observer, ObserverState};
pub use query::{Query, QueryHandle};
pub use running::Running;
