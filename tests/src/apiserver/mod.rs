//! A Kubernetes API server for tests, the demo and benchmarks: no etcd, no admission, one process.
//!
//! What it does have is what a proxy lives on: resource versions, paged lists with `continue`, watches from a version
//! with bookmarks, streaming lists (`sendInitialEvents`), 410 Gone after compaction, label and field selectors, TLS
//! and bearer tokens, and writes that fill in the defaults a real server would. And it misbehaves on demand: see
//! [`Faults`].

mod allocate;
mod apply;
mod defaults;
mod discovery;
mod faults;
mod lists;
mod patch;
mod resource;
mod respond;
mod routes;
mod selector;
mod server;
mod store;
mod strategic;
mod table;
mod tls;
mod validate;
mod watch_stream;

pub use faults::{Faults, Refusal, Request};
pub use patch::{Patch, PatchKind};
pub use resource::Resource;
pub use server::{ApiServer, Options};
pub use store::{Store, StoreError};
