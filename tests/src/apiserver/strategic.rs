//! Strategic merge patches, as `kubectl apply`, `edit`, `label` and `patch` send them.

use serde_json::{Map, Value};

use super::lists::{ListKind, kind_of, same};

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// Applies a patch to an object of `kind`.
pub(super) fn merge(kind: &str, target: &mut Value, change: &Value) {
    merge_value(kind, &mut Vec::new(), target, change);
}

fn merge_value(kind: &str, path: &mut Vec<String>, target: &mut Value, change: &Value) {
    match change {
        Value::Object(change) => merge_object(kind, path, target, change),
        Value::Array(change) => merge_list(kind, path, target, change),
        other => *target = other.clone(),
    }
}

fn merge_object(kind: &str, path: &mut Vec<String>, target: &mut Value, change: &Map<String, Value>) {
    if !target.is_object() || change.get(DIRECTIVE).and_then(Value::as_str) == Some("replace") {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    if let Some(Value::Array(retained)) = change.get(RETAIN) {
        target.retain(|key, _| retained.iter().any(|name| name.as_str() == Some(key)));
    }
    for (key, value) in change.iter().filter(|(key, _)| !key.starts_with('$')) {
        if value.is_null() {
            target.remove(key);
            continue;
        }
        path.push(key.clone());
        merge_value(kind, path, target.entry(key.clone()).or_insert(Value::Null), value);
        path.pop();
    }
    for (directive, values) in change {
        let Value::Array(values) = values else { continue };
        if let Some(list) = list_named(target, directive, DELETE_PRIMITIVES) {
            list.retain(|value| !values.contains(value));
        }
        if let Some(name) = directive.strip_prefix(ORDER) {
            path.push(name.to_owned());
            let kind = kind_of(kind, path);
            path.pop();
            if let Some(list) = list_named(target, directive, ORDER) {
                order(list, values, kind);
            }
        }
    }
}

fn list_named<'a>(
    target: &'a mut Map<String, Value>,
    directive: &str,
    prefix: &str,
) -> Option<&'a mut Vec<Value>> {
    target.get_mut(directive.strip_prefix(prefix)?)?.as_array_mut()
}

/// Sorts a list as `wanted` says; elements that it does not name stay behind.
fn order(list: &mut [Value], wanted: &[Value], kind: ListKind) {
    let place = |element: &Value| {
        let found = match kind {
            ListKind::Map(keys) => wanted.iter().position(|other| same(element, other, first(keys))),
            ListKind::Set | ListKind::Atomic => wanted.iter().position(|other| other == element),
        };
        found.unwrap_or(usize::MAX)
    };
    list.sort_by_key(place);
}

fn first<'a>(keys: &'a [&'static str]) -> &'a [&'static str] {
    keys.get(..1).unwrap_or(keys)
}

fn merge_list(kind: &str, path: &mut Vec<String>, target: &mut Value, change: &[Value]) {
    let list_kind = kind_of(kind, path);
    let replaces = change.iter().any(|element| directive(element) == Some("replace"));
    if list_kind == ListKind::Atomic || replaces || !target.is_array() {
        let kept = change.iter().filter(|element| directive(element).is_none());
        *target = Value::Array(kept.cloned().collect());
        return;
    }
    let Value::Array(target) = target else { return };
    for element in change {
        match list_kind {
            ListKind::Map(keys) => merge_element(kind, path, target, element, first(keys)),
            ListKind::Set | ListKind::Atomic if target.contains(element) => {}
            ListKind::Set | ListKind::Atomic => target.push(element.clone()),
        }
    }
}

fn directive(element: &Value) -> Option<&str> {
    element.get(DIRECTIVE)?.as_str()
}

fn merge_element(
    kind: &str,
    path: &mut Vec<String>,
    target: &mut Vec<Value>,
    element: &Value,
    keys: &[&str],
) {
    if directive(element) == Some("delete") {
        target.retain(|old| !same(old, element, keys));
        return;
    }
    match target.iter_mut().find(|old| same(old, element, keys)) {
        Some(old) => merge_value(kind, path, old, element),
        None => target.push(element.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    fn merged(mut target: Value, change: &Value) -> Value {
        super::merge("Service", &mut target, change);
        target
    }

    #[test]
    fn ports_are_merged_by_number_ordered_and_deleted() {
        let service = json!({"spec": {"ports": [{"port": 80, "nodePort": 30000}, {"port": 81}]}});
        let change = json!({"spec": {
            "$setElementOrder/ports": [{"port": 443}, {"port": 80}],
            "ports": [{"port": 80, "targetPort": 8080}, {"port": 443}, {"$patch": "delete", "port": 81}],
        }});
        let ports = json!([{"port": 443}, {"port": 80, "nodePort": 30000, "targetPort": 8080}]);
        assert_eq!(merged(service, &change), json!({"spec": {"ports": ports}}));
    }

    #[test]
    fn other_lists_are_replaced_and_nulls_remove() {
        let service = json!({"spec": {"externalIPs": ["192.0.2.1"], "type": "NodePort"}});
        let change = json!({"spec": {"externalIPs": ["192.0.2.2"], "type": null}});
        assert_eq!(merged(service, &change), json!({"spec": {"externalIPs": ["192.0.2.2"]}}));
    }

    #[test]
    fn sets_gain_and_lose_values() {
        let service = json!({"metadata": {"finalizers": ["a", "b"]}});
        let change = json!({"metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c", "b"],
        }});
        assert_eq!(merged(service, &change), json!({"metadata": {"finalizers": ["b", "c"]}}));
    }

    #[test]
    fn replace_and_retain_keys_drop_the_rest() {
        let spec = json!({"spec": {"selector": {"a": "1", "b": "2"}, "type": "NodePort"}});
        let replace = json!({"spec": {"selector": {"$patch": "replace", "c": "3"}}});
        assert_eq!(
            merged(spec.clone(), &replace),
            json!({"spec": {"selector": {"c": "3"}, "type": "NodePort"}})
        );
        let retain = json!({"spec": {"$retainKeys": ["type"], "type": "ClusterIP"}});
        assert_eq!(merged(spec, &retain), json!({"spec": {"type": "ClusterIP"}}));
    }
}
