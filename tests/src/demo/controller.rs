//! What kube-controller-manager and a cloud would do: EndpointSlices for Services with a selector, addresses for load
//! balancers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::apiserver::{Patch, PatchKind, Resource, Store, StoreError};

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// First three groups of load balancer addresses.
const LOAD_BALANCER_PREFIX: &str = "203.0.113";

/// Follows the objects for ever; `done` gets the version of the store that was acted on last.
pub(super) async fn run(store: Store, done: watch::Sender<u64>) {
    let mut newest = store.subscribe();
    loop {
        let version = *newest.borrow_and_update();
        if let Err(error) = reconcile(&store) {
            tracing::warn!(%error, "endpoint controller");
        }
        done.send_replace(version);
        if newest.changed().await.is_err() {
            return;
        }
    }
}

/// Compares all Services with what there is, and writes the difference.
fn reconcile(store: &Store) -> Result<(), StoreError> {
    let services = list(store, "", "services")?;
    let pods = list(store, "", "pods")?;
    let slices: Vec<Value> = list(store, "discovery.k8s.io", "endpointslices")?
        .into_iter()
        .filter(|slice| label(slice, MANAGED_BY) == Some(MANAGER))
        .collect();
    let mut wanted = BTreeMap::new();
    for service in &services {
        for slice in slices_for(service, &pods) {
            wanted.insert(identity(&slice), slice);
        }
        assign_load_balancer_address(store, service, &services)?;
    }
    let present: BTreeMap<_, _> = slices.iter().map(|slice| (identity(slice), slice)).collect();
    for (identity, slice) in &wanted {
        if present.get(identity).is_none_or(|old| differs(old, slice)) {
            store.put(slice.clone())?;
        }
    }
    for (namespace, name) in present.into_keys().filter(|identity| !wanted.contains_key(identity)) {
        if let Some(resource) = Resource::find("discovery.k8s.io", "v1", "endpointslices") {
            store.delete(resource, &(namespace, name))?;
        }
    }
    Ok(())
}

fn list(store: &Store, group: &str, plural: &str) -> Result<Vec<Value>, StoreError> {
    let Some(resource) = Resource::find(group, "v1", plural) else { return Ok(Vec::new()) };
    let page = store.list(resource, None, |_| true, 0, None)?;
    Ok(page.items.iter().map(|item| item.value.clone()).collect())
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or("")
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}

fn identity(object: &Value) -> (String, String) {
    (text(object, "/metadata/namespace").to_owned(), text(object, "/metadata/name").to_owned())
}

fn differs(old: &Value, new: &Value) -> bool {
    ["/endpoints", "/ports", "/metadata/labels"].iter().any(|path| old.pointer(path) != new.pointer(path))
}

/// The slices of one Service: one per IP version, and per set of port numbers where named ports differ among pods.
fn slices_for(service: &Value, pods: &[Value]) -> Vec<Value> {
    let Some(selector) = service.pointer("/spec/selector").and_then(Value::as_object) else {
        return Vec::new();
    };
    if selector.is_empty() || text(service, "/spec/type") == "ExternalName" {
        return Vec::new();
    }
    let mut groups: BTreeMap<(String, String), (Value, Vec<Value>)> = BTreeMap::new();
    let chosen = pods.iter().filter(|pod| {
        text(pod, "/metadata/namespace") == text(service, "/metadata/namespace")
            && selector.iter().all(|(key, value)| label(pod, key) == value.as_str())
    });
    for pod in chosen {
        let ports = ports_for(service, pod);
        for family in families(service) {
            if let Some(endpoint) = endpoint(pod, &family) {
                let key = (family, ports.to_string());
                groups.entry(key).or_insert_with(|| (ports.clone(), Vec::new())).1.push(endpoint);
            }
        }
    }
    let mut slices = Vec::new();
    for (number, ((family, _), (ports, endpoints))) in groups.into_iter().enumerate() {
        slices.push(slice(service, &family, number, &ports, &endpoints));
    }
    slices
}

fn slice(service: &Value, family: &str, number: usize, ports: &Value, endpoints: &[Value]) -> Value {
    let (namespace, name) = identity(service);
    let mut labels = json!({"kubernetes.io/service-name": name, MANAGED_BY: MANAGER});
    if text(service, "/spec/clusterIP") == "None"
        && let Some(labels) = labels.as_object_mut()
    {
        labels.insert("service.kubernetes.io/headless".to_owned(), json!(""));
    }
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": format!("{name}-{number}"), "labels": labels},
        "addressType": family, "ports": ports, "endpoints": endpoints,
    })
}

fn families(service: &Value) -> Vec<String> {
    let listed = service.pointer("/spec/ipFamilies").and_then(Value::as_array);
    let listed: Vec<String> =
        listed.into_iter().flatten().filter_map(|family| Some(family.as_str()?.to_owned())).collect();
    if listed.is_empty() { vec!["IPv4".to_owned()] } else { listed }
}

fn ports_for(service: &Value, pod: &Value) -> Value {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let resolve = |port: &Value| {
        let target = port.get("targetPort").filter(|target| !target.is_null()).or_else(|| port.get("port"));
        let number = match target? {
            Value::String(name) => named_port(pod, name)?,
            number => number.clone(),
        };
        Some(json!({"name": text(port, "/name"), "protocol": text(port, "/protocol"), "port": number}))
    };
    ports.into_iter().flatten().filter_map(resolve).collect()
}

