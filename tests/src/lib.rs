//! Test equipment of shunt: network namespaces with real packets.
//!
//! [`lab`] makes namespaces, links and the sockets inside them; [`flows`] runs
//! packet-flow cases (`tests/data/`) against a running agent. Everything here
//! needs root: without it tests fail, they are never skipped.

pub mod flows;
pub mod lab;
