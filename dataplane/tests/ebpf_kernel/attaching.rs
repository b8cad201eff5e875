//! Many interfaces at once, and the order among programs of others.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use aya::programs::TcAttachType;
use shunt::kernel::Dataplane as _;
use shunt::kernel::ebpf::{Attaching, Ebpf, Order, Settings};

use crate::fixtures::{dataplane, in_namespace, index_of, links, pins, run, settings, within};
use crate::network::{VIP, add_pairs, ask, backend, pod, table};
use crate::others::{Other, programs};
use crate::traffic::Lab;
use crate::upgrade;

/// Far longer than it takes: what is not there by then never comes.
const LONG: Duration = Duration::from_mins(1);

/// By links, or by filters for the moment.
fn is_served(bpffs: &Path, interface: &str) -> bool {
    let links = links(bpffs);
    let index = index_of(interface);
    ["ingress", "egress"].iter().all(|hook| {
        links.contains(&format!("{hook}-{index}"))
            || run(&format!("tc filter show dev {interface} {hook}")).contains(&format!("shunt_{hook}"))
    })
}

/// Links that are pinned: names and inodes, which no other link gets.
fn pinned(bpffs: &Path) -> BTreeSet<(String, u64)> {
    let folder = pins(bpffs).join("links");
    let inode = |name: &String| folder.join(name).metadata().unwrap().ino();
    links(bpffs).into_iter().map(|name| (name.clone(), inode(&name))).collect()
}

#[test]
fn interfaces_that_were_there_before_have_links_from_the_start_and_never_a_qdisc() {
    in_namespace(|bpffs| {
        let _backend = backend();
        add_pairs("some", 50);
        let client = pod("client", "10.1.0");
        let mut dataplane = dataplane(bpffs);
        let start = Instant::now();
        dataplane.restore(&table(true)).unwrap();
        println!("103 interfaces were served after {:?}", start.elapsed());
        assert_eq!(ask(&client, VIP).unwrap(), "10.1.0.2");
        let pins = 2 * (1 + 1 + 1 + 100);
        assert_eq!(links(bpffs).len(), pins);
        // While a qdisc comes or goes, what an interface sends is lost.
        assert!(!run("tc qdisc show").contains("clsact"));
        assert_eq!(ask(&client, VIP).unwrap(), "10.1.0.2");
        assert_eq!(dataplane.audit(&table(true)).unwrap(), 0);
        drop(dataplane);
        let before = pinned(bpffs);
        let mut second = crate::fixtures::dataplane(bpffs);
        let start = Instant::now();
        second.restore(&table(true)).unwrap();
        println!("the next agent had them all after {:?}", start.elapsed());
        assert_eq!(pinned(bpffs), before, "the same links, with other programs behind them");
        assert!(!run("tc qdisc show").contains("clsact"), "links are there: filters are not needed");
        assert_eq!(ask(&client, VIP).unwrap(), "10.1.0.2");
    });
}

#[test]
fn interfaces_that_appear_in_a_burst_are_served_soon() {
    in_namespace(|bpffs| {
        let _backend = backend();
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&table(true)).unwrap();
        add_pairs("burst", 25);
        let client = pod("client", "10.1.0");
        let took = within(LONG, || is_served(bpffs, "client")).expect("is served");
        println!("the last of 51 interfaces in a burst was served {took:?} after it was set up");
        assert_eq!(ask(&client, VIP).unwrap(), "10.1.0.2");
        assert!(within(LONG, || (0..25).all(|number| is_served(bpffs, &format!("burst{number}")))).is_some());
        let has_filters = |number| {
            let filters = |hook| run(&format!("tc filter show dev burst{number} {hook}"));
            ["ingress", "egress"].map(filters).concat().contains("shunt_")
        };
        let is_settled = |number| {
            links(bpffs).contains(&format!("egress-{}", index_of(&format!("burst{number}"))))
                && !has_filters(number)
        };
        assert!(within(LONG, || (0..25).all(is_settled)).is_some());
        let qdiscs = run("tc qdisc show");
        assert!(
            qdiscs.contains("clsact"),
            "they carry traffic now, which removing a qdisc would cost: {qdiscs}"
        );
        assert_eq!(dataplane.audit(&table(true)).unwrap(), 0);
    });
}

