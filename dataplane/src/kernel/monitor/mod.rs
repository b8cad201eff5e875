//! Addresses of the node's interfaces: what they are, and when they change.
//!
//! Everything here looks at the network namespace of the calling thread.

mod address_monitor;
mod addresses;

pub use address_monitor::AddressMonitor;
pub use addresses::current_addresses;
