//! Where objects come from: the Kubernetes API, or a directory of manifests.
//!
//! Both sources send the same [`Stamped`] events, remember what they gave, and say explicitly what is gone. Nothing is
//! reported gone before a complete list has been read, so that whatever is programmed in the kernel stays while the
//! API server is away.

pub mod convert;
pub mod kubernetes;
pub mod manifests;
mod source;
mod status;
pub mod wire;

pub use source::{Stamped, WatchHandle};
pub use status::{ErrorReason, KindStatus, WatchStatus};