#[test]
fn programs_of_others_run_before_and_after_in_the_order_that_was_chosen() {
    const IN: &str = "shunt_ingress";
    const OUT: &str = "shunt_egress";
    const OTHER: &str = Other::NAME;
    in_namespace(|bpffs| {
        let _backend = backend();
        let client = pod("client", "10.1.0");
        let mut other = Other::new();
        other.attach_first("client");
        for (order, incoming, outgoing) in [
            ("outermost", [IN, OTHER], [OTHER, OUT]),
            ("innermost", [OTHER, IN], [OUT, OTHER]),
            ("first", [IN, OTHER], [OUT, OTHER]),
            ("last", [OTHER, IN], [OTHER, OUT]),
            ("before:shunt_clock", [IN, OTHER], [OUT, OTHER]),
            ("after:shunt_clock", [OTHER, IN], [OTHER, OUT]),
        ] {
            let order: Order = order.parse().unwrap();
            let attaching = Attaching { order: order.clone(), ..Attaching::default() };
            let mut dataplane = Ebpf::new(Settings { attaching, ..settings(bpffs) }).unwrap();
            dataplane.restore(&table(true)).unwrap();
            // Links come one after the other.
            within(LONG, || !run("tc qdisc show").contains("clsact")).expect("links are there");
            assert_eq!(programs("client", TcAttachType::Ingress), incoming, "{order}");
            assert_eq!(programs("client", TcAttachType::Egress), outgoing, "{order}");
            let before = other.last_seen();
            assert_eq!(ask(&client, VIP).unwrap(), "10.1.0.2");
            assert!(other.last_seen() > before, "{order}: every program has the packets");
        }
        let mut behind = Other::new();
        behind.attach_last("client");
        let before = other.last_seen();
        assert_eq!(ask(&client, VIP).unwrap(), "10.1.0.2");
        assert!(other.last_seen() > before && behind.last_seen() > 0);
    });
}

#[test]
fn whoever_comes_before_ours_may_stay_there_and_ours_keep_their_links() {
    in_namespace(|bpffs| {
        let _backend = backend();
        let client = pod("client", "10.1.0");
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&table(true)).unwrap();
        let before = pinned(bpffs);
        let mut other = Other::new();
        other.attach_first("client");
        assert_eq!(
            dataplane.audit(&table(true)).unwrap(),
            0,
            "two that want to be first would never come to rest"
        );
        dataplane.restore(&table(true)).unwrap();
        assert_eq!(pinned(bpffs), before);
        assert_eq!(programs("client", TcAttachType::Ingress), [Other::NAME, "shunt_ingress"]);
        assert!(!run("tc qdisc show").contains("clsact"), "links are there: filters are not needed");
        assert_eq!(ask(&client, VIP).unwrap(), "10.1.0.2");
    });
}

#[test]
fn a_program_that_the_order_names_is_given_its_side_when_it_comes_and_no_connection_is_lost() {
    in_namespace(|bpffs| {
        let lab = Lab::new(&[8080]);
        let table = upgrade::table(0, &["10.2.0.2:8080"], None);
        let order: Order = "before:shunt_clock".parse().unwrap();
        let attaching = Attaching { order, ..Attaching::default() };
        let mut dataplane = Ebpf::new(Settings { attaching, ..settings(bpffs) }).unwrap();
        dataplane.restore(&table).unwrap();
        let talk = lab.keep_talking(upgrade::VIP);
        let mut other = Other::new();
        other.attach_first("client0");
        let (incoming, outgoing) = ([Other::NAME, "shunt_ingress"], [Other::NAME, "shunt_egress"]);
        let order = || [TcAttachType::Ingress, TcAttachType::Egress].map(|kind| programs("client0", kind));
        assert_eq!(order(), [incoming, outgoing]);
        assert_eq!(dataplane.audit(&table).unwrap(), 2, "it is in front at both hooks");
        dataplane.restore(&table).unwrap();
        let moved = [["shunt_ingress", Other::NAME], ["shunt_egress", Other::NAME]];
        assert_eq!(order(), moved);
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        let before = pinned(bpffs);
        dataplane.restore(&table).unwrap();
        assert_eq!((order(), pinned(bpffs)), (moved.map(|pair| pair.map(str::to_owned).to_vec()), before));
        talk.go_on();
        talk.end();
        assert!(!run("tc qdisc show").contains("clsact"));
    });
}