fn named_port(pod: &Value, name: &str) -> Option<Value> {
    let containers = pod.pointer("/spec/containers")?.as_array()?;
    let mut ports = containers.iter().filter_map(|container| container.get("ports")?.as_array()).flatten();
    ports.find(|port| text(port, "/name") == name)?.get("containerPort").cloned()
}

fn endpoint(pod: &Value, family: &str) -> Option<Value> {
    let wants_v6 = family == "IPv6";
    let addresses = pod.pointer("/status/podIPs")?.as_array()?;
    let address =
        addresses.iter().map(|item| text(item, "/ip")).find(|address| address.contains(':') == wants_v6)?;
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let serving = conditions
        .into_iter()
        .flatten()
        .any(|condition| text(condition, "/type") == "Ready" && text(condition, "/status") == "True");
    let terminating = pod.pointer("/metadata/deletionTimestamp").is_some();
    Some(json!({
        "addresses": [address],
        "conditions": {"ready": serving && !terminating, "serving": serving, "terminating": terminating},
        "nodeName": text(pod, "/spec/nodeName"),
        "targetRef": {"kind": "Pod", "namespace": text(pod, "/metadata/namespace"), "name": text(pod, "/metadata/name")},
    }))
}

/// Gives a load balancer without an address the next free one.
fn assign_load_balancer_address(store: &Store, service: &Value, all: &[Value]) -> Result<(), StoreError> {
    let ingress = |service: &Value| text(service, "/status/loadBalancer/ingress/0/ip").to_owned();
    if text(service, "/spec/type") != "LoadBalancer" || !ingress(service).is_empty() {
        return Ok(());
    }
    let used: BTreeSet<String> = all.iter().map(ingress).collect();
    let wanted = text(service, "/spec/loadBalancerIP").to_owned();
    let mut free = (10..=250).map(|number| format!("{LOAD_BALANCER_PREFIX}.{number}"));
    let address = if wanted.is_empty() { free.find(|address| !used.contains(address)) } else { Some(wanted) };
    let (Some(address), Some(resource)) = (address, Resource::find("", "v1", "services")) else {
        return Ok(());
    };
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}});
    let patch = Patch { kind: PatchKind::Merge, change: status, status_only: true, strict: false };
    store.patch(resource, &identity(service), &patch)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{reconcile, slices_for};
    use crate::apiserver::{Resource, Store};

    fn pod(name: &str, port: u16, ready: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "default", "name": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "node-a", "containers": [{"ports": [{"name": "http", "containerPort": port}]}]},
            "status": {
                "podIPs": [{"ip": "10.244.1.11"}, {"ip": "fd00::11"}],
                "conditions": [{"type": "Ready", "status": ready}],
            },
        })
    }

    fn service(app: &str, families: &Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": "web"},
            "spec": {
                "selector": {"app": app}, "ipFamilies": families,
                "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}],
            },
        })
    }

    #[test]
    fn each_ip_version_and_each_set_of_ports_has_a_slice() {
        let pods = [pod("a", 8080, "True"), pod("b", 8080, "False"), pod("c", 9090, "True")];
        let slices = slices_for(&service("web", &json!(["IPv4", "IPv6"])), &pods);
        let shape = |slice: &Value| {
            (
                slice["addressType"].clone(),
                slice["ports"][0]["port"].clone(),
                slice["endpoints"].as_array().map(Vec::len),
            )
        };
        let shapes: Vec<_> = slices.iter().map(shape).collect();
        let row = |family: &str, port: u16, count| (json!(family), json!(port), Some(count));
        assert_eq!(
            shapes,
            [row("IPv4", 8080, 2), row("IPv4", 9090, 1), row("IPv6", 8080, 2), row("IPv6", 9090, 1)]
        );
        assert_eq!(slices[0]["endpoints"][1]["conditions"]["ready"], json!(false));
    }

    #[test]
    fn slices_come_and_go_with_the_selector() {
        let (store, slices) = (
            Store::default(),
            Resource::find("discovery.k8s.io", "v1", "endpointslices").expect("is served"),
        );
        let count = || store.list(slices, None, |_| true, 0, None).expect("lists").items.len();
        store.put(pod("a", 8080, "True")).expect("is stored");
        store.put(service("web", &json!(["IPv4"]))).expect("is stored");
        reconcile(&store).expect("works");
        assert_eq!(count(), 1);
        let version = store.current_version();
        reconcile(&store).expect("works");
        assert_eq!(store.current_version(), version, "what is right is left alone");
        store.put(service("nobody", &json!(["IPv4"]))).expect("is stored");
        reconcile(&store).expect("works");
        assert_eq!(count(), 0);
    }

    #[test]
    fn load_balancers_get_an_address_each() {
        let store = Store::default();
        for name in ["one", "two"] {
            let spec = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
            let object = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": name}, "spec": spec,
            });
            store.put(object).expect("is stored");
            reconcile(&store).expect("works");
        }
        let resource = Resource::find("", "v1", "services").expect("is served");
        let page = store.list(resource, None, |_| true, 0, None).expect("lists");
        let addresses: Vec<&str> = page
            .items
            .iter()
            .map(|item| super::text(&item.value, "/status/loadBalancer/ingress/0/ip"))
            .collect();
        assert_eq!(addresses, ["203.0.113.10", "203.0.113.11"]);
    }
}
