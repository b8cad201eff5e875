//! Agents that come after others lose no connection and refuse none, whether their maps are the same or not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shunt::kernel::Dataplane as _;
use shunt::kernel::ebpf::{Ebpf, Settings, Sizes};
use shunt::plan::{FrontendSpec, Policy, Table};

use crate::fixtures::{frontend, in_namespace, links, services, settings, sizes, spec, within};
use crate::traffic::{Lab, answering_port};

/// The Service of [`table`] that is used.
pub(crate) const VIP: &str = "172.30.0.200:80";
/// Much longer than it takes.
const LONG: Duration = Duration::from_secs(20);

/// Some Services, one of them with these endpoints on TCP and UDP.
pub(crate) fn table(others: u8, endpoints: &[&str], affinity_seconds: Option<u32>) -> Table {
    let mut table = services(others);
    let web = FrontendSpec { affinity_seconds, ..spec(Policy::Internal, endpoints) };
    let mut datagrams = web.clone();
    let mut owner = (*web.owner).clone();
    owner.protocol = shunt::domain::Protocol::Udp;
    datagrams.owner = Arc::new(owner);
    let at = frontend(VIP);
    table.frontends.insert(at, Arc::new(web));
    let udp = shunt::plan::Frontend { protocol: shunt::domain::Protocol::Udp, ..at };
    table.frontends.insert(udp, Arc::new(datagrams));
    table
}

fn with(bpffs: &Path, sizes: Sizes) -> Ebpf {
    Ebpf::new(Settings { sizes, ..settings(bpffs) }).unwrap()
}

fn events(dataplane: &Ebpf, event: &str) -> u64 {
    let seen = dataplane.observations().events;
    seen.iter().find(|found| found.event == event).unwrap().count
}

#[test]
fn an_agent_that_comes_back_goes_on_with_the_connections_of_the_last_one() {
    in_namespace(|bpffs| {
        let lab = Lab::new(&[8080]);
        let table = table(5, &["10.2.0.2:8080"], None);
        let mut first = with(bpffs, sizes());
        first.restore(&table).unwrap();
        let talk = lab.keep_talking(VIP);
        drop(first);
        talk.go_on();
        for _ in 0..3 {
            let mut next = with(bpffs, sizes());
            next.restore(&table).unwrap();
            talk.go_on();
        }
        talk.end();
    });
}

#[test]
fn an_agent_with_other_maps_carries_flows_over_and_refuses_nobody() {
    in_namespace(|bpffs| {
        let lab = Lab::new(&[8080]);
        let mut first = with(bpffs, sizes());
        first.restore(&table(0, &["10.2.0.2:8080"], None)).unwrap();
        assert!(within(LONG, || links(bpffs).len() == 6).is_some());
        let before = links(bpffs);
        let talk = lab.keep_talking(VIP);
        drop(first);
        for round in 1..=4 {
            // Other Services in front of it, so that all numbers are others.
            let table = table(10 * round, &["10.2.0.2:8080"], None);
            let mut next = with(bpffs, Sizes { flows: (1 << 16) + u32::from(round), ..sizes() });
            next.restore(&table).unwrap();
            // Links wait until those of the last agent are gone.
            assert!(within(LONG, || links(bpffs) == before).is_some(), "one folder, with the same links");
            assert_eq!(next.audit(&table).unwrap(), 0);
            talk.go_on();
            assert_eq!(events(&next, "flow_adopted"), 0, "flows are known, not guessed");
            assert_eq!(events(&next, "midstream_left"), 0);
            assert_eq!(events(&next, "flow_moved"), 0, "datagrams keep their backend");
        }
        talk.end();
    });
}

#[test]
fn clients_keep_their_backend_when_the_maps_are_others() {
    in_namespace(|bpffs| {
        let lab = Lab::new(&[8080, 8081, 8082, 8083]);
        let endpoints = ["10.2.0.2:8080", "10.2.0.2:8081", "10.2.0.2:8082", "10.2.0.2:8083"];
        let mut first = with(bpffs, sizes());
        first.restore(&table(0, &endpoints, Some(3600))).unwrap();
        let ask = || lab.client.spawn(|| answering_port(VIP.parse().unwrap())).join().unwrap();
        let port = ask();
        drop(first);
        let mut next = with(bpffs, Sizes { affinity: 4_096, ..sizes() });
        next.restore(&table(7, &endpoints, Some(3600))).unwrap();
        let again: Vec<u16> = (0..20).map(|_| ask()).collect();
        assert_eq!(again, [port; 20]);
        assert!(events(&next, "affinity_hit") >= 20);
    });
}

#[test]
fn what_cannot_be_read_is_replaced_all_the_same() {
    in_namespace(|bpffs| {
        let lab = Lab::new(&[8080]);
        let table = table(2, &["10.2.0.2:8080"], None);
        let mut first = with(bpffs, sizes());
        first.restore(&table).unwrap();
        std::fs::remove_file(crate::fixtures::pins(bpffs).join("SCHEMA")).unwrap();
        drop(first);
        let mut next = with(bpffs, Sizes { flows: 1 << 17, ..sizes() });
        next.restore(&table).unwrap();
        assert_eq!(next.audit(&table).unwrap(), 0);
        let talk = lab.keep_talking(VIP);
        talk.go_on();
        talk.end();
    });
}
