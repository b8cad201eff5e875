//! networking.k8s.io/v1 ServiceCIDR.

use serde::Deserialize;

use super::{Meta, Text, or_default};

/// A ServiceCIDR.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceCidr<'a> {
    /// `metadata`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub metadata: Meta<'a>,
    /// `spec`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub spec: ServiceCidrSpec<'a>,
}

/// `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceCidrSpec<'a> {
    /// `cidrs`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub cidrs: Vec<Text<'a>>,
}
