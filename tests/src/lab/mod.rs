//! A network-namespace lab.
//!
//! [`Namespace`] is one network namespace, [`Worker`] an event loop that opens
//! its sockets there, [`Responder`] and [`Client`] the two ends of a
//! conversation, [`Surroundings`] a place to run whole programs in, and
//! [`Cluster`] a ready-made small cluster of nodes, pods and outside hosts.
//!
//! All that is made here carries the process id in its name. It is removed on
//! `Drop` (so also when a test panics), on Ctrl-C, and, when a process was
//! killed, by the next one that uses the lab.

mod attached;
mod cgroup;
mod client;
mod cluster;
mod cluster_node;
mod http;
mod ip;
mod log;
mod message;
mod mounts;
mod namespace;
mod pinned;
mod process;
mod registry;
mod responder;
mod sctp;
mod sctp_socket;
mod surroundings;
mod sweep;
mod sysctl;
mod worker;

pub use attached::attached_programs;
pub use cgroup::Cgroup;
pub use client::{Client, Dial};
pub use cluster::{Cluster, Host};
pub use cluster_node::{Node, Pod, PodLink};
pub use http::{HttpAnswer, get as http_get};
pub use ip::{Family, ip};
pub use log::{log_tail, log_text};
pub use message::{Answer, Attempt, Outcome, Protocol};
pub use namespace::Namespace;
pub use pinned::empty_pinned_map;
pub use process::Process;
pub use registry::unique_name;
pub use responder::{Listen, Responder};
pub use surroundings::Surroundings;
pub use sysctl::{NODE_SYSCTLS, PEER_SYSCTLS, Setting, write_sysctls};
pub use worker::{Reply, Worker};
