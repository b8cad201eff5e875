//! v1 Node.

use serde::Deserialize;

use super::{Meta, Text, or_default};

/// A Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node<'a> {
    /// `metadata`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub metadata: Meta<'a>,
    /// `spec`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub spec: NodeSpec<'a>,
    /// `status`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub status: NodeStatus<'a>,
}

/// `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec<'a> {
    /// `podCIDR`.
    #[serde(borrow, rename = "podCIDR")]
    pub pod_cidr: Option<Text<'a>>,
    /// `podCIDRs`.
    #[serde(borrow, rename = "podCIDRs", deserialize_with = "or_default")]
    pub pod_cidrs: Vec<Text<'a>>,
    /// `taints`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub taints: Vec<Taint<'a>>,
}

/// One of `spec.taints`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Taint<'a> {
    /// `key`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub key: Text<'a>,
}

/// `status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus<'a> {
    /// `addresses`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub addresses: Vec<NodeAddress<'a>>,
}

/// One of `status.addresses`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeAddress<'a> {
    /// `type`.
    #[serde(borrow, rename = "type", deserialize_with = "or_default")]
    pub kind: Text<'a>,
    /// `address`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub address: Text<'a>,
}
