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
//! Maps of endpoints are one a protocol, because nft 1.0.6 cannot read back what it prints for a map to
//! `ip daddr . th dport`: `nft list table ip shunt` is meant to be accepted by `nft -f`.
//!
//! A packet that meets a table in the middle of a change sees old or new rules, but each look-up sees what is true at
//! its own moment. So every chain with several slots ends with one that falls back to the first slot, which exists as
//! long as there is a pool.
//!
//! # Limits
//!
//! Accepting a packet here does not keep a later table from dropping it, so health-check node ports cannot be opened in
//! somebody else's firewall, as little as by kube-proxy's nftables mode.
//!
//! # Parts
//!
//! Pure: `render` (frontend -> elements and chains), `layout` (the fixed part), `unit` and `sticky` (chains that come
//! and go), `model` (who uses what; changes -> difference), `compare` (what is there, what should be -> operations),
//! `encode`. Talking to the kernel: `read`, `table`, `probe`, `watch`.
//!
//! # Why not `nft`
//!
//! Changing one element of a map with 40,000 takes a fresh `nft` process 4 ms of CPU and 20 ms of time on a busy
//! machine; the same message from here takes 0.05 to 0.1 ms. A thousand changes are a second's CPU at most.

mod compare;
mod dataplane;
mod element;
mod encode;
mod encode_expression;
mod expression;
mod inspect;
mod layout;
mod mark_table;
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
mod withdrawn;
#[cfg(feature = "workbench")]
pub mod workbench;

pub use dataplane::{Nftables, cleanup};
pub use mark_table::{
    MARK_TABLE, has_masquerade, install_masquerade, is_present, remove_masquerade, tells_of_mark_table,
};
pub use settings::Settings;
pub use watch::Monitor;
