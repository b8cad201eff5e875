//! Settings of a real kernel, in a namespace of their own. Needs root.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod namespace;

use std::collections::BTreeSet;
use std::time::Duration;

use namespace::{in_namespace, run};
use shunt::domain::IpFamily;
use shunt::kernel::sysctl::{
    ConntrackSettings, SysctlRoot, apply_conntrack, enable_route_localnet, preflight,
};

const SETTINGS: ConntrackSettings = ConntrackSettings {
    max_per_core: u32::MAX,
    min: 0,
    tcp_established_timeout: Duration::from_hours(24),
    tcp_close_wait_timeout: Duration::from_hours(1),
    tcp_be_liberal: true,
    udp_timeout: Duration::from_secs(31),
    udp_stream_timeout: Duration::from_secs(121),
};

fn sysctl(name: &str) -> String {
    // Another process of the same namespace reads it, to be sure that the right one was written.
    run(&format!("cat /proc/sys/net/{name}")).trim().to_owned()
}

#[test]
fn timeouts_are_set_and_the_table_of_another_namespace_gives_a_warning() {
    in_namespace(|| {
        let report = apply_conntrack(&SysctlRoot::kernel(), &SETTINGS).unwrap();
        assert!(report.warnings.iter().any(|text| text.contains("nf_conntrack_max")), "{report:?}");
        assert!(!report.incomplete);
        let timeouts = ["established", "close_wait"]
            .map(|state| sysctl(&format!("netfilter/nf_conntrack_tcp_timeout_{state}")));
        assert_eq!(timeouts, ["86400", "3600"]);
        assert_eq!(sysctl("netfilter/nf_conntrack_tcp_be_liberal"), "1");
        assert_eq!(sysctl("netfilter/nf_conntrack_udp_timeout"), "31");
        assert_eq!(sysctl("netfilter/nf_conntrack_udp_timeout_stream"), "121");
        let again = apply_conntrack(&SysctlRoot::kernel(), &SETTINGS).unwrap();
        assert!(again.changed.is_empty(), "{again:?}");
    });
}

#[test]
fn route_localnet_is_switched_on() {
    in_namespace(|| {
        assert_eq!(sysctl("ipv4/conf/all/route_localnet"), "0");
        enable_route_localnet(&SysctlRoot::kernel()).unwrap();
        assert_eq!(sysctl("ipv4/conf/all/route_localnet"), "1");
    });
}

#[test]
fn the_look_at_a_bare_namespace_finds_forwarding_off() {
    in_namespace(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let checks = || -> BTreeSet<&str> {
            let found = preflight(&SysctlRoot::kernel(), &[IpFamily::V4].into());
            found.into_iter().map(|warning| warning.check).collect()
        };
        assert!(checks().contains("ip-forward"));
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        assert!(!checks().contains("ip-forward"));
    });
}
