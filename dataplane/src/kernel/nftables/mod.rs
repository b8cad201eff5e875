//! Services as nftables rules: one table a family, `ip shunt` and `ip6 shunt`.
//!
//! # Layout
//!
//! Verdict maps lead the first packet of a connection from (address, protocol, port) to a chain, and the chain's one
//! rule takes the endpoint from a map with the key (address, port, random slot). Chains are shared by all frontends
//! that look alike (`external-tcp-3`: masqueraded, three endpoints), so a Service is nothing but elements of flat maps,
//! and changing it costs those elements, whatever the number of Services. Only session affinity needs chains and sets
//! of its own, because clients are recorded a Service port and an endpoint.
//!
//! # Parts
//!
//! Pure: [`render`] (frontend -> elements and chains), [`layout`] (the fixed part), [`unit`] and [`sticky`] (chains that
//! come and go), [`model`] (who uses what; changes -> difference), [`compare`] (what is there, what should be ->
//! operations), [`encode`]. Talking to the kernel: [`read`], [`table`], [`probe`], [`watch`].

mod compare;
mod dataplane;
mod element;
mod encode;
mod encode_expression;
mod expression;
mod layout;
mod marks;
mod model;
mod name;
mod operation;
mod probe;
mod read;
mod render;
#[cfg(test)]
mod samples;
mod set;
mod settings;
mod sticky;
mod table;
mod unit;
mod userdata;
mod watch;

pub use dataplane::{Nftables, cleanup};
pub use settings::Settings;
pub use watch::Monitor;
