//! Cleaning of UDP flows on a real kernel: exactly the stale ones go. Needs root, `conntrack` and `nft`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod namespace;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use namespace::{in_namespace, run};
use shunt::domain::{IpFamily, Protocol};
use shunt::kernel::conntrack::{Conntrack, Flow, NetlinkConntrack, Occupancy, UdpFrontend};
use shunt::plan::{Frontend, FrontendAddress, Globals, PerFamily};

/// Flows of IPv4 and of IPv6.
const fn counts(v4: u64, v6: u64) -> PerFamily<u64> {
    PerFamily { v4, v6 }
}

/// Makes an entry as if a client on port `client_port` had sent to `to` and the packet had been translated to `by`.
fn add_flow(client_port: u16, to: &str, by: &str, more: &str) {
    let (to, by): (SocketAddr, SocketAddr) = (to.parse().unwrap(), by.parse().unwrap());
    let client = if to.is_ipv4() { "10.9.9.9" } else { "fd09::9" };
    run(&format!(
        "conntrack -I -p udp -s {client} --sport {client_port} -d {} --dport {} --reply-src {} --reply-port-src {} \
         --reply-dst {client} --reply-port-dst {client_port} -t 300 {more}",
        to.ip(),
        to.port(),
        by.ip(),
        by.port(),
    ));
}

/// The client ports of the entries that are left.
fn left(family: IpFamily) -> BTreeSet<u16> {
    let flows = NetlinkConntrack::new().list(family).unwrap();
    flows.iter().map(|flow: &Flow| flow.original.source.port()).collect()
}

fn frontend(address: FrontendAddress, port: u16, serving: &[&str]) -> UdpFrontend {
    let serving = serving.iter().map(|text| text.parse().unwrap()).collect();
    UdpFrontend { frontend: Frontend { address, port, protocol: Protocol::Udp }, serving }
}

fn vip(address: &str, port: u16, serving: &[&str]) -> UdpFrontend {
    frontend(FrontendAddress::Ip(address.parse().unwrap()), port, serving)
}

fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_changed_address_loses_its_stale_flows_only() {
    in_namespace(|| {
        add_flow(1, "10.96.0.10:53", "10.1.0.1:53", "");
        add_flow(2, "10.96.0.10:53", "10.1.0.2:53", "");
        add_flow(3, "10.96.0.10:53", "10.96.0.10:53", "");
        add_flow(4, "10.96.0.10:54", "10.1.0.2:53", "");
        add_flow(5, "10.96.0.11:53", "10.1.0.2:53", "");
        run("conntrack -I -p tcp -s 10.9.9.9 --sport 6 -d 10.96.0.10 --dport 53 --state ESTABLISHED -t 300 \
             --reply-src 10.1.0.2 --reply-port-src 53 --reply-dst 10.9.9.9 --reply-port-dst 6");
        let changed = [vip("10.96.0.10", 53, &["10.1.0.1:53"])];
        let mut conntrack = NetlinkConntrack::new();
        assert_eq!(conntrack.clean(&changed, &BTreeSet::new()).unwrap(), counts(2, 0));
        assert_eq!(left(IpFamily::V4), [1, 4, 5].into());
        let state = format!("{conntrack:?}");
        assert!(state.contains("filters_work: true"), "this kernel took the filter: {state}");
        assert!(run("conntrack -L -p tcp").contains("sport=6"), "the TCP entry stays");
    });
}

#[test]
fn ipv6_flows_are_told_apart_by_address() {
    in_namespace(|| {
        add_flow(1, "[fd96::10]:53", "[fd01::1]:53", "");
        add_flow(2, "[fd96::10]:53", "[fd01::2]:53", "");
        add_flow(3, "[fd96::11]:53", "[fd01::2]:53", "");
        add_flow(4, "[fd96::10]:54", "[fd01::2]:53", "");
        let changed = [vip("fd96::10", 53, &["[fd01::1]:53"])];
        assert_eq!(NetlinkConntrack::new().clean(&changed, &BTreeSet::new()).unwrap(), counts(0, 1));
        assert_eq!(left(IpFamily::V6), [1, 3, 4].into());
    });
}

#[test]
fn a_node_port_leaves_the_same_port_of_other_hosts_alone() {
    in_namespace(|| {
        add_flow(1, "192.0.2.1:30053", "10.1.0.2:53", "");
        add_flow(2, "198.51.100.7:30053", "198.51.100.7:30053", "");
        add_flow(3, "198.51.100.7:30053", "10.1.0.2:53", "");
        let changed = [frontend(FrontendAddress::NodePort(IpFamily::V4), 30053, &["10.1.0.1:53"])];
        assert_eq!(
            NetlinkConntrack::new().clean(&changed, &addresses(&["192.0.2.1"])).unwrap(),
            counts(1, 0)
        );
        assert_eq!(left(IpFamily::V4), [2, 3].into());
    });
}

#[test]
fn a_frontend_without_endpoints_keeps_what_was_never_translated() {
    in_namespace(|| {
        add_flow(1, "10.96.0.10:53", "10.1.0.1:53", "");
        add_flow(2, "10.96.0.10:53", "10.96.0.10:53", "");
        let changed = [vip("10.96.0.10", 53, &[])];
        assert_eq!(NetlinkConntrack::new().clean(&changed, &BTreeSet::new()).unwrap(), counts(1, 0));
        assert_eq!(left(IpFamily::V4), [2].into());
    });
}

