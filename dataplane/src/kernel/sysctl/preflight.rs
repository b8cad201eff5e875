//! Settings of the node that break Services in ways that are hard to find.

use std::collections::BTreeSet;

use super::SysctlRoot;
use crate::domain::IpFamily;
use crate::kernel::conntrack::Occupancy;

/// Something an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Which check, the same in each release: `ip-forward`, `bridge-netfilter`, `rp-filter`, `conntrack-full`.
    pub check: &'static str,
    /// What was found, what will not work, and what to do.
    pub advice: String,
}

/// Looks at the node; reads only, and takes what it cannot read for good. `families` are those that Services use.
pub fn preflight(root: &SysctlRoot, families: &BTreeSet<IpFamily>) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = Vec::new();
    for family in families {
        warnings.extend(forwarding(root, *family));
        warnings.extend(bridge_netfilter(root, *family));
    }
    warnings.extend(rp_filter(root));
    warnings.extend(conntrack_full(root));
    warnings
}

fn forwarding(root: &SysctlRoot, family: IpFamily) -> Option<Warning> {
    let name = match family {
        IpFamily::V4 => "net/ipv4/ip_forward",
        IpFamily::V6 => "net/ipv6/conf/all/forwarding",
    };
    (root.number(name)? == 0).then(|| Warning {
        check: "ip-forward",
        advice: format!(
            "{family} forwarding is off: traffic from pods, and from outside to pods, is dropped by the kernel. \
             Set {}=1",
            dotted(name)
        ),
    })
}

/// Two pods on one bridge talk through it without the host's rules ever seeing the packets, unless br_netfilter shows
/// them: the request to a Service is translated, the answer is not translated back.
fn bridge_netfilter(root: &SysctlRoot, family: IpFamily) -> Option<Warning> {
    let bridge = bridges(root).into_iter().next()?;
    let name = match family {
        IpFamily::V4 => "net/bridge/bridge-nf-call-iptables",
        IpFamily::V6 => "net/bridge/bridge-nf-call-ip6tables",
    };
    let found = match root.number(name) {
        Some(0) => "is 0",
        Some(_) => return None,
        None => "does not exist (br_netfilter is not loaded)",
    };
    Some(Warning {
        check: "bridge-netfilter",
        advice: format!(
            "there is a bridge ({bridge}) and {} {found}: if pods are attached to it, they cannot reach a {family} \
             Service whose endpoint is on the same bridge. Run modprobe br_netfilter and set it to 1",
            dotted(name)
        ),
    })
}

/// Interfaces that are bridges.
fn bridges(root: &SysctlRoot) -> Vec<String> {
    let is_bridge = |name: &String| root.path("sys/class/net").join(name).join("bridge").is_dir();
    names_in(root, "sys/class/net").into_iter().filter(is_bridge).collect()
}

/// The stricter of the setting for all interfaces and that of the interface counts, and 2 (loose) is the stricter.
fn rp_filter(root: &SysctlRoot) -> Option<Warning> {
    let setting = |interface: &str| root.number(&format!("net/ipv4/conf/{interface}/rp_filter"));
    let all = setting("all")?;
    let strict: Vec<String> = names_in(root, "proc/sys/net/ipv4/conf")
        .into_iter()
        .filter(|name| !matches!(name.as_str(), "all" | "default" | "lo"))
        .filter(|name| setting(name).is_some_and(|own| own.max(all) == 1))
        .collect();
    let shown =
        strict.get(..5).map_or_else(|| strict.join(", "), |first| format!("{}, ...", first.join(", ")));
    (!strict.is_empty()).then(|| Warning {
        check: "rp-filter",
        advice: format!(
            "rp_filter is strict on {shown}: the kernel drops packets whose answer would leave by another interface, \
             as with several networks, tunnels or direct return. Set net.ipv4.conf.all.rp_filter=2 if that is so"
        ),
    })
}

fn conntrack_full(root: &SysctlRoot) -> Option<Warning> {
    let occupancy = Occupancy::under(&root.path("proc/sys"))?;
    occupancy.is_nearly_full().then(|| Warning {
        check: "conntrack-full",
        advice: format!(
            "the conntrack table holds {} of {} entries; when it is full, new connections are dropped. \
             Raise conntrack.maxPerCore or conntrack.min",
            occupancy.count, occupancy.max
        ),
    })
}

