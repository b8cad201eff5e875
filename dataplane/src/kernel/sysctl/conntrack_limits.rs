//! Size and timeouts of the conntrack table.

use std::time::Duration;

use super::{Report, SysctlError, SysctlRoot};

/// kube-proxy goes no higher by itself, however many cores there are (from 1.36 on).
const MAX_CAP: u64 = 1_048_576;

/// `conntrack` of KubeProxyConfiguration. Zero leaves a setting as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConntrackSettings {
    /// Entries for each core; 0 leaves the size alone.
    pub max_per_core: u32,
    /// The least number of entries.
    pub min: u32,
    /// Idle time of established TCP connections, in whole seconds.
    pub tcp_established_timeout: Duration,
    /// Time in CLOSE_WAIT, in whole seconds.
    pub tcp_close_wait_timeout: Duration,
    /// Do not call out-of-window packets invalid. Never switched off again.
    pub tcp_be_liberal: bool,
    /// Idle time of UDP flows without an answer.
    pub udp_timeout: Duration,
    /// Idle time of UDP flows that were answered.
    pub udp_stream_timeout: Duration,
}

/// Wanted size of the table: a number for each core up to a cap, but not less than `min`; `None` leaves it alone. As in
/// kube-proxy, `min` counts only if the product is below the cap, and is not capped itself.
pub fn conntrack_max(max_per_core: u32, min: u32, cores: u32) -> Option<u64> {
    let product = u64::from(max_per_core) * u64::from(cores);
    match max_per_core {
        0 => None,
        _ if product > MAX_CAP => Some(MAX_CAP),
        _ => Some(product.max(u64::from(min))),
    }
}

/// Makes the settings. Fails if the kernel refuses a value; later settings are not made then.
pub fn apply_conntrack(root: &SysctlRoot, settings: &ConntrackSettings) -> Result<Report, SysctlError> {
    let mut report = Report::default();
    if let Some(max) = conntrack_max(settings.max_per_core, settings.min, online_cores(root)) {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        // Somebody who has set more knows why; and in a namespace other than the first it cannot be set at all.
        report.set(&root.sysctl("net/netfilter/nf_conntrack_max"), max, |is, wanted| is < wanted)?;
        set_hash_size(root, &mut report, max / 4)?;
    }
    let seconds = |timeout: Duration| i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
    for (name, value) in [
        ("tcp_timeout_established", seconds(settings.tcp_established_timeout)),
        ("tcp_timeout_close_wait", seconds(settings.tcp_close_wait_timeout)),
        ("tcp_be_liberal", i64::from(settings.tcp_be_liberal)),
        ("udp_timeout", seconds(settings.udp_timeout)),
        ("udp_timeout_stream", seconds(settings.udp_stream_timeout)),
    ] {
        if value > 0 {
            let path = root.sysctl(&format!("net/netfilter/nf_conntrack_{name}"));
            report.set(&path, value, |is, wanted| is != wanted)?;
        }
    }
    Ok(report)
}

/// Buckets of the hash table, at least one for four entries. Best effort: the table works with fewer, only slower.
fn set_hash_size(root: &SysctlRoot, report: &mut Report, buckets: i64) -> Result<(), SysctlError> {
    let path = root.path("sys/module/nf_conntrack/parameters/hashsize");
    if path.exists() {
        report.set(&path, buckets, |is, wanted| is < wanted)?;
    }
    Ok(())
}

/// Cores of the machine, not those this process may use: limits of the container do not shrink the node's table.
fn online_cores(root: &SysctlRoot) -> u32 {
    let listed = std::fs::read_to_string(root.path("sys/devices/system/cpu/online")).ok();
    listed.and_then(|list| count_cores(&list)).unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
    })
}

