//! The Kubernetes objects of the demo.

use serde_json::{Value, json};

use super::machines::{CHAT_PORT, DNS_PORT, DemoPod, NodePlan, SERVICE_CIDRS, WEB_PORT};

/// Namespace of everything.
pub(super) const NAMESPACE: &str = "default";

/// A Node, ready.
pub(super) fn node(plan: &NodePlan) -> Value {
    let addresses: Vec<Value> =
        plan.addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
    let [first, _] = plan.pod_cidrs;
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": plan.name, "labels": {"kubernetes.io/hostname": plan.name}},
        "spec": {"podCIDR": first, "podCIDRs": plan.pod_cidrs},
        "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// A Pod, running and ready.
pub(super) fn pod(name: &str, pod: &DemoPod) -> Value {
    let [v4, v6] = pod.addresses;
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": NAMESPACE, "name": name,
            "labels": {"app": pod.app, "node": pod.node, "pod": name},
        },
        "spec": {"nodeName": pod.node, "containers": [{"name": "demo", "image": "demo", "ports": [
            {"name": "http", "containerPort": WEB_PORT, "protocol": "TCP"},
            {"name": "dns", "containerPort": DNS_PORT, "protocol": "UDP"},
            {"name": "chat", "containerPort": CHAT_PORT, "protocol": "TCP"},
        ]}]},
        "status": {
            "phase": "Running", "podIP": v4, "podIPs": [{"ip": v4}, {"ip": v6}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// The service network.
pub(super) fn service_cidr() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": SERVICE_CIDRS},
    })
}

/// A Service with this `spec`.
pub(super) fn service(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": NAMESPACE, "name": name}, "spec": spec,
    })
}

/// One HTTP port.
pub(super) fn http() -> Value {
    json!([{"name": "http", "port": 80, "targetPort": "http"}])
}

/// One HTTP port, with a node port.
pub(super) fn http_at(node_port: u16) -> Value {
    json!([{"name": "http", "port": 80, "targetPort": "http", "nodePort": node_port}])
}

/// One endpoint of a slice written by hand.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// IPv4 address.
    pub(super) address: std::net::IpAddr,
    /// Its node.
    pub(super) node: &'static str,
    /// It is shutting down, and still answers.
    pub(super) terminating: bool,
}

/// An EndpointSlice of a Service that has no selector.
pub(super) fn slice(service: &str, port: u16, endpoints: &[Endpoint]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "addresses": [endpoint.address], "nodeName": endpoint.node,
                "conditions": {
                    "ready": !endpoint.terminating, "serving": true, "terminating": endpoint.terminating,
                },
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": NAMESPACE, "name": format!("{service}-by-hand"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": port}],
        "endpoints": endpoints,
    })
}
