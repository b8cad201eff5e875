//! Address sets of kube-proxy's ipvs mode.

use super::command::run;
use super::{Leftover, StepError};

/// The kernel takes no longer names; kube-proxy cuts them off.
const LONGEST_NAME: usize = 31;
/// Without their prefix, `KUBE-` or `KUBE-6-`.
const NAMES: [&str; 17] = [
    "LOOP-BACK",
    "CLUSTER-IP",
    "EXTERNAL-IP",
    "EXTERNAL-IP-LOCAL",
    "LOAD-BALANCER",
    "LOAD-BALANCER-LOCAL",
    "LOAD-BALANCER-FW",
    "LOAD-BALANCER-SOURCE-IP",
    "LOAD-BALANCER-SOURCE-CIDR",
    "NODE-PORT-TCP",
    "NODE-PORT-UDP",
    "NODE-PORT-SCTP-HASH",
    "NODE-PORT-LOCAL-TCP",
    "NODE-PORT-LOCAL-UDP",
    "NODE-PORT-LOCAL-SCTP-HASH",
    "HEALTH-CHECK-NODE-PORT",
    "IPVS-IPS",
];

pub(super) fn detect() -> Vec<Leftover> {
    match names() {
        Ok(names) => names.into_iter().map(|name| Leftover::Ipset { name }).collect(),
        Err(error) => {
            tracing::debug!(%error, "cannot list ipsets");
            Vec::new()
        }
    }
}

/// Whether it was there.
pub(super) fn remove(name: &str) -> Result<bool, StepError> {
    if !names()?.iter().any(|found| found == name) {
        return Ok(false);
    }
    run("ipset", &["destroy", name])?;
    Ok(true)
}

fn names() -> Result<Vec<String>, StepError> {
    let all = run("ipset", &["list", "-n"])?;
    Ok(all.lines().filter(|name| is_kube_proxys(name)).map(str::to_owned).collect())
}

fn is_kube_proxys(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("KUBE-") else { return false };
    let rest = rest.strip_prefix("6-").unwrap_or(rest);
    let is_cut_off = |full: &&str| name.len() == LONGEST_NAME && full.starts_with(rest);
    NAMES.contains(&rest) || NAMES.iter().any(is_cut_off)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_kube_proxy_are_its_own() {
        for name in [
            "KUBE-CLUSTER-IP",
            "KUBE-6-CLUSTER-IP",
            "KUBE-NODE-PORT-LOCAL-SCTP-HASH",
            "KUBE-6-LOAD-BALANCER-SOURCE-CID",
        ] {
            assert!(is_kube_proxys(name), "{name}");
        }
        for name in ["KUBE-ROUTER-PODS", "CLUSTER-IP", "KUBE-6-", "KUBE-CLUSTER-IPS", "cali40all"] {
            assert!(!is_kube_proxys(name), "{name}");
        }
    }
}
