//! The table as a whole: loaded, listed, adopted, repaired, removed.

use shunt::kernel::nftables::cleanup;
use shunt::kernel::{Applied, Dataplane as _};
use shunt::plan::Table;

use crate::fixtures::{dataplane, every_shape, in_namespace, nft};

#[test]
fn every_shape_is_programmed_listed_and_found_unchanged() {
    in_namespace(|| {
        let table = every_shape();
        let mut dataplane = dataplane();
        assert!(dataplane.audit(&Table::default()).unwrap() > 0, "there is no table yet");
        dataplane.restore(&table).unwrap();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        for family in ["ip", "ip6"] {
            let text = nft(&["list", "table", family, "shunt"]);
            if std::env::var_os("SHUNT_SHOW").is_some() {
                eprintln!("{text}");
            }
            assert!(text.contains("map tcp-endpoints {"), "{text}");
        }
        nft(&["-j", "list", "ruleset"]);
        assert_eq!(dataplane.restore(&table).unwrap(), Applied::default());
    });
}

#[test]
fn a_listing_is_accepted_by_nft_and_means_the_same() {
    in_namespace(|| {
        let table = every_shape();
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("listing.nft");
        let path = file.to_str().unwrap();
        for family in ["ip", "ip6"] {
            std::fs::write(&file, nft(&["list", "table", family, "shunt"])).unwrap();
            let before = nft(&["list", "table", family, "shunt"]);
            nft(&["-f", path]);
            nft(&["delete", "table", family, "shunt"]);
            nft(&["-f", path]);
            assert_eq!(nft(&["list", "table", family, "shunt"]), before);
        }
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
    });
}

#[test]
fn another_agent_adopts_the_table_as_it_is() {
    in_namespace(|| {
        let table = every_shape();
        dataplane().restore(&table).unwrap();
        let before = nft(&["-a", "list", "ruleset"]);
        let mut second = dataplane();
        assert_eq!(second.restore(&table).unwrap(), Applied::default());
        assert_eq!(nft(&["-a", "list", "ruleset"]), before);
    });
}

#[test]
fn what_others_changed_is_counted_and_put_right() {
    in_namespace(|| {
        let table = every_shape();
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        let meddling: [&[&str]; 9] = [
            &["flush ruleset"],
            &["delete table ip6 shunt"],
            &["add rule ip shunt nat-prerouting accept"],
            &["insert rule ip shunt endpoints-tcp-2 drop"],
            &["flush chain ip shunt cluster-ip-tcp-2"],
            &["delete element ip shunt service-ips { 172.30.0.1 . tcp . 80 }"],
            &["add element ip shunt cluster-ips { 1.2.3.4 }"],
            &[
                "add chain ip shunt mine",
                "add rule ip shunt check-input jump mine",
                "add set ip shunt own { type mark; }",
            ],
            &["add table ip shunt { flags dormant; }"],
        ];
        for commands in meddling {
            for command in commands {
                nft(&[*command]);
            }
            assert!(dataplane.audit(&table).unwrap() > 0, "{commands:?}");
            assert_ne!(dataplane.restore(&table).unwrap(), Applied::default(), "{commands:?}");
            assert_eq!(dataplane.audit(&table).unwrap(), 0, "{commands:?}");
        }
    });
}

#[test]
fn a_table_of_another_layout_is_replaced() {
    in_namespace(|| {
        nft(&["add table ip shunt"]);
        nft(&["add set ip shunt cluster-ips { type mark; }"]);
        nft(&["add chain ip shunt filter-input { type filter hook input priority -10; }"]);
        let mut dataplane = dataplane();
        dataplane.restore(&every_shape()).unwrap();
        assert_eq!(dataplane.audit(&every_shape()).unwrap(), 0);
    });
}

#[test]
fn cleanup_removes_our_tables_only_and_may_be_repeated() {
    in_namespace(|| {
        nft(&["add table ip other"]);
        let mut dataplane = dataplane();
        dataplane.restore(&every_shape()).unwrap();
        dataplane.cleanup().unwrap();
        cleanup().unwrap();
        assert_eq!(nft(&["list", "tables"]).trim(), "table ip other");
        dataplane.restore(&every_shape()).unwrap();
        assert_eq!(dataplane.audit(&every_shape()).unwrap(), 0);
    });
}
