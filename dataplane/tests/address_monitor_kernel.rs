//! Interface addresses on a real kernel. Needs root and `ip`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod namespace;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use namespace::{in_namespace, run};
use shunt::kernel::monitor::{AddressMonitor, current_addresses};

fn ip(arguments: &str) {
    run(&format!("ip {arguments}"));
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A runtime that stays on this thread, and so in its namespace.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn within<T>(future: impl Future<Output = std::io::Result<T>>) -> T {
    tokio::time::timeout(Duration::from_secs(5), future).await.expect("no change was seen").unwrap()
}

#[test]
fn addresses_of_all_interfaces_are_listed_without_link_local_ones() {
    in_namespace(|| {
        ip("link add v0 type veth peer name v1");
        ip("link set v0 up");
        ip("link set v1 up");
        ip("address add 192.0.2.1/24 dev v0");
        ip("address add fd00::1/64 dev v0");
        ip("address add 192.0.2.9 peer 192.0.2.10 dev v1");
        let expected = ["127.0.0.1", "::1", "192.0.2.1", "fd00::1", "192.0.2.9"].map(address);
        assert_eq!(current_addresses().unwrap(), expected.into());
    });
}

#[test]
fn appearing_and_vanishing_addresses_are_reported() {
    in_namespace(|| {
        runtime().block_on(async {
            let mut monitor = AddressMonitor::new().unwrap();
            assert!(!monitor.addresses().contains(&address("192.0.2.1")));
            ip("address add 192.0.2.1/32 dev lo");
            assert!(within(monitor.changed()).await.contains(&address("192.0.2.1")));
            ip("address add fd00::1/128 dev lo");
            assert!(within(monitor.changed()).await.contains(&address("fd00::1")));
            ip("address del 192.0.2.1/32 dev lo");
            assert!(!within(monitor.changed()).await.contains(&address("192.0.2.1")));
        });
    });
}

#[test]
fn a_burst_is_one_change_and_what_is_undone_is_none() {
    in_namespace(|| {
        runtime().block_on(async {
            let mut monitor = AddressMonitor::new().unwrap();
            for last in 1..=20 {
                ip(&format!("address add 192.0.2.{last}/32 dev lo"));
            }
            let started = Instant::now();
            assert_eq!(within(monitor.changed()).await.len(), 22);
            assert!(started.elapsed() < Duration::from_secs(1));
            ip("address add 192.0.2.99/32 dev lo");
            ip("address del 192.0.2.99/32 dev lo");
            let quiet = tokio::time::timeout(Duration::from_millis(200), monitor.changed()).await;
            assert!(quiet.is_err(), "nothing differs");
        });
    });
}

#[test]
fn a_change_is_not_lost_when_waiting_is_given_up_halfway() {
    in_namespace(|| {
        runtime().block_on(async {
            let mut monitor = AddressMonitor::new().unwrap();
            ip("address add 192.0.2.1/32 dev lo");
            for _ in 0..3 {
                let halfway = tokio::time::timeout(Duration::from_millis(2), monitor.changed()).await;
                assert!(halfway.is_err(), "too early");
            }
            assert!(within(monitor.changed()).await.contains(&address("192.0.2.1")));
        });
    });
}

#[test]
fn an_overflowing_socket_still_yields_the_truth() {
    in_namespace(|| {
        let batch = tempfile::NamedTempFile::new().unwrap();
        let lines: Vec<_> =
            (0..3000).map(|n| format!("address add 10.7.{}.{}/32 dev lo", n / 250, n % 250)).collect();
        std::fs::write(batch.path(), lines.join("\n")).unwrap();
        runtime().block_on(async {
            let mut monitor = AddressMonitor::new().unwrap();
            ip(&format!("-batch {}", batch.path().display()));
            assert_eq!(within(monitor.changed()).await.len(), 3002);
        });
    });
}
