//! Which lists of objects are merged element by element, and by which fields elements are told apart.

use serde_json::Value;

/// How the elements of a merged list are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListKind {
    /// Replaced whole.
    Atomic,
    /// Plain values: a set.
    Set,
    /// Objects, by these fields. The first alone is the key of strategic merge patches, all together that of
    /// server-side apply.
    Map(&'static [&'static str]),
}

/// The kind of the list at `path` (field names, indices left out) of a resource of `kind`.
pub(super) fn kind_of(kind: &str, path: &[String]) -> ListKind {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (kind, path.as_slice()) {
        ("Service", ["spec", "ports"]) => ListKind::Map(&["port", "protocol"]),
        (_, ["metadata", "ownerReferences"]) => ListKind::Map(&["uid"]),
        (_, ["metadata", "finalizers"]) | ("Node", ["spec", "podCIDRs"]) => ListKind::Set,
        (_, ["status", "conditions"]) | ("Node", ["status", "addresses"]) => ListKind::Map(&["type"]),
        ("Pod", ["status", "podIPs"]) => ListKind::Map(&["ip"]),
        ("Pod", ["spec", "containers" | "initContainers" | "volumes"] | ["spec", "containers", "env"]) => {
            ListKind::Map(&["name"])
        }
        ("Pod", ["spec", "containers", "ports"]) => ListKind::Map(&["containerPort", "protocol"]),
        ("Node", ["spec", "taints"]) => ListKind::Map(&["key", "effect"]),
        _ => ListKind::Atomic,
    }
}

/// Whether two elements of a list are the same element.
pub(super) fn same(one: &Value, other: &Value, keys: &[&str]) -> bool {
    keys.iter().all(|key| key_value(one, key) == key_value(other, key))
}

/// The protocol may be left out, and then is TCP.
fn key_value<'a>(element: &'a Value, key: &str) -> Option<&'a Value> {
    static TCP: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| Value::String("TCP".to_owned()));
    element.get(key).or_else(|| (key == "protocol").then_some(&*TCP))
}
