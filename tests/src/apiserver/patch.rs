//! The kinds of patches, and the plain one.

use serde_json::Value;

use super::{apply, strategic};

/// A change to an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// How it is to be read.
    pub kind: PatchKind,
    /// What changes.
    pub change: Value,
    /// Change nothing but `status`.
    pub status_only: bool,
    /// Refuse a result with fields that the API does not have.
    pub strict: bool,
}

impl Patch {
    /// The object after the change; `previous` is what the same manager applied before.
    pub(super) fn applied_to(&self, kind: &str, old: &Value, previous: Option<&Value>) -> Value {
        let mut object = old.clone();
        match self.kind {
            PatchKind::Merge => merge(&mut object, &self.change),
            PatchKind::Strategic => strategic::merge(kind, &mut object, &self.change),
            PatchKind::Apply(_) => apply::apply(kind, &mut object, &self.change, previous),
        }
        object
    }
}

/// How a patch changes an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// JSON merge patch, RFC 7396: lists are replaced whole.
    Merge,
    /// Strategic merge patch: lists are merged by what tells their elements apart.
    Strategic,
    /// Server-side apply by this manager; creates what is not there.
    Apply(String),
}

impl PatchKind {
    /// The kind that a request with this `Content-Type` and `fieldManager` asks for.
    pub(super) fn of_request(content_type: &str, manager: Option<&str>) -> Option<Self> {
        match content_type.split(';').next().unwrap_or("").trim() {
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" => Some(Self::Apply(manager.unwrap_or("").to_owned())),
            _ => None,
        }
    }
}

/// JSON merge patch, RFC 7396.
fn merge(target: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in change {
            if value.is_null() {
                target.remove(key);
            } else {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn null_removes_and_objects_merge() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "d": [1, 2]});
        super::merge(&mut object, &json!({"a": {"b": null, "e": 3}, "d": [4]}));
        assert_eq!(object, json!({"a": {"c": 2, "e": 3}, "d": [4]}));
    }
}
