//! From objects to frontends: which address leads to which endpoints, for whom.
//!
//! Pure: `domain` in, tables out; never waits, logs, touches the kernel or reads a clock. Everything below this module
//! knows frontends and pools only.

mod frontend;
mod table;

pub use frontend::{
    Backend, Change, Changes, Frontend, FrontendAddress, FrontendKind, FrontendSpec, Globals, Policy, Pool,
    Target,
};
pub use table::Table;
