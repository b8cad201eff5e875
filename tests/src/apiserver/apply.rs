//! Server-side apply: an object gets what its manager says, and loses what the manager said before and no longer says.
//!
//! Managers are not checked against each other: every apply is a forced one.

use serde_json::{Map, Value};

use super::lists::{ListKind, kind_of, same};

/// Applies `config` to an object of `kind`; `previous` is what the same manager applied before.
pub(super) fn apply(kind: &str, target: &mut Value, config: &Value, previous: Option<&Value>) {
    let mut path = Vec::new();
    if let Some(previous) = previous {
        remove(kind, &mut path, target, previous, config);
    }
    merge(kind, &mut path, target, config);
}

/// Removes from `target` what is in `previous` and not in `config`.
fn remove(kind: &str, path: &mut Vec<String>, target: &mut Value, previous: &Value, config: &Value) {
    match (target, previous, config) {
        (Value::Object(target), Value::Object(previous), Value::Object(config)) => {
            for (key, before) in previous {
                path.push(key.clone());
                match (target.get_mut(key), config.get(key)) {
                    (Some(current), Some(now)) => remove(kind, path, current, before, now),
                    (Some(current), None) if before.is_object() => {
                        remove(kind, path, current, before, &Value::Object(Map::new()));
                        if current.as_object().is_some_and(Map::is_empty) {
                            target.remove(key);
                        }
                    }
                    (Some(_), None) => drop(target.remove(key)),
                    (None, _) => {}
                }
                path.pop();
            }
        }
        (Value::Array(target), Value::Array(previous), Value::Array(config)) => {
            remove_elements(kind, path, target, previous, config);
        }
        _ => {}
    }
}

fn remove_elements(
    kind: &str,
    path: &mut Vec<String>,
    target: &mut Vec<Value>,
    previous: &[Value],
    config: &[Value],
) {
    let keys = match kind_of(kind, path) {
        ListKind::Map(keys) => keys,
        ListKind::Set => {
            target.retain(|value| config.contains(value) || !previous.contains(value));
            return;
        }
        ListKind::Atomic => return,
    };
    let find =
        |list: &[Value], element: &Value| list.iter().find(|other| same(other, element, keys)).cloned();
    target.retain(|element| find(config, element).is_some() || find(previous, element).is_none());
    for element in target {
        if let (Some(before), Some(now)) = (find(previous, element), find(config, element)) {
            remove(kind, path, element, &before, &now);
        }
    }
}

fn merge(kind: &str, path: &mut Vec<String>, target: &mut Value, config: &Value) {
    match config {
        Value::Object(config) => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            let Value::Object(target) = target else { return };
            for (key, value) in config {
                path.push(key.clone());
                merge(kind, path, target.entry(key.clone()).or_insert(Value::Null), value);
                path.pop();
            }
        }
        Value::Array(config) => merge_list(kind, path, target, config),
        other => *target = other.clone(),
    }
}

/// Elements come in the order of `config`, those of others behind them.
fn merge_list(kind: &str, path: &mut Vec<String>, target: &mut Value, config: &[Value]) {
    let old = match (kind_of(kind, path), target.as_array()) {
        (ListKind::Atomic, _) | (_, None) => {
            *target = Value::Array(config.to_vec());
            return;
        }
        (_, Some(old)) => old.clone(),
    };
    let keys = match kind_of(kind, path) {
        ListKind::Map(keys) => keys,
        ListKind::Set | ListKind::Atomic => &[],
    };
    let is_same =
        |one: &Value, other: &Value| if keys.is_empty() { one == other } else { same(one, other, keys) };
    let mut list = Vec::with_capacity(config.len());
    for element in config {
        let mut merged = old.iter().find(|old| is_same(old, element)).cloned().unwrap_or(Value::Null);
        merge(kind, path, &mut merged, element);
        list.push(merged);
    }
    list.extend(old.into_iter().filter(|old| !config.iter().any(|element| is_same(old, element))));
    *target = Value::Array(list);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    fn applied(mut target: Value, config: &Value, previous: &Value) -> Value {
        super::apply("Service", &mut target, config, Some(previous));
        target
    }

    #[test]
    fn what_is_no_longer_said_goes_and_what_others_said_stays() {
        let target =
            json!({"metadata": {"labels": {"mine": "1", "theirs": "2"}}, "spec": {"type": "NodePort"}});
        let previous = json!({"metadata": {"labels": {"mine": "1"}}, "spec": {"type": "NodePort"}});
        let config = json!({"spec": {}});
        assert_eq!(
            applied(target, &config, &previous),
            json!({"metadata": {"labels": {"theirs": "2"}}, "spec": {}})
        );
    }

    #[test]
    fn ports_are_told_apart_by_number_and_protocol() {
        let target = json!({"spec": {"ports": [
            {"port": 53, "protocol": "TCP", "nodePort": 30000}, {"port": 53, "protocol": "UDP"},
            {"port": 80, "protocol": "TCP"},
        ]}});
        let previous = json!({"spec": {"ports": [{"port": 53}, {"port": 80}]}});
        let config = json!({"spec": {"ports": [{"port": 53, "targetPort": 5353}]}});
        let wanted = json!({"spec": {"ports": [
            {"port": 53, "protocol": "TCP", "nodePort": 30000, "targetPort": 5353}, {"port": 53, "protocol": "UDP"},
        ]}});
        assert_eq!(applied(target, &config, &previous), wanted);
    }
}
