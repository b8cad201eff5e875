//! v1 Pod -> [`OptedOutPod`].

use super::{Converted, Problems, namespace};
use crate::domain::{ObjectKind, OptedOutPod};
use crate::watch::wire::{Meta, Pairs};

/// `disabled` leaves the pod's sockets alone, `enabled` balances them also where a mesh would have them left alone.
const ANNOTATION: &str = "shunt.dev/socket-lb";
/// Marks of pods whose traffic a service mesh takes from the wire: it wants to see the frontend's address there.
const MESHES: [(&str, &str); 3] = [
    ("sidecar.istio.io/status", ""),
    ("ambient.istio.io/redirection", "enabled"),
    ("linkerd.io/proxy-version", ""),
];
/// Static pods: their cgroups are not named after the uid that the API knows.
const STATIC_POD: &str = "kubernetes.io/config.hash";

/// Whether a pod asks for its sockets to be left alone; all that is needed are its metadata.
pub fn pod(meta: &Meta<'_>) -> Converted<Option<OptedOutPod>> {
    let mut problems = Problems::of(ObjectKind::Pod, meta);
    let wants = match meta.annotations.get(ANNOTATION) {
        Some("disabled") => true,
        Some("enabled") => false,
        None => is_meshed(&meta.annotations),
        Some(other) => {
            let field = format!("metadata.annotations[{ANNOTATION}]");
            problems.report(field, format!("{other:?} is not \"disabled\" or \"enabled\""));
            is_meshed(&meta.annotations)
        }
    };
    let uid = meta.annotations.get(STATIC_POD).unwrap_or(&meta.uid);
    let opted_out = (wants && !uid.is_empty()).then(|| OptedOutPod {
        uid: uid.into(),
        name: format!("{}/{}", namespace(meta), &*meta.name).into(),
    });
    problems.with(opted_out)
}

fn is_meshed(annotations: &Pairs<'_>) -> bool {
    MESHES
        .iter()
        .any(|(key, value)| annotations.get(key).is_some_and(|found| value.is_empty() || found == *value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(annotations: &str) -> Converted<Option<OptedOutPod>> {
        let text = format!(
            r#"{{"namespace": "shop", "name": "web-0", "uid": "11-22", "annotations": {{{annotations}}}}}"#
        );
        pod(&serde_json::from_str(&text).unwrap())
    }

    fn uid(annotations: &str) -> Option<String> {
        convert(annotations).value.map(|pod| pod.uid.to_string())
    }

    #[test]
    fn a_pod_opts_out_by_annotation() {
        assert_eq!(convert("").value, None);
        let value = convert(r#""shunt.dev/socket-lb": "disabled""#).value.unwrap();
        assert_eq!((&*value.uid, &*value.name), ("11-22", "shop/web-0"));
        assert_eq!(uid(r#""shunt.dev/socket-lb": "enabled""#), None);
    }

    #[test]
    fn pods_of_a_mesh_are_opted_out_unless_they_say_otherwise() {
        assert!(uid(r#""sidecar.istio.io/status": "{}""#).is_some());
        assert!(uid(r#""ambient.istio.io/redirection": "enabled""#).is_some());
        assert!(uid(r#""ambient.istio.io/redirection": "disabled""#).is_none());
        assert!(uid(r#""linkerd.io/proxy-version": "2.14""#).is_some());
        assert!(uid(r#""linkerd.io/proxy-version": "2.14", "shunt.dev/socket-lb": "enabled""#).is_none());
    }

    #[test]
    fn another_value_is_named_and_changes_nothing() {
        let converted = convert(r#""shunt.dev/socket-lb": "no""#);
        assert_eq!(converted.value, None);
        let problem = converted.problems[0].to_string();
        assert!(problem.contains("pods shop/web-0") && problem.contains("shunt.dev/socket-lb"), "{problem}");
    }

    #[test]
    fn a_static_pod_is_known_by_the_hash_of_its_manifest() {
        let both = r#""shunt.dev/socket-lb": "disabled", "kubernetes.io/config.hash": "abc""#;
        assert_eq!(uid(both).as_deref(), Some("abc"));
    }
}
