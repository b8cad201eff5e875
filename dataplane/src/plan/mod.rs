//! From objects to frontends: which address leads to which endpoints, for whom.
//!
//! Pure: `domain` in, tables out; never waits, logs, touches the kernel or reads a clock. Everything below this module
//! knows frontends and pools only.

mod disputes;
pub mod endpoints;
pub mod explain;
mod frontend;
mod globals;
mod interner;
mod pending;
mod per_family;
mod planner;
mod problem;
mod service;
mod settings;
mod source_ranges;
mod table;
mod totals;

pub use frontend::{
    Backend, Change, Changes, Frontend, FrontendAddress, FrontendKind, FrontendSpec, Globals, Policy, Pool,
    Target,
};
pub use interner::Claim;
pub use pending::Pending;
pub use per_family::PerFamily;
pub use planner::Planner;
pub use problem::{PlanProblem, ProblemReason};
pub use service::{Counts, HealthCheck, ServicePlan, TriggerTime, plan_service};
pub use settings::{LoopbackNodePorts, NodePortAddresses, NodeView, PlanSettings};
pub use table::Table;
pub use totals::Totals;

#[cfg(test)]
mod tests;
