//! Test equipment of shunt: network namespaces with real packets, and an API server of its own.
//!
//! [`lab`] makes namespaces, links and the sockets inside them; [`flows`] runs packet-flow cases (`tests/data/`)
//! against a running agent, [`stage`] puts up a small cluster with an agent on each node, [`agent`] one with an API
//! server, in each [`Mode`]; [`demo`] is `cargo xtask demo`, [`mod@bench`] is `cargo xtask bench`, [`guest`] what runs in
//! the virtual machines of `cargo xtask kernels`. Everything here needs root: without it tests
//! fail, they are never skipped.

pub mod agent;
pub mod apiserver;
pub mod bench;
pub mod demo;
pub mod flows;
pub mod guest;
pub mod lab;
pub mod mode;
pub mod stage;

pub use mode::Mode;
