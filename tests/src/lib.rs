//! Test equipment of shunt: network namespaces with real packets, and an API server of its own.
//!
//! [`lab`] makes namespaces, links and the sockets inside them; [`flows`] runs packet-flow cases (`tests/data/`)
//! against a running agent; [`apiserver`] is the Kubernetes API that agents under test watch. Everything that makes
//! namespaces needs root: without it tests fail, they are never skipped.

pub mod apiserver;
pub mod flows;
pub mod lab;
