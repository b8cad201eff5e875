//! What an API server adds to objects before anyone reads them.

use serde_json::{Value, json};

use super::resource::Resource;

fn meta<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let metadata = object.as_object_mut()?.entry("metadata").or_insert_with(|| json!({}));
    Some(metadata.as_object_mut()?.entry(key).or_insert(Value::Null))
}

fn set_meta(object: &mut Value, key: &str, value: Value) {
    if let Some(slot) = meta(object, key) {
        *slot = value;
    }
}

/// Replaces `generateName` by a name.
pub(super) fn name_generated(object: &mut Value) {
    let named = object.pointer("/metadata/name").is_some();
    if let Some(prefix) = object.pointer("/metadata/generateName").and_then(Value::as_str)
        && !named
    {
        let name = format!("{prefix}{:08x}", rand::random::<u32>());
        set_meta(object, "name", Value::String(name));
    }
}

/// `uid` and `creationTimestamp` of a new object.
pub(super) fn created(object: &mut Value, version: u64) {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let uid = format!("00000000-0000-4000-8000-{version:012x}");
    for (key, value) in [("uid", Value::String(uid)), ("creationTimestamp", Value::String(now))] {
        if let Some(slot) = meta(object, key)
            && slot.is_null()
        {
            *slot = value;
        }
    }
}

/// Sets `metadata.resourceVersion`.
pub(super) fn set_version(object: &mut Value, version: u64) {
    set_meta(object, "resourceVersion", Value::String(version.to_string()));
}

/// Gives `object` the `metadata.resourceVersion` of another.
pub(super) fn copy_version(other: &Value, object: &mut Value) {
    let version = other.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
    set_meta(object, "resourceVersion", version);
}

/// What a replaced object keeps of the old one: identity, and either its status or everything but its status.
pub(super) fn carried_over(old: &Value, new: Value, status_only: bool) -> Value {
    if status_only {
        let mut object = old.clone();
        if let (Some(target), Some(status)) = (object.as_object_mut(), new.get("status")) {
            target.insert("status".to_owned(), status.clone());
        }
        return object;
    }
    let mut object = new;
    for key in ["uid", "creationTimestamp"] {
        if let Some(value) = old.pointer(&format!("/metadata/{key}")) {
            set_meta(&mut object, key, value.clone());
        }
    }
    for field in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
        let carried = old.pointer(&format!("/spec/{field}"));
        let external_name = object.pointer("/spec/type").and_then(Value::as_str) == Some("ExternalName");
        if let (Some(value), Some(Value::Object(spec)), false) =
            (carried, object.get_mut("spec"), external_name)
        {
            spec.entry(field).or_insert_with(|| value.clone());
        }
    }
    drop_former_node_ports(old, &mut object);
    if let (Some(status), Some(target)) = (old.get("status"), object.as_object_mut()) {
        target.entry("status").or_insert_with(|| status.clone());
    }
    object
}

/// A Service that becomes a plain ClusterIP gives up the node ports it had; ones that the writer put there stay.
fn drop_former_node_ports(old: &Value, object: &mut Value) {
    let kind = |object: &Value| {
        object.pointer("/spec/type").and_then(Value::as_str).unwrap_or("ClusterIP").to_owned()
    };
    if kind(old) == "ClusterIP" || kind(object) != "ClusterIP" {
        return;
    }
    let former = old.pointer("/spec/ports").and_then(Value::as_array);
    let former: Vec<&Value> = former.into_iter().flatten().filter_map(|port| port.get("nodePort")).collect();
    let ports = object.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        if port.get("nodePort").is_some_and(|number| former.contains(&number)) {
            port.remove("nodePort");
        }
    }
}

/// Kind-specific defaults.
pub(super) fn fill_in(resource: &Resource, object: &mut Value) {
    if let Some(target) = object.as_object_mut() {
        target.insert("apiVersion".to_owned(), Value::String(resource.api_version()));
        target.insert("kind".to_owned(), Value::String(resource.kind.to_owned()));
    }
    if resource.namespaced
        && let Some(slot) = meta(object, "namespace")
        && slot.is_null()
    {
        *slot = json!("default");
    }
    match resource.kind {
        "Service" => fill_in_service(object),
        "EndpointSlice" => fill_in_slice(object),
        _ => {}
    }
}

fn default(spec: &mut Value, key: &str, value: Value) {
    if let Some(spec) = spec.as_object_mut() {
        let slot = spec.entry(key).or_insert(Value::Null);
        if slot.is_null() {
            *slot = value;
        }
    }
}

fn fill_in_service(object: &mut Value) {
    default(object, "spec", json!({}));
    default(object, "status", json!({"loadBalancer": {}}));
    let Some(spec) = object.get_mut("spec") else { return };
    default(spec, "type", json!("ClusterIP"));
    default(spec, "sessionAffinity", json!("None"));
    default_ports(spec.get_mut("ports"));
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or("").to_owned();
    if kind == "ExternalName" {
        return;
    }
    default(spec, "internalTrafficPolicy", json!("Cluster"));
    if spec.get("sessionAffinity").and_then(Value::as_str) == Some("ClientIP") {
        default(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
    }
    if kind == "NodePort" || kind == "LoadBalancer" || spec.get("externalIPs").is_some() {
        default(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", json!(true));
        let ingress = object.pointer_mut("/status/loadBalancer/ingress").and_then(Value::as_array_mut);
        for entry in ingress.into_iter().flatten().filter(|entry| entry.get("ip").is_some()) {
            default(entry, "ipMode", json!("VIP"));
        }
    }
}

fn default_ports(ports: Option<&mut Value>) {
    for port in ports.and_then(Value::as_array_mut).into_iter().flatten() {
        default(port, "protocol", json!("TCP"));
        if let Some(number) = port.get("port").cloned() {
            default(port, "targetPort", number);
        }
    }
}

fn fill_in_slice(object: &mut Value) {
    default(object, "endpoints", json!([]));
    default(object, "ports", json!([]));
    for port in object.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        default(port, "name", json!(""));
        default(port, "protocol", json!("TCP"));
    }
}
