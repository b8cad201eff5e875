//! Services and EndpointSlices as a cluster has them, so that reading them costs what it costs there.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

/// Port of the TCP part of a service.
pub(super) const TCP_PORT: u16 = 80;
/// Port of the UDP part of a service.
pub(super) const UDP_PORT: u16 = 53;
/// Port of the endpoints, TCP.
pub(super) const TCP_TARGET: u16 = 8080;
/// Port of the endpoints, UDP.
pub(super) const UDP_TARGET: u16 = 5353;
/// Cluster IPs of both families, for the ServiceCIDR object.
const SERVICE_CIDRS: [&str; 2] = ["10.96.0.0/12", "fd00:60::/28"];
const NAMESPACE: &str = "bench";

/// Service number `index`, of those that fill the cluster: its name.
pub(super) fn filler_name(index: usize) -> String {
    format!("filler-{index:05}")
}

/// Cluster IP of a filler.
pub(super) fn filler_address(index: usize) -> Ipv4Addr {
    offset(Ipv4Addr::new(10, 100, 0, 1), index)
}

/// The two endpoints of a filler, and a third that it does not have yet.
pub(super) fn filler_endpoints(index: usize) -> [Ipv4Addr; 3] {
    let base = Ipv4Addr::new(10, 200, 0, 1);
    [offset(base, 3 * index), offset(base, 3 * index + 1), offset(base, 3 * index + 2)]
}

/// An address so many after another.
pub(super) fn offset(base: Ipv4Addr, by: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(base).saturating_add(u32::try_from(by).unwrap_or(u32::MAX)))
}

/// The objects of the fillers of these numbers.
pub(super) fn fillers(indices: std::ops::Range<usize>, node: &str) -> impl Iterator<Item = Value> {
    indices.flat_map(move |index| {
        let name = filler_name(index);
        let [first, second, _] = filler_endpoints(index);
        [service(&name, filler_address(index)), slice(&name, &[first, second], node)]
    })
}

/// A ClusterIP service with a TCP and a UDP port.
pub(super) fn service(name: &str, address: impl Into<IpAddr>) -> Value {
    let address = address.into();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": NAMESPACE},
            "managedFields": managed("helm", "v1", &["f:clusterIP", "f:ports", "f:selector", "f:type"]),
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilyPolicy": "SingleStack",
            "ipFamilies": [family(address)],
            "selector": {"app.kubernetes.io/name": name},
            "ports": [
                {"name": "web", "protocol": "TCP", "port": TCP_PORT, "targetPort": TCP_TARGET},
                {"name": "dns", "protocol": "UDP", "port": UDP_PORT, "targetPort": UDP_TARGET},
            ],
        },
    })
}

/// The same as a NodePort service; the node ports are those given, TCP and UDP.
pub(super) fn node_port_service(name: &str, address: Ipv4Addr, ports: [u16; 2]) -> Value {
    let mut service = service(name, address);
    if let Some(kind) = service.pointer_mut("/spec/type") {
        *kind = json!("NodePort");
    }
    for (number, port) in ports.into_iter().enumerate() {
        if let Some(Value::Object(entry)) = service.pointer_mut(&format!("/spec/ports/{number}")) {
            entry.insert("nodePort".to_owned(), json!(port));
        }
    }
    service
}

/// The one EndpointSlice of a service; endpoints are ready and on `node`.
pub(super) fn slice<A: Into<IpAddr> + Copy>(service: &str, endpoints: &[A], node: &str) -> Value {
    let endpoints: Vec<IpAddr> = endpoints.iter().map(|address| (*address).into()).collect();
    let kind = endpoints.first().map_or("IPv4", |address| family(*address));
    let pod = |address: &IpAddr| {
        json!({
            "addresses": [address],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": node,
            "zone": "zone-a",
            "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": format!("{service}-{address}"),
                          "uid": "2f6a4c1e-6f1b-4c0a-9d53-0f4f1c8f7a11"},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-x7k2p"),
            "generateName": format!("{service}-"),
            "namespace": NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": service,
                "app.kubernetes.io/name": service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": service, "controller": true,
                                 "blockOwnerDeletion": true, "uid": "9c1d9b0e-3f41-4d55-8a6a-b53f2a9e7d10"}],
            "managedFields": managed("kube-controller-manager", "discovery.k8s.io/v1",
                                     &["f:addressType", "f:endpoints", "f:ports"]),
        },
        "addressType": kind,
        "endpoints": endpoints.iter().map(pod).collect::<Vec<_>>(),
        "ports": [
            {"name": "web", "protocol": "TCP", "port": TCP_TARGET},
            {"name": "dns", "protocol": "UDP", "port": UDP_TARGET},
        ],
    })
}

const fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

fn managed(manager: &str, version: &str, fields: &[&str]) -> Value {
    let fields: serde_json::Map<_, _> = fields.iter().map(|field| ((*field).to_owned(), json!({}))).collect();
    json!([{"manager": manager, "operation": "Update", "apiVersion": version, "fieldsType": "FieldsV1",
            "time": "2026-01-01T00:00:00Z",
            "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app.kubernetes.io/name": {}}}, "f:spec": fields}}])
}

/// What a proxy reads besides: the node itself, and the range of cluster IPs.
pub(super) fn surroundings(node: &str, address: Ipv4Addr, pods: &str) -> [Value; 2] {
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node, "labels": {"kubernetes.io/hostname": node,
                                              "topology.kubernetes.io/zone": "zone-a"}},
        "spec": {"podCIDR": pods, "podCIDRs": [pods]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}],
                   "conditions": [{"type": "Ready", "status": "True"}]},
    });
    let range = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": SERVICE_CIDRS},
    });
    [node, range]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fillers_have_addresses_of_their_own() {
        let mut endpoints: Vec<_> = (0..60_000).flat_map(filler_endpoints).collect();
        endpoints.dedup();
        assert_eq!(endpoints.len(), 180_000);
        assert!(endpoints.iter().all(|address| (200..208).contains(&address.octets()[1])));
        assert!(filler_address(59_999).octets()[1] < 112);
    }

    #[test]
    fn a_node_port_service_asks_for_its_ports() {
        let service = node_port_service("web", Ipv4Addr::new(10, 96, 0, 9), [30_080, 30_053]);
        assert_eq!(service.pointer("/spec/ports/1/nodePort"), Some(&json!(30_053)));
        assert_eq!(service.pointer("/spec/type"), Some(&json!("NodePort")));
    }
}
