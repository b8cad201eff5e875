//! Which chains and rules of an iptables table are kube-proxy's, and the script that removes them.

use std::collections::{BTreeSet, HashSet};

use super::rule_set::SavedTable;

/// Called by others: a port-mapping plug-in may be set up to mark its packets with it.
const SHARED: &str = "KUBE-MARK-MASQ";
/// Of iptables and ipvs mode. KUBE-FIREWALL, KUBE-MARK-DROP and KUBE-KUBELET-CANARY are the kubelet's.
const NAT: [&str; 8] = [
    "KUBE-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    SHARED,
    "KUBE-PROXY-CANARY",
    "KUBE-NODE-PORT",
    "KUBE-LOAD-BALANCER",
    "KUBE-HAIRPIN",
];
const NAT_PREFIXES: [&str; 6] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-FW-", "KUBE-EXT-", "KUBE-SEP-", "KUBE-XLB-"];
const FILTER: [&str; 10] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-FORWARD",
    "KUBE-NODEPORTS",
    "KUBE-PROXY-FIREWALL",
    "KUBE-PROXY-CANARY",
    "KUBE-NODE-PORT",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
];

/// What is to go from one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemovalPlan {
    pub(super) table: String,
    /// Chains, each to be emptied and deleted.
    pub(super) chains: BTreeSet<String>,
    /// Rules in built-in chains, as `iptables-save` prints them, without `-A`.
    pub(super) jumps: Vec<String>,
}

impl RemovalPlan {
    /// `None` if there is nothing of kube-proxy's.
    pub(super) fn of(table: &SavedTable) -> Option<Self> {
        let chains = Chains::of(table);
        let jumps = chains.jumps(table);
        let in_use = chains.in_use(table);
        let chains: BTreeSet<String> =
            chains.ours.difference(&in_use).map(|name| (*name).to_owned()).collect();
        let nothing = chains.is_empty() && jumps.is_empty();
        (!nothing).then(|| Self { table: table.name.clone(), chains, jumps })
    }

    /// Input for `iptables-restore --noflush`, which does all of it or nothing. Naming a chain empties it; all are
    /// emptied before the first is deleted, because they call each other.
    pub(super) fn script(&self) -> String {
        let mut script = format!("*{}\n", self.table);
        for jump in &self.jumps {
            script.extend(["-D ", jump, "\n"]);
        }
        for chain in &self.chains {
            script.extend([":", chain, " - [0:0]\n"]);
        }
        for chain in &self.chains {
            script.extend(["-X ", chain, "\n"]);
        }
        script.push_str("COMMIT\n");
        script
    }
}

/// Whether a chain of that name in that table is kube-proxy's.
pub(super) fn is_kube_proxys(table: &str, chain: &str) -> bool {
    match table {
        "nat" => NAT.contains(&chain) || NAT_PREFIXES.iter().any(|prefix| chain.starts_with(prefix)),
        "filter" => FILTER.contains(&chain),
        _ => chain == "KUBE-PROXY-CANARY",
    }
}

/// Whose a chain is. What is in neither set is somebody else's.
struct Chains<'a> {
    ours: HashSet<&'a str>,
    built_in: HashSet<&'a str>,
}

impl<'a> Chains<'a> {
    fn of(table: &'a SavedTable) -> Self {
        let (built_in, others): (Vec<_>, Vec<_>) = table.chains.iter().partition(|chain| chain.built_in);
        let others = others.into_iter().map(|chain| chain.name.as_str());
        Self {
            ours: others.filter(|name| is_kube_proxys(&table.name, name)).collect(),
            built_in: built_in.into_iter().map(|chain| chain.name.as_str()).collect(),
        }
    }

    /// Rules in built-in chains that lead to ours. A call of the shared chain is somebody else's: kube-proxy calls it
    /// from its own chains only.
    fn jumps(&self, table: &SavedTable) -> Vec<String> {
        let leads_to_ours = |target: &str| target != SHARED && self.ours.contains(target);
        table
            .rules
            .iter()
            .filter(|rule| self.built_in.contains(rule.chain.as_str()))
            .filter(|rule| rule.target.as_deref().is_some_and(leads_to_ours))
            .map(|rule| rule.text.clone())
            .collect()
    }

    /// Chains of ours that others still call, and what those call in turn.
    fn in_use(&self, table: &'a SavedTable) -> HashSet<&'a str> {
        let mut used = HashSet::new();
        loop {
            let before = used.len();
            for rule in &table.rules {
                let Some(target) = rule.target.as_deref().filter(|target| self.ours.contains(target)) else {
                    continue;
                };
                let caller = rule.chain.as_str();
                let stays = if self.built_in.contains(caller) {
                    target == SHARED
                } else {
                    !self.ours.contains(caller) || used.contains(caller)
                };
                if stays {
                    used.insert(target);
                }
            }
            if used.len() == before {
                return used;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::takeover::rule_set::parse;

    fn plan(saved: &str) -> Option<RemovalPlan> {
        RemovalPlan::of(&parse(saved)[0])
    }

    const NAT_TABLE: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n\
        :KUBE-SVC-A - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\n:CNI-DN - [0:0]\n\
        -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
        -A PREROUTING -j CNI-DN\n-A KUBE-SERVICES -d 10.96.0.1/32 -j KUBE-SVC-A\n-A KUBE-SVC-A -j KUBE-MARK-MASQ\n";

    #[test]
    fn jumps_go_first_then_all_chains_are_emptied_then_deleted() {
        let script = plan(NAT_TABLE).unwrap().script();
        assert_eq!(
            script,
            "*nat\n-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
             :KUBE-MARK-MASQ - [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-A - [0:0]\n\
             -X KUBE-MARK-MASQ\n-X KUBE-SERVICES\n-X KUBE-SVC-A\nCOMMIT\n"
        );
    }

    #[test]
    fn a_chain_that_others_call_stays_with_what_it_calls() {
        let called = format!("{NAT_TABLE}-A CNI-DN -p tcp -j KUBE-SVC-A\n");
        let plan = plan(&called).unwrap();
        assert_eq!(plan.chains, ["KUBE-SERVICES".to_owned()].into());
        assert_eq!(plan.jumps.len(), 1);
    }

    #[test]
    fn the_marking_chain_stays_where_a_built_in_chain_calls_it() {
        let plan = plan(&format!("{NAT_TABLE}-A POSTROUTING -s 10.9.0.0/16 -j KUBE-MARK-MASQ\n")).unwrap();
        assert_eq!(plan.chains, ["KUBE-SERVICES".to_owned(), "KUBE-SVC-A".to_owned()].into());
        assert_eq!(plan.jumps.len(), 1);
    }

    #[test]
    fn the_kubelets_chains_and_those_of_others_stay() {
        let saved = "*filter\n:INPUT ACCEPT [0:0]\n:KUBE-FIREWALL - [0:0]\n:KUBE-ROUTER-INPUT - [0:0]\n\
            :KUBE-KUBELET-CANARY - [0:0]\n:KUBE-SVC-A - [0:0]\n-A INPUT -j KUBE-FIREWALL\n";
        assert_eq!(plan(saved), None);
    }

    #[test]
    fn an_empty_canary_is_found_in_each_table() {
        for table in ["mangle", "nat", "filter"] {
            let saved = format!("*{table}\n:INPUT ACCEPT [0:0]\n:KUBE-PROXY-CANARY - [0:0]\n");
            assert_eq!(plan(&saved).unwrap().chains, ["KUBE-PROXY-CANARY".to_owned()].into());
        }
    }
}
