//! Socket load balancing: a socket is connected to a backend in place of a frontend, and no packet needs translation.
//!
//! What depends on the client's address, which no socket has before it is connected (affinity, source ranges,
//! masqueradeAll), is left to the per-packet programs.

pub(crate) mod address;
mod connect;
mod connected;
mod opt_out;
mod origin;

pub(crate) use connect::{connect, send};
pub(crate) use origin::show_frontend;

/// Verdicts of a program.
const REFUSE: i32 = 0;
pub(crate) const ALLOW: i32 = 1;
