//! What others do with nftables on the same node.

use shunt::domain::Protocol;
use shunt::kernel::Dataplane as _;
use shunt::kernel::nftables::Monitor;
use shunt::plan::Policy;

use crate::fixtures::{change, dataplane, every_shape, frontend, in_namespace, nft, pool, spec};

#[test]
fn rules_of_others_that_use_our_mark_are_reported() {
    in_namespace(|| {
        nft(&["add table inet other"]);
        for (chain, rule) in [
            ("sets", "meta mark set meta mark | 0x4000"),
            ("tests", "meta mark & 0x0000c000 == 0x4000 drop"),
            ("clears", "meta mark set meta mark & 0xffffbfff"),
            ("overwrites", "meta mark set 0x4001"),
            ("unrelated", "meta mark set meta mark | 0x8000"),
            ("reads-another", "meta mark & 0x00008000 != 0 drop"),
        ] {
            nft(&["add", "chain", "inet", "other", chain]);
            nft(&[&format!("add rule inet other {chain} {rule}")]);
        }
        let warned = dataplane().warnings().join("\n");
        for chain in ["sets", "tests", "clears", "overwrites"] {
            assert!(warned.contains(&format!("chain {chain} of table inet other")), "{chain}: {warned}");
        }
        assert!(!warned.contains("unrelated") && !warned.contains("reads-another"), "{warned}");
    });
}

#[test]
fn changes_by_others_are_heard_and_our_own_are_not() {
    in_namespace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut table = every_shape();
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        runtime.block_on(async {
            let mut monitor = Monitor::new(dataplane.port().unwrap()).unwrap();
            let soon = std::time::Duration::from_millis(200);
            let web = spec(Policy::Internal, pool(&["10.1.0.1:80"]));
            let changes = change(&mut table, frontend("172.30.0.50:80", Protocol::Tcp), Some(web));
            dataplane.apply(&changes).unwrap();
            nft(&["add table ip other"]);
            assert!(tokio::time::timeout(soon, monitor.changed_by_others()).await.is_err());
            nft(&["flush ruleset"]);
            tokio::time::timeout(soon, monitor.changed_by_others()).await.unwrap().unwrap();
            assert!(
                tokio::time::timeout(soon, monitor.changed_by_others()).await.is_err(),
                "one flush, one change"
            );
        });
    });
}
