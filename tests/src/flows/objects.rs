//! API objects: what an API server would fill in, and what the runner reads.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value, json};

use super::case::{Case, NodeSpec};

/// Sets a field unless it is there with a value.
fn set_default(object: &mut Value, field: &str, value: Value) {
    if let Some(fields) = object.as_object_mut()
        && fields.get(field).is_none_or(Value::is_null)
    {
        fields.insert(field.to_owned(), value);
    }
}

/// A member object, made if it is not there.
fn member<'a>(object: &'a mut Value, field: &str) -> &'a mut Value {
    set_default(object, field, json!({}));
    let missing = "set_default has put it there, for all objects are JSON objects";
    object.get_mut(field).unwrap_or_else(|| unreachable!("{missing}"))
}

fn elements_mut<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The elements of a list, or nothing.
pub(crate) fn elements<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

/// The text at a path, or "".
pub(crate) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The port number at a path.
pub(crate) fn port(object: &Value, path: &str) -> Option<u16> {
    object.pointer(path)?.as_u64()?.try_into().ok().filter(|port| *port != 0)
}

/// A Service with an API server's defaults.
pub fn complete_service(service: &Value) -> Value {
    let mut service = service.clone();
    set_default(&mut service, "apiVersion", "v1".into());
    set_default(&mut service, "kind", "Service".into());
    set_default(member(&mut service, "metadata"), "namespace", "default".into());
    let spec = member(&mut service, "spec");
    set_default(spec, "type", "ClusterIP".into());
    set_default(spec, "sessionAffinity", "None".into());
    if let Some(first) = spec.get("clusterIP").cloned().filter(|first| !text(first, "").is_empty()) {
        set_default(spec, "clusterIPs", json!([first]));
    }
    if text(spec, "/type") == "ExternalName" {
        return service;
    }
    set_default(spec, "internalTrafficPolicy", "Cluster".into());
    if text(spec, "/sessionAffinity") == "ClientIP" {
        set_default(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
    }
    if matches!(text(spec, "/type"), "NodePort" | "LoadBalancer")
        || elements(spec, "/externalIPs").next().is_some()
    {
        set_default(spec, "externalTrafficPolicy", "Cluster".into());
    }
    for port in elements_mut(spec, "ports") {
        set_default(port, "protocol", "TCP".into());
        let number = port["port"].clone();
        set_default(port, "targetPort", number);
    }
    service
}

/// An EndpointSlice with an API server's defaults.
pub fn complete_slice(slice: &Value) -> Value {
    let mut slice = slice.clone();
    set_default(&mut slice, "apiVersion", "discovery.k8s.io/v1".into());
    set_default(&mut slice, "kind", "EndpointSlice".into());
    set_default(member(&mut slice, "metadata"), "namespace", "default".into());
    set_default(&mut slice, "endpoints", json!([]));
    set_default(&mut slice, "ports", json!([]));
    for port in elements_mut(&mut slice, "ports") {
        set_default(port, "name", "".into());
        set_default(port, "protocol", "TCP".into());
    }
    let first = text(&slice, "/endpoints/0/addresses/0");
    let family = if first.contains(':') { "IPv6" } else { "IPv4" };
    set_default(&mut slice, "addressType", family.into());
    slice
}

/// The Node object of a case.
pub(crate) fn node_object(node: &NodeSpec) -> Value {
    let own = [("kubernetes.io/hostname", node.name.as_str()), ("kubernetes.io/os", "linux")];
    let given = node.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let labels: Map<String, Value> =
        own.into_iter().chain(given).map(|(key, value)| (key.to_owned(), value.into())).collect();
    let mut spec = json!({});
    if let Some(first) = node.pod_cidrs.first() {
        spec = json!({"podCIDR": first, "podCIDRs": node.pod_cidrs});
    }
    let mut addresses: Vec<_> =
        node.ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
    addresses.push(json!({"type": "Hostname", "address": node.name}));
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels},
        "spec": spec,
        "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// The ServiceCIDR object of a case, if it has service CIDRs.
pub(crate) fn service_cidr_object(case: &Case) -> Option<Value> {
    let cidrs = &case.config.service_cidrs;
    (!cidrs.is_empty()).then(|| {
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": cidrs},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        })
    })
}

/// Reads an address as kube-proxy does: leading zeros, which old clients may
/// have left in, do not matter. `None` for host names.
pub(crate) fn sloppy_address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse().ok();
    }
    let parts: Vec<u8> = text.trim().split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    <[u8; 4]>::try_from(parts).ok().map(|bytes| Ipv4Addr::from(bytes).into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{complete_service, complete_slice, sloppy_address};

    #[test]
    fn leading_zeros_are_decimal() {
        assert_eq!(sloppy_address("010.1.0.008"), "10.1.0.8".parse().ok());
        assert_eq!(sloppy_address("example.org"), None);
    }

    #[test]
    fn defaults_are_filled_in_and_values_are_kept() {
        let service = complete_service(&json!({"metadata": {"name": "a"},
            "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "targetPort": 8080}]}}));
        assert_eq!(service["spec"]["clusterIPs"], json!(["10.0.0.1"]));
        assert_eq!(service["spec"]["externalTrafficPolicy"], "Cluster");
        assert_eq!(service["spec"]["ports"][0]["targetPort"], 8080);
        let slice =
            complete_slice(&json!({"metadata": {"name": "a"}, "endpoints": [{"addresses": ["fd00::1"]}]}));
        assert_eq!((&slice["addressType"], &slice["ports"]), (&json!("IPv6"), &json!([])));
    }
}
