//! Classic filters instead of links.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shunt::kernel::Dataplane as _;
use shunt::kernel::ebpf::{self, Attaching, Ebpf, Settings};

use crate::fixtures::{dataplane, in_namespace, index_of, links, run, settings, within};
use crate::network::{VIP, ask, backend, pod, table};
use crate::others::{Other, crowd};

fn with_filters(bpffs: &std::path::Path) -> Ebpf {
    let attaching = Attaching { only_filters: true, ..Attaching::default() };
    Ebpf::new(Settings { attaching, ..settings(bpffs) }).unwrap()
}

/// Filters of shunt at the interface that enter it.
fn filters(interface: &str) -> String {
    run(&format!("tc filter show dev {interface} ingress"))
}

fn has_qdisc(interface: &str) -> bool {
    run(&format!("tc qdisc show dev {interface}")).contains("clsact")
}

#[test]
fn filters_serve_as_links_do_beside_those_of_others() {
    in_namespace(|bpffs| {
        let _backend = backend();
        let client = pod("client", "10.1.0");
        run("tc qdisc add dev client clsact");
        let (mut before, mut behind) = (Other::new(), Other::new());
        before.attach_filter("client", 1);
        behind.attach_filter("client", 50_000);
        let mut dataplane = with_filters(bpffs);
        dataplane.restore(&table(true)).unwrap();
        assert_eq!(links(bpffs), [""; 0]);
        assert_eq!(ask(&client, VIP).unwrap(), "10.1.0.2");
        assert!(before.last_seen() > 0 && behind.last_seen() > 0);
        assert_eq!(dataplane.audit(&table(true)).unwrap(), 0);
        assert!(has_qdisc("lo") && has_qdisc("backend"));
        dataplane.cleanup().unwrap();
        assert!(!has_qdisc("lo") && !has_qdisc("backend"), "shunt's own");
        let left = filters("client");
        assert!(left.contains(Other::NAME) && !left.contains("shunt_ingress"), "{left}");
        assert!(ask(&client, VIP).is_err());
    });
}

#[test]
fn where_there_is_no_room_for_a_link_there_is_for_a_filter() {
    in_namespace(|bpffs| {
        let _backend = backend();
        let client = pod("client", "10.1.0");
        let _crowd = crowd("client");
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&table(true)).unwrap();
        assert!(filters("client").contains("shunt_ingress"));
        let at_client = format!("ingress-{}", index_of("client"));
        assert!(!links(bpffs).contains(&at_client) && !links(bpffs).is_empty(), "{:?}", links(bpffs));
        assert_eq!(ask(&client, VIP).unwrap(), "10.1.0.2");
        assert_eq!(dataplane.audit(&table(true)).unwrap(), 0);
    });
}

#[test]
fn a_qdisc_that_others_have_begun_to_use_stays_after_cleanup() {
    in_namespace(|bpffs| {
        run("ip link add some type veth peer name peer");
        let mut dataplane = with_filters(bpffs);
        dataplane.restore(&table(true)).unwrap();
        Other::new().attach_filter("some", 7);
        // The filter of the other goes with its program; this one stays.
        run("tc filter add dev peer egress prio 9 u32 match u32 0 0 classid 1:1");
        dataplane.cleanup().unwrap();
        assert!(has_qdisc("peer") && !has_qdisc("lo"));
        let left = run("tc filter show dev peer egress");
        assert!(left.contains("u32") && !left.contains("shunt"), "{left}");
    });
}

#[test]
fn filters_of_an_earlier_agent_are_replaced_without_a_gap() {
    in_namespace(|bpffs| {
        let _backend = backend();
        let client = pod("client", "10.1.0");
        let first = {
            let mut dataplane = with_filters(bpffs);
            dataplane.restore(&table(true)).unwrap();
            dataplane
        };
        drop(first);
        let before = filters("client");
        assert_eq!(before.matches("handle 0x1 shunt_ingress").count(), 1, "{before}");
        let mut second = with_filters(bpffs);
        let (done, answered, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let outcome = if ask(&client, VIP).is_ok() { &answered } else { &failed };
                    outcome.fetch_add(1, Ordering::Relaxed);
                }
            });
            for _ in 0..20 {
                second.restore(&table(true)).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(failed.into_inner(), 0);
        assert!(answered.into_inner() > 0);
        let after = filters("client");
        assert_eq!(after.matches("handle 0x1 shunt_ingress").count(), 1, "{after}");
        assert_ne!(before, after, "another program");
    });
}

#[test]
fn the_way_of_attaching_may_change_with_the_agent() {
    in_namespace(|bpffs| {
        let _backend = backend();
        let client = pod("client", "10.1.0");
        run("tc qdisc add dev client clsact");
        with_filters(bpffs).restore(&table(true)).unwrap();
        let mut by_links = dataplane(bpffs);
        by_links.restore(&table(true)).unwrap();
        let long = std::time::Duration::from_mins(1);
        assert!(
            within(long, || links(bpffs).len() == 6
                && filters("backend").is_empty()
                && filters("lo").is_empty())
            .is_some()
        );
        assert!(has_qdisc("client"), "somebody else's");
        assert_eq!(filters("client"), "");
        assert_eq!(ask(&client, VIP).unwrap(), "10.1.0.2");
        drop(by_links);
        let mut other = Other::new();
        other.attach_filter("client", 21_000);
        let attaching = Attaching { only_filters: true, filter_priority: 7, ..Attaching::default() };
        let mut by_filters = Ebpf::new(Settings { attaching, ..settings(bpffs) }).unwrap();
        by_filters.restore(&table(true)).unwrap();
        assert_eq!(links(bpffs), [""; 0]);
        assert!(filters("client").contains("pref 7 "), "{}", filters("client"));
        assert_eq!(ask(&client, VIP).unwrap(), "10.1.0.2");
        ebpf::cleanup(bpffs).unwrap();
        assert!(filters("client").contains(Other::NAME) && !filters("client").contains("shunt_ingress"));
    });
}

#[test]
fn a_filter_of_somebody_else_in_the_same_place_is_left_alone() {
    in_namespace(|bpffs| {
        let _backend = backend();
        let client = pod("client", "10.1.0");
        run("ip link add taken type veth peer name peer");
        run("tc qdisc add dev taken clsact");
        let mut other = Other::new();
        other.attach_filter("taken", 0x5347);
        let mut dataplane = with_filters(bpffs);
        dataplane.restore(&table(true)).unwrap();
        let filters = filters("taken");
        assert!(filters.contains(Other::NAME) && !filters.contains("shunt_ingress"), "{filters}");
        assert_eq!(ask(&client, VIP).unwrap(), "10.1.0.2", "all others are served");
    });
}
