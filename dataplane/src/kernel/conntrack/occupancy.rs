//! How full the conntrack table is.

use std::path::Path;

/// Entries and the most the kernel keeps. At the limit it drops packets of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Entries of this network namespace.
    pub count: u64,
    /// The limit.
    pub max: u64,
}

impl Occupancy {
    /// As it is now; `None` if connection tracking is not loaded.
    pub fn now() -> Option<Self> {
        Self::under(Path::new("/proc/sys"))
    }

    /// The same from another root than `/proc/sys`.
    pub fn under(sysctls: &Path) -> Option<Self> {
        let read = |name: &str| -> Option<u64> {
            let text = std::fs::read_to_string(sysctls.join("net/netfilter").join(name)).ok()?;
            text.trim().parse().ok()
        };
        Some(Self { count: read("nf_conntrack_count")?, max: read("nf_conntrack_max")? })
    }

    /// Nine tenths or more: time to warn. A limit of 0 means there is none.
    pub const fn is_nearly_full(&self) -> bool {
        self.max > 0 && self.count >= self.max - self.max / 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_from_two_files() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("net/netfilter");
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(Occupancy::under(root.path()), None);
        std::fs::write(folder.join("nf_conntrack_count"), "12\n").unwrap();
        std::fs::write(folder.join("nf_conntrack_max"), "100\n").unwrap();
        assert_eq!(Occupancy::under(root.path()), Some(Occupancy { count: 12, max: 100 }));
    }

    #[test]
    fn nine_tenths_are_nearly_full() {
        let nearly_full = |count, max| Occupancy { count, max }.is_nearly_full();
        assert!(!nearly_full(89, 100));
        assert!(nearly_full(90, 100));
        assert!(nearly_full(100, 100));
        assert!(!nearly_full(5, 0));
    }
}
