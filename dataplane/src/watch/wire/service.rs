//! v1 Service.

use serde::Deserialize;

use super::{Meta, Text, or_default};

/// A Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Service<'a> {
    /// `metadata`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub metadata: Meta<'a>,
    /// `spec`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub spec: ServiceSpec<'a>,
    /// `status`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub status: ServiceStatus<'a>,
}

/// `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec<'a> {
    /// `type`.
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    /// `clusterIP`.
    #[serde(borrow, rename = "clusterIP")]
    pub cluster_ip: Option<Text<'a>>,
    /// `clusterIPs`.
    #[serde(borrow, rename = "clusterIPs", deserialize_with = "or_default")]
    pub cluster_ips: Vec<Text<'a>>,
    /// `externalIPs`.
    #[serde(borrow, rename = "externalIPs", deserialize_with = "or_default")]
    pub external_ips: Vec<Text<'a>>,
    /// `loadBalancerSourceRanges`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub load_balancer_source_ranges: Vec<Text<'a>>,
    /// `ports`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub ports: Vec<ServicePort<'a>>,
    /// `internalTrafficPolicy`.
    #[serde(borrow)]
    pub internal_traffic_policy: Option<Text<'a>>,
    /// `externalTrafficPolicy`.
    #[serde(borrow)]
    pub external_traffic_policy: Option<Text<'a>>,
    /// `sessionAffinity`.
    #[serde(borrow)]
    pub session_affinity: Option<Text<'a>>,
    /// `sessionAffinityConfig`.
    #[serde(deserialize_with = "or_default")]
    pub session_affinity_config: AffinityConfig,
    /// `healthCheckNodePort`.
    pub health_check_node_port: Option<i64>,
}

/// One of `spec.ports`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort<'a> {
    /// `name`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub name: Text<'a>,
    /// `protocol`.
    #[serde(borrow)]
    pub protocol: Option<Text<'a>>,
    /// `port`.
    pub port: Option<i64>,
    /// `nodePort`.
    pub node_port: Option<i64>,
}

/// `spec.sessionAffinityConfig`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AffinityConfig {
    /// `clientIP`.
    #[serde(rename = "clientIP", deserialize_with = "or_default")]
    pub client_ip: ClientIpConfig,
}

/// `spec.sessionAffinityConfig.clientIP`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientIpConfig {
    /// `timeoutSeconds`.
    pub timeout_seconds: Option<i64>,
}

/// `status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus<'a> {
    /// `loadBalancer`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub load_balancer: LoadBalancerStatus<'a>,
}

/// `status.loadBalancer`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus<'a> {
    /// `ingress`.
    #[serde(borrow, deserialize_with = "or_default")]
    pub ingress: Vec<Ingress<'a>>,
}

/// One of `status.loadBalancer.ingress`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ingress<'a> {
    /// `ip`; empty for those that have only a hostname.
    #[serde(borrow, deserialize_with = "or_default")]
    pub ip: Text<'a>,
    /// `ipMode`.
    #[serde(borrow)]
    pub ip_mode: Option<Text<'a>>,
}
