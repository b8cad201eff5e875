//! Short forms of Services and EndpointSlices.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::flows::{complete_service, complete_slice};

/// A Service `default/<name>` with what `spec` says and an API server's defaults.
pub fn service(name: &str, spec: &Value) -> Value {
    complete_service(&json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}))
}

/// One endpoint of a [`Slice`].
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Address; the port of the first endpoint is the slice's.
    pub at: SocketAddr,
    /// Name of the node it is on.
    pub node: String,
    /// Whether it is being removed (then it still serves, but is not ready).
    pub terminating: bool,
}

impl Endpoint {
    /// A ready endpoint.
    pub fn new(at: SocketAddr, node: &str) -> Self {
        Self { at, node: node.to_owned(), terminating: false }
    }

    /// One that is being removed.
    #[must_use]
    pub fn terminating(self) -> Self {
        Self { terminating: true, ..self }
    }
}

/// An EndpointSlice of a service in namespace `default`, with one port.
#[derive(Debug, Clone)]
pub struct Slice<'a> {
    /// Name of the service.
    pub service: &'a str,
    /// Name of the port.
    pub port_name: &'a str,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'a str,
    /// The port of the endpoints.
    pub port: u16,
    /// The endpoints, all of one IP version.
    pub endpoints: Vec<Endpoint>,
}

impl<'a> Slice<'a> {
    /// A TCP slice for an unnamed port.
    pub fn new(service: &'a str, port: u16, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self { service, port_name: "", protocol: "TCP", port, endpoints: endpoints.into_iter().collect() }
    }

    /// The object; its name is that of service, port and IP version.
    pub fn object(&self) -> Value {
        let endpoints: Vec<_> = self
            .endpoints
            .iter()
            .map(|endpoint| {
                let (address, terminating) = (endpoint.at.ip(), endpoint.terminating);
                json!({"addresses": [address], "nodeName": endpoint.node,
                       "conditions": {"ready": !terminating, "serving": true, "terminating": terminating}})
            })
            .collect();
        let v6 = self.endpoints.first().is_some_and(|endpoint| endpoint.at.is_ipv6());
        let name = format!("{}-{}{}", self.service, self.port, if v6 { "-v6" } else { "" });
        complete_slice(&json!({
            "metadata": {"name": name, "namespace": "default",
                         "labels": {"kubernetes.io/service-name": self.service}},
            "addressType": if v6 { "IPv6" } else { "IPv4" },
            "endpoints": endpoints,
            "ports": [{"name": self.port_name, "protocol": self.protocol, "port": self.port}],
        }))
    }
}
