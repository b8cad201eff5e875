//! Chains of kube-proxy's iptables and ipvs modes, in either of the two iptables.

use std::collections::BTreeMap;

use super::command::{run, run_with_input};
use super::removal_plan::{RemovalPlan, is_kube_proxys};
use super::rule_set::parse;
use super::{Leftover, StepError, nftables_table};
use crate::domain::IpFamily;

/// Which iptables: both may be in use on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// The old kernel interface.
    Legacy,
    /// Upon nftables.
    Nftables,
    /// Whatever `iptables` is, where there is no other name for it.
    Plain,
}

impl Variant {
    /// `ip6tables-legacy-save` and the like; `action` is `-save`, `-restore` or nothing.
    pub(super) fn tool(self, family: IpFamily, action: &str) -> String {
        let family = match family {
            IpFamily::V4 => "iptables",
            IpFamily::V6 => "ip6tables",
        };
        let variant = match self {
            Self::Legacy => "-legacy",
            Self::Nftables => "-nft",
            Self::Plain => "",
        };
        format!("{family}{variant}{action}")
    }
}

pub(super) fn detect() -> Vec<Leftover> {
    IpFamily::ALL.into_iter().flat_map(detect_family).collect()
}

fn detect_family(family: IpFamily) -> Vec<Leftover> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for variant in [Variant::Legacy, Variant::Nftables] {
        match plans(variant, family) {
            Ok(plans) => found.extend(plans.iter().map(|plan| leftover(variant, family, plan))),
            Err(StepError::ToolMissing { .. }) => missing.push(variant),
            Err(error) => tracing::warn!(%error, "cannot look for chains of kube-proxy"),
        }
    }
    for variant in missing {
        found.extend(detect_without_tool(variant, family));
    }
    found
}

/// Old systems have one iptables and no other name for it. Where there is none at all, chains upon nftables can still
/// be seen; removing them then fails with the name of the missing tool.
fn detect_without_tool(variant: Variant, family: IpFamily) -> Vec<Leftover> {
    match plans(Variant::Plain, family) {
        Ok(plans) => plans.iter().map(|plan| leftover(Variant::Plain, family, plan)).collect(),
        Err(error) => {
            if variant == Variant::Legacy {
                tracing::warn!(%error, %family, "there are iptables rules, but nothing to look at them with");
                return Vec::new();
            }
            chains_upon_nftables(family)
        }
    }
}

fn chains_upon_nftables(family: IpFamily) -> Vec<Leftover> {
    let chains = nftables_table::chains(family).unwrap_or_else(|error| {
        tracing::debug!(%error, %family, "cannot list nftables chains");
        Vec::new()
    });
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (table, chain) in chains {
        if is_kube_proxys(&table, &chain) {
            *counts.entry(table).or_default() += 1;
        }
    }
    let variant = Variant::Nftables;
    counts
        .into_iter()
        .map(|(table, chains)| Leftover::Iptables { variant, family, table, chains, jumps: 0 })
        .collect()
}

fn leftover(variant: Variant, family: IpFamily, plan: &RemovalPlan) -> Leftover {
    let (chains, jumps) = (plan.chains.len(), plan.jumps.len());
    Leftover::Iptables { variant, family, table: plan.table.clone(), chains, jumps }
}

/// Looks again, since others write to the same tables. Whether anything was left.
pub(super) fn remove(variant: Variant, family: IpFamily, table: &str) -> Result<bool, StepError> {
    let plans = plans(variant, family)?;
    let Some(plan) = plans.into_iter().find(|plan| plan.table == table) else { return Ok(false) };
    // Others hold the lock of the tables for moments.
    run_with_input(&variant.tool(family, "-restore"), &["-w", "5", "--noflush"], &plan.script())?;
    Ok(true)
}

fn plans(variant: Variant, family: IpFamily) -> Result<Vec<RemovalPlan>, StepError> {
    let tool = variant.tool(family, "-save");
    if variant == Variant::Legacy && !has_legacy_tables(family) {
        // Asking the tool would load kernel modules for nothing.
        return Ok(Vec::new());
    }
    Ok(parse(&run(&tool, &[])?).iter().filter_map(RemovalPlan::of).collect())
}

fn has_legacy_tables(family: IpFamily) -> bool {
    let name = match family {
        IpFamily::V4 => "ip_tables_names",
        IpFamily::V6 => "ip6_tables_names",
    };
    std::fs::read_to_string(format!("/proc/thread-self/net/{name}"))
        .is_ok_and(|names| !names.trim().is_empty())
}
