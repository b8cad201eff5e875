//! Merge patches.

use serde_json::Value;

/// JSON merge patch, RFC 7396. Strategic merge patches and server-side apply are served with it too: lists are replaced
/// whole, which is what their users in tests send.
pub(super) fn merge(target: &mut Value, change: &Value) {
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
