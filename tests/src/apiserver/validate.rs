//! Strict field validation: fields that the API does not have.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::store::StoreError;

/// Fails where an object of `kind` has fields that are unknown or of a wrong type. Kinds that nobody writes by hand
/// are not looked at.
pub(super) fn strictly(kind: &str, object: &Value) -> Result<(), StoreError> {
    match kind {
        "Service" => check::<Service>(object),
        "EndpointSlice" => check::<EndpointSlice>(object),
        "Pod" => check::<Pod>(object),
        "Node" => check::<Node>(object),
        "Namespace" => check::<Namespace>(object),
        "ConfigMap" => check::<ConfigMap>(object),
        "ServiceCIDR" => check::<ServiceCIDR>(object),
        _ => Ok(()),
    }
}

fn check<T: DeserializeOwned + Serialize>(object: &Value) -> Result<(), StoreError> {
    let known = serde_json::from_value::<T>(object.clone()).and_then(serde_json::to_value);
    let known = known.map_err(|error| StoreError::BadRequest(format!("strict decoding error: {error}")))?;
    let mut unknown = Vec::new();
    collect_unknown(object, &known, "", &mut unknown);
    if unknown.is_empty() {
        return Ok(());
    }
    unknown.sort_unstable();
    Err(StoreError::BadRequest(format!("strict decoding error: {}", unknown.join(", "))))
}

/// What the types of the API do not know does not come back from them.
fn collect_unknown(given: &Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (key, value) in given.iter().filter(|(_, value)| !value.is_null()) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match known.get(key) {
                    Some(known) => collect_unknown(value, known, &path, unknown),
                    None => unknown.push(format!("unknown field {path:?}")),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (index, (given, known)) in given.iter().zip(known).enumerate() {
                collect_unknown(given, known, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn unknown_fields_are_named_with_their_path() {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "creationTimestamp": null},
            "spec": {"selektor": {}, "ports": [{"port": 80, "targetPort": "http", "nodport": 1}]},
        });
        let error = super::strictly("Service", &service).expect_err("is refused").to_string();
        assert_eq!(
            error,
            "strict decoding error: unknown field \"spec.ports[0].nodport\", unknown field \"spec.selektor\""
        );
    }

    #[test]
    fn wrong_types_are_refused() {
        let service = json!({"spec": {"ports": [{"port": "eighty"}]}});
        assert!(super::strictly("Service", &service).is_err());
    }
}
