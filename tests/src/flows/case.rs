//! The case file format, in the form a run uses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::lab::Protocol;

/// One life of an agent: it starts with the first step and sees the others as
/// updates.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// Name of the case, unique among all.
    pub name: String,
    /// Free-form tags.
    #[serde(default)]
    pub features: Vec<String>,
    /// Backends the expectations hold for; empty: all.
    #[serde(default)]
    pub backends: Vec<String>,
    /// Feature gates that must have another value than their default.
    #[serde(default)]
    pub feature_gates: BTreeMap<String, bool>,
    /// How the agent is configured.
    #[serde(default)]
    pub config: Config,
    /// The machine under test.
    pub node: NodeSpec,
    /// `[protocol, port]` on which endpoints do not listen.
    #[serde(default)]
    pub closed_ports: Vec<(Protocol, u16)>,
    /// Outside clients behind a router whose link to them has a small MTU.
    #[serde(default)]
    pub low_mtu_clients: BTreeMap<IpAddr, u32>,
    /// States to bring about, in order.
    pub steps: Vec<Step>,
}

/// Settings of a KubeProxyConfiguration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// `IPv4` or `IPv6`: the node's primary family; default: its first address.
    #[serde(default)]
    pub ip_family: Option<String>,
    /// Masquerade everything that goes to a service.
    #[serde(default)]
    pub masquerade_all: bool,
    /// How local pods are told from other traffic.
    #[serde(default)]
    pub local_detect: LocalDetect,
    /// CIDRs of node addresses that serve node ports.
    #[serde(default)]
    pub node_port_addresses: Vec<String>,
    /// CIDRs of cluster IPs.
    #[serde(default, rename = "serviceCIDRs")]
    pub service_cidrs: Vec<String>,
    /// Node ports on loopback (iptables only).
    #[serde(default)]
    pub localhost_node_ports: Option<bool>,
    /// Time between full syncs.
    #[serde(default)]
    pub sync_period: Option<String>,
}

/// How local pods are told from other traffic.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalDetect {
    /// `ClusterCIDR` (default), `NodeCIDR`, `BridgeInterface`,
    /// `InterfaceNamePrefix` or `None`.
    #[serde(default)]
    pub mode: Option<String>,
    /// CIDRs, separated by commas.
    #[serde(default, rename = "clusterCIDR")]
    pub cluster_cidr: String,
    /// Name of the pods' bridge.
    #[serde(default)]
    pub bridge_interface: String,
    /// What pod interfaces' names begin with.
    #[serde(default)]
    pub interface_name_prefix: String,
}

/// The machine under test.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSpec {
    /// The node's name.
    #[serde(default = "default_node_name")]
    pub name: String,
    /// Its addresses in the Node object; the first is the primary one.
    pub ips: Vec<IpAddr>,
    /// More addresses on its interface (a prefix length is ignored).
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Labels of the Node object.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Pod CIDRs of the Node object.
    #[serde(default, rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
}

fn default_node_name() -> String {
    "test-node".to_owned()
}

/// One state of the cluster.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// What this state is.
    #[serde(default)]
    pub comment: Option<String>,
    /// Name of a sub-test.
    #[serde(default)]
    pub case: Option<String>,
    /// Start over with a new agent. Resolved when the file is read.
    #[serde(default)]
    pub fresh: bool,
    /// Configuration of a fresh start. Resolved when the file is read.
    #[serde(default)]
    pub config: Option<Config>,
    /// All Services at this moment.
    #[serde(default)]
    pub services: Vec<Value>,
    /// All EndpointSlices at this moment.
    #[serde(default)]
    pub endpoint_slices: Vec<Value>,
    /// Labels of the node from now on, if they change.
    #[serde(default)]
    pub node_labels: Option<BTreeMap<String, String>>,
    /// What happens to the agent before the flows.
    #[serde(default)]
    pub agent: Option<AgentAction>,
    /// Flows one after the other, once, without retries.
    #[serde(default)]
    pub ordered: bool,
    /// Seconds to wait before the flows.
    #[serde(default)]
    pub wait: f64,
    /// Packets to send.
    #[serde(default)]
    pub flows: Vec<Flow>,
    /// What health check node ports must say.
    #[serde(default)]
    pub health_checks: Vec<HealthCheck>,
}

/// What happens to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AgentAction {
    /// Ended and started again, the change of objects in between.
    Restart,
    /// Killed without notice and started again, the change in between.
    KillAndRestart,
    /// Ended; the step's objects are not expected to take effect.
    Stop,
    /// Started again.
    Start,
}

/// New connections (or one lasting one), and what must happen to them.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Flow {
    /// What the flow is about.
    #[serde(default)]
    pub name: Option<String>,
    /// Source address; default: the node chooses.
    #[serde(default)]
    pub from: Option<IpAddr>,
    /// Number of clients, with addresses counted up from `from`.
    #[serde(default = "one")]
    pub clients: u32,
    /// The protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Destination address.
    pub to: IpAddr,
    /// Destination port.
    pub port: u16,
    /// What must happen.
    pub expect: Expect,
    /// Keep the socket under this name, and use it wherever the name returns.
    #[serde(default)]
    pub session: Option<String>,
    /// UDP with `sendto`; the reply must come from `to`.
    #[serde(default)]
    pub unconnected: bool,
    /// Bytes of checked data to send.
    #[serde(default)]
    pub payload: usize,
    /// Bytes of checked data in the answer.
    #[serde(default)]
    pub reply_size: usize,
    /// Connections per client; default: as many as it takes.
    #[serde(default)]
    pub attempts: Option<usize>,
    /// Seconds to wait before this flow of an ordered step.
    #[serde(default)]
    pub delay: f64,
}

fn one() -> u32 {
    1
}

/// What must happen to a flow.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expect {
    /// One kind, or several of which each connection shows one.
    #[serde(rename = "kind", deserialize_with = "one_or_more")]
    pub kinds: Vec<Kind>,
    /// `address:port` of the endpoints that answer.
    #[serde(default)]
    pub endpoints: Vec<std::net::SocketAddr>,
    /// Whether the endpoints see another source than `from`.
    #[serde(default)]
    pub masquerade: Option<bool>,
    /// How connections spread over the endpoints.
    #[serde(default)]
    pub distribution: Option<Distribution>,
    /// Name of an earlier flow: every client stays where it was then.
    #[serde(default)]
    pub same_as: Option<String>,
    /// Name of an earlier flow: not every client is where it was then.
    #[serde(default)]
    pub differs_from: Option<String>,
}

/// A kind of outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Endpoints of the service answer.
    Endpoints,
    /// Refused at once.
    Reject,
    /// Silence.
    Drop,
    /// Left alone: it arrives, untranslated, where routing takes it.
    None,
}

/// How connections spread over the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Distribution {
    /// Every endpoint is seen.
    All,
    /// Each client stays with one endpoint; with many clients all are seen.
    Sticky,
    /// Any of the endpoints.
    Any,
}

/// What a health check node port must say.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    /// `namespace/name` of the Service.
    pub service: String,
    /// The port.
    pub port: u16,
    /// Number of local endpoints it must report.
    pub local_endpoints: u64,
    /// HTTP status.
    pub status: u16,
}

fn one_or_more<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<Kind>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(Kind),
        More(Vec<Kind>),
    }
    Ok(match OneOrMore::deserialize(source)? {
        OneOrMore::One(kind) => vec![kind],
        OneOrMore::More(kinds) => kinds,
    })
}
