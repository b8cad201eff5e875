//! How the structs of a configuration document are declared and read.

use serde::{Deserialize, Deserializer};

/// Reads `null` as the type's zero value, as Go's JSON decoder does: kubeadm writes `null` for what it leaves unset.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Declares a struct of a document: camelCase keys, every field may be absent or null, unknown keys are errors. Fields
/// stand in the alphabetical order of their keys, because that is the order in which Kubernetes writes YAML.
macro_rules! section {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(deserialize_with = "crate::config::section::nullable")]
                pub $field: $type,
            )+
        }
    };
}
pub(super) use section;
