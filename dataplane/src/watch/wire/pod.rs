//! v1 Pod, as manifests have it: from the API only metadata are asked for.

use serde::Deserialize;

use super::{Meta, Text, or_default};

/// A Pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod<'a> {
    /// `metadata`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub metadata: Meta<'a>,
    /// `spec`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub spec: PodSpec<'a>,
}

/// `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec<'a> {
    /// `nodeName`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub node_name: Text<'a>,
}
