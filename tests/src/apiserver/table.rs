//! Tables, the form in which `kubectl get` asks for objects to be printed.

use std::sync::Arc;

use http::header::ACCEPT;
use serde_json::{Value, json};

use super::resource::Resource;
use super::store::Stored;

/// Whether the client would rather have a table.
pub(super) fn is_wanted(headers: &http::HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("as=Table"))
}

/// Objects as a `Table`.
pub(super) fn of(resource: &Resource, items: &[Arc<Stored>], version: u64) -> String {
    let columns = ["Name"].iter().chain(columns_of(resource.kind)).chain(["Age"].iter());
    let definitions: Vec<Value> = columns
        .map(|name| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({"name": name, "type": "string", "format": format, "description": "", "priority": 0})
        })
        .collect();
    let rows: Vec<Value> = items.iter().map(|item| row(resource, &item.value)).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version.to_string()},
        "columnDefinitions": definitions, "rows": rows,
    })
    .to_string()
}

/// The columns between name and age.
fn columns_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "Service" => &["Type", "Cluster-IP", "External-IP", "Port(s)"],
        "EndpointSlice" => &["AddressType", "Ports", "Endpoints"],
        "Pod" => &["Ready", "Status", "IP", "Node", "Labels"],
        "Node" => &["Status", "Internal-IP", "Pod-CIDRs"],
        "ServiceCIDR" => &["CIDRs"],
        _ => &[],
    }
}

fn row(resource: &Resource, object: &Value) -> Value {
    let mut cells = vec![text(object, "/metadata/name").to_owned()];
    cells.extend(match resource.kind {
        "Service" => service_cells(object),
        "EndpointSlice" => slice_cells(object),
        "Pod" => pod_cells(object),
        "Node" => vec![
            if is_ready(object) { "Ready" } else { "NotReady" }.to_owned(),
            joined(object, "/status/addresses", |address| text(address, "/address").to_owned()),
            joined(object, "/spec/podCIDRs", plain),
        ],
        "ServiceCIDR" => vec![joined(object, "/spec/cidrs", plain)],
        _ => Vec::new(),
    });
    cells.push(age(text(object, "/metadata/creationTimestamp")));
    let metadata = object.get("metadata").cloned().unwrap_or_default();
    json!({
        "cells": cells,
        "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata},
    })
}

fn service_cells(service: &Value) -> Vec<String> {
    let balanced = joined(service, "/status/loadBalancer/ingress", |entry| text(entry, "/ip").to_owned());
    let external = match text(service, "/spec/type") {
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        "LoadBalancer" if balanced == NONE => "<pending>".to_owned(),
        "LoadBalancer" => balanced,
        _ => joined(service, "/spec/externalIPs", plain),
    };
    let ports = joined(service, "/spec/ports", |port| {
        let node_port = port.get("nodePort").map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{node_port}/{}", port.get("port").cloned().unwrap_or_default(), text(port, "/protocol"))
    });
    vec![text(service, "/spec/type").to_owned(), joined(service, "/spec/clusterIPs", plain), external, ports]
}

fn slice_cells(slice: &Value) -> Vec<String> {
    let ports = joined(slice, "/ports", |port| port.get("port").map(Value::to_string).unwrap_or_default());
    let endpoints = joined(slice, "/endpoints", |endpoint| {
        let ready = endpoint.pointer("/conditions/ready") != Some(&json!(false));
        format!("{}{}", text(endpoint, "/addresses/0"), if ready { "" } else { " (not ready)" })
    });
    vec![text(slice, "/addressType").to_owned(), ports, endpoints]
}

fn pod_cells(pod: &Value) -> Vec<String> {
    let labels = pod.pointer("/metadata/labels").and_then(Value::as_object);
    let labels: Vec<String> =
        labels.into_iter().flatten().map(|(key, value)| format!("{key}={}", plain(value))).collect();
    vec![
        if is_ready(pod) { "1/1" } else { "0/1" }.to_owned(),
        text(pod, "/status/phase").to_owned(),
        text(pod, "/status/podIP").to_owned(),
        text(pod, "/spec/nodeName").to_owned(),
        labels.join(","),
    ]
}

/// What kubectl writes where there is nothing.
const NONE: &str = "<none>";

fn joined(object: &Value, path: &str, word: impl Fn(&Value) -> String) -> String {
    let values = object.pointer(path).and_then(Value::as_array);
    let words: Vec<String> = values.into_iter().flatten().map(word).collect();
    if words.is_empty() { NONE.to_owned() } else { words.join(",") }
}

fn plain(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or("")
}

fn is_ready(object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| text(condition, "/type") == "Ready" && text(condition, "/status") == "True")
}

/// `95s`, `12m`, `30h`, `3d`, as kubectl writes it.
fn age(created: &str) -> String {
    let Ok(created) = created.parse::<jiff::Timestamp>() else { return "<unknown>".to_owned() };
    let seconds = (jiff::Timestamp::now().as_second() - created.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
