//! Changes of single frontends.

use shunt::domain::Protocol;
use shunt::kernel::{Dataplane as _, Disposition};
use shunt::plan::{Changes, FrontendSpec, Globals, Policy, Table, Target};

use crate::fixtures::{change, dataplane, every_shape, frontend, in_namespace, nft, pool, spec};

#[test]
fn endpoints_come_and_go_and_nothing_is_left_behind() {
    in_namespace(|| {
        let mut table = every_shape();
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        let before = (dataplane.programmed(), table.clone());
        let web = frontend("172.30.0.50:80", Protocol::Tcp);
        let sticky = frontend("172.30.0.51:80", Protocol::Tcp);
        let pools: [&[&str]; 5] = [
            &["10.1.0.1:80", "10.1.0.2:80"],
            &["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"],
            &["10.1.0.2:80", "10.1.0.3:80"],
            &[],
            &["10.1.0.9:80"],
        ];
        for backends in pools {
            let target = if backends.is_empty() { Target::Reject } else { pool(backends) };
            for (frontend, affinity_seconds) in [(web, None), (sticky, Some(60))] {
                let spec = FrontendSpec { affinity_seconds, ..spec(Policy::Internal, target.clone()) };
                let changes = change(&mut table, frontend, Some(spec));
                dataplane.apply(&changes).unwrap();
                assert_eq!(dataplane.audit(&table).unwrap(), 0, "{frontend} {backends:?}");
            }
        }
        for frontend in [web, sticky] {
            let changes = change(&mut table, frontend, None);
            dataplane.apply(&changes).unwrap();
        }
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        assert_eq!((dataplane.programmed(), table), before);
    });
}

#[test]
fn every_frontend_can_be_removed_by_changes() {
    in_namespace(|| {
        let mut table = every_shape();
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        let frontends: Vec<_> = table.frontends.keys().copied().collect();
        for frontend in frontends {
            let changes = change(&mut table, frontend, None);
            dataplane.apply(&changes).unwrap();
        }
        table.globals = Globals::default();
        dataplane.apply(&Changes { frontends: Vec::new(), globals: Some(Globals::default()) }).unwrap();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        let elements = dataplane.programmed().into_iter().find(|(kind, _)| *kind == "elements").unwrap();
        assert_eq!(elements.1, 0);
    });
}

#[test]
fn recorded_clients_survive_restores_and_other_changes() {
    in_namespace(|| {
        let mut table = every_shape();
        dataplane().restore(&table).unwrap();
        let listing = nft(&["list", "sets", "ip"]);
        let set = listing.split_whitespace().find(|word| word.starts_with("clients-")).unwrap().to_owned();
        nft(&["add", "element", "ip", "shunt", &set, "{ 10.9.9.9 }"]);
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        // One endpoint more for the same Service port: its other endpoints keep their clients.
        let backends = pool(&["172.30.0.201:8080", "172.30.0.202:8080", "172.30.0.203:8080"]);
        let more = FrontendSpec { affinity_seconds: Some(10800), ..spec(Policy::Internal, backends) };
        let changes = change(&mut table, frontend("172.30.0.9:80", Protocol::Tcp), Some(more));
        dataplane.apply(&changes).unwrap();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        assert!(nft(&["list", "set", "ip", "shunt", &set]).contains("10.9.9.9"));
    });
}

#[test]
fn a_refused_change_names_the_frontend_and_is_put_right_by_a_restore() {
    in_namespace(|| {
        let mut table = every_shape();
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        nft(&["add", "element", "ip", "shunt", "tcp-endpoints", "{ 172.30.0.51 . 80 . 1 : 1.2.3.4 . 5 }"]);
        let mut changes = Changes::default();
        for n in 40..60 {
            let new = spec(Policy::Internal, pool(&["10.1.0.1:80", "10.1.0.2:80"]));
            let at = frontend(&format!("172.30.0.{n}:80"), Protocol::Tcp);
            changes.frontends.extend(change(&mut table, at, Some(new)).frontends);
        }
        let error = dataplane.apply(&changes).unwrap_err();
        assert_eq!(error.disposition(), Disposition::Retry, "{error:?}");
        assert!(error.to_string().ends_with(", for 172.30.0.51:80/tcp"), "{error}");
        assert!(dataplane.apply(&Changes::default()).is_err(), "only a restore may follow");
        dataplane.restore(&table).unwrap();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
    });
}

#[test]
fn a_chain_that_somebody_else_holds_is_deleted_later() {
    in_namespace(|| {
        let mut table = Table::default();
        let web = frontend("172.30.0.1:80", Protocol::Tcp);
        let two = || spec(Policy::Internal, pool(&["10.1.0.1:80", "10.1.0.2:80"]));
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        dataplane.apply(&change(&mut table, web, Some(two()))).unwrap();
        nft(&["add chain ip shunt mine"]);
        nft(&["add rule ip shunt mine jump cluster-ip-tcp-2"]);
        dataplane.apply(&change(&mut table, web, None)).unwrap();
        assert!(nft(&["list", "chains", "ip"]).contains("cluster-ip-tcp-2"), "it was in use");
        // Needed again, and given up again, while it still is.
        dataplane.apply(&change(&mut table, web, Some(two()))).unwrap();
        nft(&["flush chain ip shunt mine"]);
        nft(&["delete chain ip shunt mine"]);
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        nft(&["add chain ip shunt mine"]);
        nft(&["add rule ip shunt mine jump cluster-ip-tcp-2"]);
        dataplane.apply(&change(&mut table, web, None)).unwrap();
        nft(&["flush chain ip shunt mine"]);
        nft(&["delete chain ip shunt mine"]);
        dataplane.apply(&Changes::default()).unwrap();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        assert!(!nft(&["list", "chains", "ip"]).contains("cluster-ip-tcp-2"));
    });
}
