//! The body of each program; `main.rs` holds the entry points.

pub(crate) mod probe_connect;
pub(crate) mod probe_packet;
