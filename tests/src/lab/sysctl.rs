//! Kernel settings of a network namespace.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Namespace;

/// A path below `/proc/sys` (one component may be `*`) and its value.
pub type Setting = (&'static str, &'static str);

/// For a machine that forwards packets.
///
/// ICMP errors are not rate limited, so that many refusals in a short time are
/// all seen; duplicate address detection is off, so that IPv6 addresses can be
/// used at once.
pub const NODE_SYSCTLS: &[Setting] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/*/forwarding", "1"),
    ("net/ipv4/conf/*/rp_filter", "0"),
    ("net/ipv4/conf/*/send_redirects", "0"),
    ("net/ipv4/conf/*/accept_redirects", "0"),
    ("net/ipv6/conf/*/accept_redirects", "0"),
    ("net/ipv6/conf/*/accept_ra", "0"),
    ("net/ipv6/conf/*/accept_dad", "0"),
    ("net/ipv6/conf/*/disable_ipv6", "0"),
    ("net/ipv4/icmp_ratelimit", "0"),
    ("net/ipv4/icmp_ratemask", "0"),
    ("net/ipv4/icmp_msgs_per_sec", "100000"),
    ("net/ipv4/icmp_msgs_burst", "100000"),
    ("net/ipv6/icmp/ratelimit", "0"),
];

/// For a namespace that stands for many machines: it may use any address.
pub const PEER_SYSCTLS: &[Setting] = &[
    ("net/ipv4/conf/*/accept_local", "1"),
    ("net/ipv4/ip_nonlocal_bind", "1"),
    ("net/ipv6/ip_nonlocal_bind", "1"),
    ("net/ipv4/conf/*/rp_filter", "0"),
    ("net/ipv4/conf/*/send_redirects", "0"),
    ("net/ipv4/conf/*/accept_redirects", "0"),
    ("net/ipv6/conf/*/accept_redirects", "0"),
    ("net/ipv6/conf/*/accept_ra", "0"),
    ("net/ipv6/conf/*/accept_dad", "0"),
    ("net/ipv6/conf/*/disable_ipv6", "0"),
    ("net/ipv4/icmp_ratelimit", "0"),
    ("net/ipv4/icmp_ratemask", "0"),
    ("net/ipv4/icmp_msgs_per_sec", "100000"),
    ("net/ipv4/icmp_msgs_burst", "100000"),
    ("net/ipv6/icmp/ratelimit", "0"),
];

/// Settings that belong to the whole machine on some kernels, and are then
/// absent in a namespace.
const PER_KERNEL: &[&str] = &["net/ipv4/icmp_msgs_per_sec", "net/ipv4/icmp_msgs_burst"];

/// Writes settings inside a namespace.
pub fn write_sysctls(namespace: &Namespace, settings: &[Setting]) -> Result<()> {
    namespace.run(|| settings.iter().try_for_each(|(pattern, value)| write(pattern, value)))?
}

fn write(pattern: &str, value: &str) -> Result<()> {
    for path in matching(pattern)? {
        if !path.exists() && PER_KERNEL.contains(&pattern) {
            continue;
        }
        fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))?;
    }
    Ok(())
}

fn matching(pattern: &str) -> Result<Vec<PathBuf>> {
    let root = Path::new("/proc/sys");
    let Some((before, after)) = pattern.split_once("/*/") else { return Ok(vec![root.join(pattern)]) };
    let directory = root.join(before);
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    entries.map(|entry| Ok(entry?.path().join(after))).collect()
}
