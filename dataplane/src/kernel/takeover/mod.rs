//! What kube-proxy has left on the node: finding it and taking it away.
//!
//! Our rules are put in place first, then kube-proxy's are removed. Connections live on: their translation is recorded
//! in connection tracking, not in the rules. What belongs to the kubelet (KUBE-FIREWALL, KUBE-KUBELET-CANARY) or to
//! anybody else stays, and so does a chain of kube-proxy's that somebody else's chain still calls.
//!
//! iptables, ipset and ipvs are changed with their own tools, because only these know what rules written by other
//! versions of them mean; nftables tables and devices go through netlink. Everything happens in the network namespace
//! of the calling thread and blocks it, for as long as a few child processes take.

mod command;
mod device;
mod error;
mod ipset;
mod iptables;
mod ipvs;
mod leftover;
mod nftables_table;
mod removal_plan;
mod rule_set;

pub use error::{RemovalError, StepError};
pub use iptables::Variant;
pub use leftover::Leftover;

/// What is there. A tool that is missing or fails is logged and taken to have nothing to show.
pub fn detect() -> Vec<Leftover> {
    let mut found = nftables_table::detect();
    found.extend(iptables::detect());
    found.extend(ipvs::detect());
    found.extend(ipset::detect());
    found
}

/// Removes these, in an order in which nothing refers to what is gone; a sentence for each thing done. What is gone
/// already is passed over. Goes on after a failure and reports all of them at the end.
pub fn remove(leftovers: &[Leftover]) -> Result<Vec<String>, RemovalError> {
    let mut ordered: Vec<&Leftover> = leftovers.iter().collect();
    ordered.sort_by_key(|leftover| leftover.order());
    let mut removed = Vec::new();
    let mut failures = Vec::new();
    for leftover in ordered {
        match leftover.remove() {
            Ok(true) => removed.push(format!("removed {leftover}")),
            Ok(false) => {}
            Err(error) => failures.push((leftover.clone(), error)),
        }
    }
    if failures.is_empty() { Ok(removed) } else { Err(RemovalError { removed, failures }) }
}
