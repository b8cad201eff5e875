//! What others take away is noticed and comes back.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shunt::kernel::Dataplane as _;
use shunt::kernel::ebpf::{Attaching, Ebpf, Settings};
use shunt::plan::Policy;
use tokio::sync::Notify;

use crate::fixtures::{frontend, in_namespace, index_of, pins, run, settings};
use crate::network::{served, table};
use crate::others::Other;

/// Waits until the dataplane says that something was taken away, repairs it, and says how long the first took.
fn repaired(attaching: Attaching, damage: impl FnOnce(&Path) + Send + 'static) {
    in_namespace(move |bpffs| {
        run("ip link add some type veth peer name peer");
        let mut table = table(true);
        let external = served(Policy::ExternalCluster, false);
        table.frontends.insert(frontend("192.0.2.9:80"), external.into());
        let mut dataplane = Ebpf::new(Settings { attaching, ..settings(bpffs) }).unwrap();
        let drifted = Arc::new(Notify::new());
        dataplane.tell_of_drift(Arc::clone(&drifted));
        dataplane.restore(&table).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        // Filters that links replace are not missed.
        let early = runtime
            .block_on(async { tokio::time::timeout(Duration::from_millis(500), drifted.notified()).await });
        assert!(early.is_err(), "nothing was taken away yet");
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        damage(bpffs);
        let start = Instant::now();
        let noticed = runtime
            .block_on(async { tokio::time::timeout(Duration::from_mins(1), drifted.notified()).await });
        noticed.expect("the damage is noticed");
        println!("noticed after {:?}", start.elapsed());
        assert!(dataplane.audit(&table).unwrap() > 0);
        dataplane.restore(&table).unwrap();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
    });
}

fn filters() -> Attaching {
    Attaching { only_filters: true, ..Attaching::default() }
}

#[test]
fn a_removed_filter_is_noticed() {
    repaired(filters(), |_| drop(run("tc filter del dev some egress prio 21319")));
}

#[test]
fn a_removed_qdisc_is_noticed() {
    repaired(filters(), |_| drop(run("tc qdisc del dev some clsact")));
}

#[test]
fn flushed_rules_are_noticed() {
    repaired(Attaching::default(), |_| drop(run("nft flush ruleset")));
}

#[test]
fn a_link_that_was_ended_is_noticed() {
    repaired(Attaching::default(), |bpffs| {
        let pin = format!("links/ingress-{}", index_of("some"));
        fs::remove_file(pins(bpffs).join(pin)).unwrap();
    });
}

#[test]
fn a_program_that_comes_to_the_wrong_side_is_noticed() {
    let order = "after:shunt_clock".parse().unwrap();
    repaired(Attaching { order, ..Attaching::default() }, |_| {
        // It stays to the end.
        Box::leak(Box::new(Other::new())).attach_last("some");
    });
}