/// Sorted names in a folder, empty if it cannot be read.
fn names_in(root: &SysctlRoot, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root.path(folder)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// As `sysctl` spells it.
fn dotted(name: &str) -> String {
    name.replace('/', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: &[(&str, &str)] = &[
        ("proc/sys/net/ipv4/ip_forward", "1"),
        ("proc/sys/net/ipv6/conf/all/forwarding", "1"),
        ("proc/sys/net/bridge/bridge-nf-call-iptables", "1"),
        ("proc/sys/net/bridge/bridge-nf-call-ip6tables", "1"),
        ("proc/sys/net/ipv4/conf/all/rp_filter", "0"),
        ("proc/sys/net/ipv4/conf/eth0/rp_filter", "2"),
        ("proc/sys/net/ipv4/conf/lo/rp_filter", "1"),
        ("proc/sys/net/netfilter/nf_conntrack_count", "10"),
        ("proc/sys/net/netfilter/nf_conntrack_max", "1000"),
        ("sys/class/net/cni0/bridge/forward_delay", "0"),
    ];

    /// The checks that complain about a healthy node with these files on top; an empty text removes a file.
    fn complaints(changes: &[(&str, &str)], families: &[IpFamily]) -> Vec<Warning> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in HEALTHY.iter().chain(changes) {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if text.is_empty() {
                std::fs::remove_file(path).unwrap();
            } else {
                std::fs::write(path, text).unwrap();
            }
        }
        preflight(&SysctlRoot::at(folder.path()), &families.iter().copied().collect())
    }

    #[track_caller]
    fn only_complaint(changes: &[(&str, &str)], families: &[IpFamily], check: &str, mentions: &str) {
        let found = complaints(changes, families);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].check, check);
        assert!(found[0].advice.contains(mentions), "{}", found[0].advice);
    }

    #[test]
    fn a_healthy_node_gives_no_warnings() {
        assert_eq!(complaints(&[], &IpFamily::ALL), []);
    }

    #[test]
    fn a_node_without_any_of_the_files_gives_no_warnings() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(preflight(&SysctlRoot::at(folder.path()), &IpFamily::ALL.into()), []);
    }

    #[test]
    fn forwarding_matters_for_the_families_in_use() {
        let off = [("proc/sys/net/ipv6/conf/all/forwarding", "0")];
        only_complaint(&off, &IpFamily::ALL, "ip-forward", "net.ipv6.conf.all.forwarding=1");
        assert_eq!(complaints(&off, &[IpFamily::V4]), []);
    }

    #[test]
    fn bridges_need_br_netfilter() {
        let name = "proc/sys/net/bridge/bridge-nf-call-iptables";
        only_complaint(&[(name, "0")], &IpFamily::ALL, "bridge-netfilter", "cni0");
        only_complaint(&[(name, "")], &IpFamily::ALL, "bridge-netfilter", "not loaded");
    }

    #[test]
    fn without_a_bridge_br_netfilter_is_not_needed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("sys/class/net/eth0")).unwrap();
        assert_eq!(preflight(&SysctlRoot::at(folder.path()), &IpFamily::ALL.into()), []);
    }

    #[test]
    fn strict_rp_filter_is_the_larger_of_two_settings() {
        let (all, eth0) = ("proc/sys/net/ipv4/conf/all/rp_filter", "proc/sys/net/ipv4/conf/eth0/rp_filter");
        only_complaint(&[(all, "1"), (eth0, "0")], &[IpFamily::V4], "rp-filter", "eth0");
        only_complaint(&[(all, "0"), (eth0, "1")], &[IpFamily::V4], "rp-filter", "eth0");
        assert_eq!(complaints(&[(all, "1"), (eth0, "2")], &[IpFamily::V4]), []);
        assert_eq!(complaints(&[(all, "2"), (eth0, "1")], &[IpFamily::V4]), []);
    }

    #[test]
    fn a_nearly_full_table_is_reported_with_its_figures() {
        let full = [("proc/sys/net/netfilter/nf_conntrack_count", "990")];
        only_complaint(&full, &[IpFamily::V4], "conntrack-full", "990 of 1000");
    }
}