#[test]
fn stale_flows_in_zones_go_and_untranslated_ones_there_stay() {
    in_namespace(|| {
        add_flow(1, "10.96.0.10:53", "10.1.0.2:53", "-w 7");
        add_flow(2, "10.96.0.10:53", "10.96.0.10:53", "-w 7");
        add_flow(3, "10.96.0.10:53", "10.1.0.2:53", "--orig-zone 8");
        add_flow(4, "10.96.0.10:53", "10.1.0.2:53", "--reply-zone 9");
        add_flow(5, "10.96.0.10:53", "10.1.0.1:53", "-w 7");
        let changed = [vip("10.96.0.10", 53, &["10.1.0.1:53"])];
        assert_eq!(NetlinkConntrack::new().clean(&changed, &BTreeSet::new()).unwrap(), counts(3, 0));
        assert_eq!(left(IpFamily::V4), [2, 5].into());
    });
}

#[test]
fn many_changes_at_once_give_the_same_result() {
    in_namespace(|| {
        let changed: Vec<_> = (1..=60)
            .flat_map(|port| {
                [vip("10.96.0.10", port, &["10.1.0.1:53"]), vip("fd96::10", port, &["[fd01::1]:53"])]
            })
            .collect();
        for port in [1_u16, 30, 60, 61] {
            add_flow(port, &format!("10.96.0.10:{port}"), "10.1.0.2:53", "");
            add_flow(port + 1000, &format!("10.96.0.10:{port}"), "10.1.0.1:53", "");
            add_flow(port, &format!("[fd96::10]:{port}"), "[fd01::2]:53", "");
        }
        assert_eq!(NetlinkConntrack::new().clean(&changed, &BTreeSet::new()).unwrap(), counts(3, 3));
        assert_eq!(left(IpFamily::V4), [61, 1001, 1030, 1060, 1061].into());
        assert_eq!(left(IpFamily::V6), [61].into());
    });
}

#[test]
fn a_restarted_agent_clears_what_died_while_it_was_away() {
    in_namespace(|| {
        add_flow(1, "10.96.0.10:53", "10.1.0.1:53", "");
        add_flow(2, "10.96.0.10:53", "10.1.0.2:53", "");
        add_flow(3, "10.96.0.99:53", "10.1.0.9:53", "");
        add_flow(4, "10.96.0.98:53", "10.96.0.98:53", "");
        add_flow(5, "203.0.113.5:53", "10.1.0.9:53", "");
        add_flow(6, "[fd96::99]:53", "[fd01::9]:53", "");
        let all = [vip("10.96.0.10", 53, &["10.1.0.1:53"])];
        let globals = Globals {
            service_cidrs: ["10.96.0.0/16".parse().unwrap(), "fd96::/112".parse().unwrap()].into(),
            ..Globals::default()
        };
        let mut conntrack = NetlinkConntrack::new();
        assert_eq!(conntrack.clean_all(&all, &globals).unwrap(), counts(2, 1));
        assert_eq!(left(IpFamily::V4), [1, 4, 5].into());
        assert_eq!(left(IpFamily::V6), BTreeSet::new());
        assert_eq!(
            conntrack.clean_all(&all, &globals).unwrap(),
            PerFamily::default(),
            "a second time there is nothing to do"
        );
    });
}

/// The reason for all this, with real packets: a client that keeps sending from one port stays with the endpoint that
/// its first packet got, until its entry is deleted.
#[test]
fn a_client_that_keeps_sending_moves_to_the_new_endpoint() {
    in_namespace(|| {
        run("ip address add 10.1.0.1/32 dev lo");
        run("ip address add 10.1.0.2/32 dev lo");
        run("ip route add 10.96.0.0/16 dev lo");
        let old = server("10.1.0.1:5353");
        let new = server("10.1.0.2:5353");
        lead_to("10.1.0.1:5353");
        let client = UdpSocket::bind("10.1.0.1:4000").unwrap();
        client.connect("10.96.0.10:53").unwrap();
        client.send(b"one").unwrap();
        assert_eq!(received(&old), Some("one".into()));

        lead_to("10.1.0.2:5353");
        client.send(b"two").unwrap();
        assert_eq!(received(&old), Some("two".into()), "without cleaning the flow stays where it was");

        let changed = [vip("10.96.0.10", 53, &["10.1.0.2:5353"])];
        assert_eq!(NetlinkConntrack::new().clean(&changed, &BTreeSet::new()).unwrap(), counts(1, 0));
        client.send(b"three").unwrap();
        assert_eq!(received(&new), Some("three".into()));
        assert_eq!(received(&old), None);
        assert_eq!(NetlinkConntrack::new().clean(&changed, &BTreeSet::new()).unwrap(), counts(0, 0));
    });
}

fn server(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}

fn received(socket: &UdpSocket) -> Option<String> {
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Replaces the translation of 10.96.0.10:53.
fn lead_to(endpoint: &str) {
    run("nft add table ip t");
    run("nft delete table ip t");
    run("nft add table ip t");
    run("nft add chain ip t output { type nat hook output priority -100 ; }");
    run(&format!("nft add rule ip t output ip daddr 10.96.0.10 udp dport 53 dnat to {endpoint}"));
}

#[test]
fn occupancy_counts_the_entries_of_the_namespace() {
    in_namespace(|| {
        let before = Occupancy::now().expect("conntrack is there");
        add_flow(1, "10.96.0.10:53", "10.1.0.1:53", "");
        let after = Occupancy::now().unwrap();
        assert_eq!(after.count, before.count + 1);
        assert!(after.max > 0 && !after.is_nearly_full());
    });
}
