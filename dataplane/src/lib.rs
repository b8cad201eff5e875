//! shunt: a Kubernetes service proxy, drop-in replacement for kube-proxy.
//!
//! Data flows one way: [`watch`] (objects arrive) -> [`domain`] (what they mean) -> [`plan`] (frontends and pools) ->
//! [`reconcile`] (gather, plan, apply, retry) -> [`kernel`] (nftables, BPF, conntrack, sysctls). [`serve`] answers health
//! checks and metrics, [`config`] and [`cli`] are kube-proxy's and our own, [`start`] puts it all together.

pub mod cli;
pub mod config;
pub mod domain;
pub mod kernel;
pub mod plan;
pub mod reconcile;
pub mod serve;
pub mod start;
pub mod watch;