/// Of a list like `0-3,8`.
fn count_cores(list: &str) -> Option<u32> {
    let mut cores = 0_u32;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        cores = cores.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    (cores > 0).then_some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: ConntrackSettings = ConntrackSettings {
        max_per_core: 0,
        min: 0,
        tcp_established_timeout: Duration::ZERO,
        tcp_close_wait_timeout: Duration::ZERO,
        tcp_be_liberal: false,
        udp_timeout: Duration::ZERO,
        udp_stream_timeout: Duration::ZERO,
    };

    /// A folder with four cores and these files.
    fn kernel_with(files: &[(&str, &str)]) -> (tempfile::TempDir, SysctlRoot) {
        let folder = tempfile::tempdir().unwrap();
        let root = SysctlRoot::at(folder.path());
        for (path, text) in files.iter().chain([&("sys/devices/system/cpu/online", "0-3\n")]) {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        (folder, root)
    }

    fn read(folder: &tempfile::TempDir, path: &str) -> String {
        std::fs::read_to_string(folder.path().join(path)).unwrap()
    }

    const MAX: &str = "proc/sys/net/netfilter/nf_conntrack_max";
    const HASH: &str = "sys/module/nf_conntrack/parameters/hashsize";
    const ESTABLISHED: &str = "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established";

    #[test]
    fn the_size_grows_with_the_cores_between_minimum_and_cap() {
        for (case, per_core, min, cores, wanted) in [
            ("left alone", 0, 131_072, 8, None),
            ("product above the minimum", 32_768, 131_072, 8, Some(262_144)),
            ("product below the minimum", 32_768, 131_072, 2, Some(131_072)),
            ("no minimum", 32_768, 0, 1, Some(32_768)),
            ("product at the cap", 32_768, 131_072, 32, Some(1_048_576)),
            ("product above the cap", 32_768, 131_072, 96, Some(1_048_576)),
            ("a minimum above the cap counts below it", 32_768, 2_000_000, 8, Some(2_000_000)),
            ("but not above it", 32_768, 2_000_000, 96, Some(1_048_576)),
            ("no overflow", u32::MAX, u32::MAX, u32::MAX, Some(1_048_576)),
        ] {
            assert_eq!(conntrack_max(per_core, min, cores), wanted, "{case}");
        }
    }

    #[test]
    fn cores_are_counted_from_ranges() {
        for (list, cores) in [("0\n", Some(1)), ("0-3", Some(4)), ("0-3,8,10-11\n", Some(7))] {
            assert_eq!(count_cores(list), cores, "{list:?}");
        }
        for broken in ["", "x", "3-1", "0-"] {
            assert_eq!(count_cores(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_small_table_is_enlarged_with_its_hash() {
        let (folder, root) = kernel_with(&[(MAX, "65536\n"), (HASH, "16384\n")]);
        let settings = ConntrackSettings { max_per_core: 32_768, min: 131_072, ..NONE };
        let report = apply_conntrack(&root, &settings).unwrap();
        assert_eq!((read(&folder, MAX).as_str(), read(&folder, HASH).as_str()), ("131072", "32768"));
        assert_eq!(report.changed.len(), 2, "{report:?}");
        assert_eq!(apply_conntrack(&root, &settings).unwrap(), Report::default(), "nothing left to do");
    }

    #[test]
    fn a_larger_table_is_left_alone() {
        let (folder, root) = kernel_with(&[(MAX, "500000\n"), (HASH, "262144\n")]);
        let settings = ConntrackSettings { max_per_core: 32_768, min: 131_072, ..NONE };
        assert_eq!(apply_conntrack(&root, &settings).unwrap(), Report::default());
        assert_eq!(read(&folder, MAX), "500000\n");
    }

    #[test]
    fn timeouts_are_set_either_way_and_zero_leaves_them() {
        let (folder, root) = kernel_with(&[
            (ESTABLISHED, "432000\n"),
            ("proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait", "60\n"),
            ("proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", "0\n"),
            ("proc/sys/net/netfilter/nf_conntrack_udp_timeout", "30\n"),
            ("proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream", "120\n"),
        ]);
        let settings = ConntrackSettings {
            tcp_established_timeout: Duration::from_hours(24),
            tcp_close_wait_timeout: Duration::from_hours(1),
            tcp_be_liberal: true,
            udp_stream_timeout: Duration::from_mins(5),
            ..NONE
        };
        let report = apply_conntrack(&root, &settings).unwrap();
        assert!(report.warnings.is_empty() && !report.incomplete);
        let found = ["tcp_timeout_established", "tcp_timeout_close_wait", "tcp_be_liberal", "udp_timeout"]
            .map(|name| read(&folder, &format!("proc/sys/net/netfilter/nf_conntrack_{name}")));
        assert_eq!(found, ["86400", "3600", "1", "30\n"]);
        assert_eq!(report.changed.len(), 4, "{report:?}");
    }

    #[test]
    fn without_connection_tracking_the_report_asks_for_another_try() {
        let (_folder, root) = kernel_with(&[]);
        let settings = ConntrackSettings { max_per_core: 1, ..NONE };
        let report = apply_conntrack(&root, &settings).unwrap();
        assert!(report.incomplete && report.changed.is_empty() && report.warnings.is_empty());
    }

    #[test]
    fn rubbish_is_an_error_that_names_the_file() {
        let (_folder, root) = kernel_with(&[(ESTABLISHED, "soon\n")]);
        let settings = ConntrackSettings { tcp_established_timeout: Duration::from_secs(1), ..NONE };
        let text = apply_conntrack(&root, &settings).unwrap_err().to_string();
        assert!(text.contains("nf_conntrack_tcp_timeout_established") && text.contains("soon"), "{text}");
    }
}
