//! ShuntConfiguration, `shunt.dev/v1alpha1`: our own settings, a further document in the configuration file.

use super::section::section;

/// `apiVersion` of the document.
pub const API_VERSION: &str = "shunt.dev/v1alpha1";
/// `kind` of the document.
pub const KIND: &str = "ShuntConfiguration";

section! {
    /// The whole document.
    pub struct ShuntConfiguration {
        /// `off`, `tc` or `xdp`.
        pub acceleration: String,
        /// Always `shunt.dev/v1alpha1`.
        pub api_version: String,
        /// Where the BPF file system is.
        pub bpffs_root: String,
        /// The cgroup v2 directory whose processes get socket load balancing.
        pub cgroup_root: String,
        /// Always `ShuntConfiguration`.
        pub kind: String,
        /// Directory of manifests that is read instead of an API server, empty for none.
        pub manifests: String,
        /// `all`, `host` or `off`.
        #[serde(rename = "socketLB")]
        pub socket_lb: String,
    }
}

impl ShuntConfiguration {
    /// Fills in every field that was left out.
    pub fn set_defaults(&mut self) {
        for (field, default) in [
            (&mut self.acceleration, "off"),
            (&mut self.api_version, API_VERSION),
            (&mut self.bpffs_root, "/sys/fs/bpf"),
            (&mut self.cgroup_root, "/sys/fs/cgroup"),
            (&mut self.kind, KIND),
            (&mut self.socket_lb, "all"),
        ] {
            if field.is_empty() {
                default.clone_into(field);
            }
        }
    }
}
