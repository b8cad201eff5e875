//! discovery.k8s.io/v1 EndpointSlice.

use serde::Deserialize;

use super::{Meta, Text, or_default};

/// An EndpointSlice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSlice<'a> {
    /// `metadata`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub metadata: Meta<'a>,
    /// `addressType`.
    #[serde(borrow)]
    pub address_type: Option<Text<'a>>,
    /// `ports`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub ports: Vec<EndpointPort<'a>>,
    /// `endpoints`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub endpoints: Vec<Endpoint<'a>>,
}

/// One of `ports`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EndpointPort<'a> {
    /// `name`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub name: Text<'a>,
    /// `protocol`.
    #[serde(borrow)]
    pub protocol: Option<Text<'a>>,
    /// `port`.
    pub port: Option<i64>,
}

/// One of `endpoints`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint<'a> {
    /// `addresses`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub addresses: Vec<Text<'a>>,
    /// `conditions`.
    #[serde(deserialize_with = "or_default")]
    pub conditions: Conditions,
    /// `nodeName`.
    #[serde(borrow)]
    pub node_name: Option<Text<'a>>,
    /// `hints`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub hints: Hints<'a>,
}

/// `conditions` of an endpoint.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// `ready`.
    pub ready: Option<bool>,
    /// `serving`.
    pub serving: Option<bool>,
    /// `terminating`.
    pub terminating: Option<bool>,
}

/// `hints` of an endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hints<'a> {
    /// `forZones`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub for_zones: Vec<HintName<'a>>,
    /// `forNodes`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub for_nodes: Vec<HintName<'a>>,
}

/// A zone or node in `hints`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HintName<'a> {
    /// `name`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub name: Text<'a>,
}
