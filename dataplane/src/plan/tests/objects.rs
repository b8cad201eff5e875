//! Objects of the recorded cases: Kubernetes JSON, with the defaults an API server fills in.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::Value;

use crate::domain::{
    Endpoint, EndpointPort, EndpointSlice, Hints, IpFamily, Node, Protocol, Service, ServiceName,
    ServicePort, ServiceType, SliceName, TrafficPolicy,
};

/// Addresses as old clusters wrote them, with leading zeros in IPv4.
pub(super) fn sloppy_ip(text: &str) -> IpAddr {
    let plain =
        |octet: &str| octet.parse::<u8>().map_or_else(|_| octet.to_owned(), |octet| octet.to_string());
    let is_v6 = text.contains(':');
    let text = if is_v6 { text.to_owned() } else { text.split('.').map(plain).collect::<Vec<_>>().join(".") };
    text.parse().unwrap_or_else(|_| panic!("address {text}"))
}

fn sloppy_net(text: &str) -> IpNet {
    let (address, length) = text.trim().split_once('/').unwrap();
    let length = length.trim_start_matches('0');
    IpNet::new(sloppy_ip(address), if length.is_empty() { 0 } else { length.parse().unwrap() }).unwrap()
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string"))
}

pub(super) fn number(value: &Value) -> u16 {
    u16::try_from(value.as_u64().unwrap_or(0)).unwrap()
}

fn ips(value: &Value) -> Vec<IpAddr> {
    list(value).iter().map(|ip| sloppy_ip(string(ip))).collect()
}

fn words(value: &Value) -> Vec<Arc<str>> {
    list(value).iter().map(|hint| string(&hint["name"]).into()).collect()
}

fn policy(value: &Value) -> TrafficPolicy {
    if value == "Local" { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

/// The Service, if it is one a proxy serves.
pub(super) fn service(value: &Value) -> Option<Service> {
    let (meta, spec) = (&value["metadata"], &value["spec"]);
    let kind = match string(&spec["type"]) {
        "ClusterIP" => ServiceType::ClusterIp,
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer,
        _ => return None,
    };
    if matches!(spec["clusterIP"].as_str(), None | Some("None" | "")) {
        return None;
    }
    let ingress = list(&value["status"]["loadBalancer"]["ingress"]).iter();
    let vips = ingress.filter(|item| item["ip"].is_string() && item["ipMode"] != "Proxy");
    let affinity = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    let external_policy = policy(&spec["externalTrafficPolicy"]);
    let health_checked = kind == ServiceType::LoadBalancer && external_policy == TrafficPolicy::Local;
    let health_port = number(&spec["healthCheckNodePort"]);
    Some(Service {
        name: ServiceName::new(string(&meta["namespace"]), string(&meta["name"])),
        uid: "uid".into(),
        created: 0,
        kind,
        cluster_ips: ips(&spec["clusterIPs"]),
        external_ips: ips(&spec["externalIPs"]),
        load_balancer_ips: vips.map(|item| sloppy_ip(string(&item["ip"]))).collect(),
        source_ranges: list(&spec["loadBalancerSourceRanges"])
            .iter()
            .map(|r| sloppy_net(string(r)))
            .collect(),
        ports: list(&spec["ports"]).iter().map(service_port).collect(),
        internal_policy: policy(&spec["internalTrafficPolicy"]),
        external_policy,
        affinity_seconds: (spec["sessionAffinity"] == "ClientIP")
            .then(|| u32::try_from(affinity.as_u64().unwrap_or(10800)).unwrap()),
        health_check_node_port: (health_checked && health_port != 0).then_some(health_port),
    })
}

fn service_port(value: &Value) -> ServicePort {
    ServicePort {
        name: value["name"].as_str().unwrap_or_default().into(),
        protocol: Protocol::parse(string(&value["protocol"])).unwrap(),
        port: number(&value["port"]),
        node_port: Some(number(&value["nodePort"])).filter(|port| *port != 0),
    }
}

/// The EndpointSlice, if its addresses are of a family a proxy knows.
pub(super) fn slice(value: &Value) -> Option<EndpointSlice> {
    let family = match string(&value["addressType"]) {
        "IPv4" => IpFamily::V4,
        "IPv6" => IpFamily::V6,
        _ => return None,
    };
    let meta = &value["metadata"];
    let namespace = string(&meta["namespace"]);
    let service = string(&meta["labels"]["kubernetes.io/service-name"]);
    let ports = list(&value["ports"]).iter().filter(|port| !port["port"].is_null());
    Some(EndpointSlice {
        name: SliceName { namespace: namespace.into(), name: string(&meta["name"]).into() },
        service: ServiceName::new(namespace, service),
        family,
        ports: ports.map(endpoint_port).collect(),
        endpoints: list(&value["endpoints"]).iter().map(endpoint).collect(),
        trigger_time_ns: None,
    })
}

fn endpoint_port(value: &Value) -> EndpointPort {
    EndpointPort {
        name: value["name"].as_str().unwrap_or_default().into(),
        protocol: Protocol::parse(string(&value["protocol"])).unwrap(),
        port: number(&value["port"]),
    }
}

fn endpoint(value: &Value) -> Endpoint {
    let conditions = &value["conditions"];
    let ready = conditions["ready"].as_bool().unwrap_or(true);
    let hints = &value["hints"];
    Endpoint {
        address: sloppy_ip(string(&value["addresses"][0])),
        ready,
        serving: conditions["serving"].as_bool().unwrap_or(ready),
        terminating: conditions["terminating"].as_bool().unwrap_or(false),
        node: value["nodeName"].as_str().map(Arc::from),
        hints: (!hints.is_null())
            .then(|| Box::new(Hints { zones: words(&hints["forZones"]), nodes: words(&hints["forNodes"]) })),
    }
}

/// The node of a case.
pub(super) fn node(value: &Value) -> Node {
    Node {
        name: string(&value["name"]).into(),
        zone: value["labels"]["topology.kubernetes.io/zone"].as_str().map(Arc::from),
        addresses: ips(&value["ips"]),
        ..Node::default()
    }
}
