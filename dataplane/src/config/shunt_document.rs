//! ShuntConfiguration, `shunt.dev/v1alpha1`: our own settings, a further document in the configuration file.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::map_document::MapDocument;
use super::section::{fields, section};

/// `apiVersion` of the document.
pub(super) const API_VERSION: &str = "shunt.dev/v1alpha1";
/// `kind` of the document.
pub(super) const KIND: &str = "ShuntConfiguration";

section! {
    /// The whole document.
    pub struct ShuntConfiguration {
        /// `off`, `tc` or `xdp`.
        pub acceleration: Word,
        /// Always `shunt.dev/v1alpha1`.
        pub api_version: String,
        /// Where the BPF file system is.
        pub bpffs_root: String,
        /// The cgroup v2 directory whose processes get socket load balancing.
        pub cgroup_root: String,
        /// Priority of classic filters among those of others, 1 to 65535; 0, the default, for 21319.
        pub filter_priority: i32,
        /// `auto` (tcx where the kernel has it) or `clsact`.
        pub interface_hook: String,
        /// Where among the tcx programs of others: `outermost`, `innermost`, `first`, `last`, `before:PROGRAM` or
        /// `after:PROGRAM`.
        pub interface_order: String,
        /// Always `ShuntConfiguration`.
        pub kind: String,
        /// Directory of manifests that is read instead of an API server, empty for none.
        pub manifests: String,
        /// How much the tables of the eBPF dataplane can hold.
        pub maps: MapDocument,
        /// How many Services may have metrics of their own; 0, the default, for none.
        pub service_metrics: i32,
        /// `all`, `host` or `off`.
        #[serde(rename = "socketLB")]
        pub socket_lb: Word,
    }
}

impl ShuntConfiguration {
    /// Fills in every field that was left out.
    pub fn set_defaults(&mut self) {
        for (field, default) in [
            (&mut self.acceleration.0, "off"),
            (&mut self.api_version, API_VERSION),
            (&mut self.bpffs_root, "/sys/fs/bpf"),
            (&mut self.cgroup_root, "/sys/fs/cgroup"),
            (&mut self.interface_hook, "auto"),
            (&mut self.interface_order, "outermost"),
            (&mut self.kind, KIND),
            (&mut self.socket_lb.0, "all"),
        ] {
            if field.is_empty() {
                default.clone_into(field);
            }
        }
        self.maps.set_defaults();
    }
}

/// A text that may be the word `off` without quotes, although that is a boolean in YAML.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Word(pub String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl de::Visitor<'_> for Either {
            type Value = Word;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Word(if value { "on" } else { "off" }.to_owned()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Word(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fields!(Word);
