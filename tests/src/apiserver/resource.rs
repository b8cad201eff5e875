//! The resources that are served.

/// One resource type.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Plural name, as in paths.
    pub plural: &'static str,
    /// Singular name, as `kubectl` accepts it.
    pub singular: &'static str,
    /// Short names.
    pub short: &'static [&'static str],
    /// Kind of an object; a list has `List` appended.
    pub kind: &'static str,
    /// Objects live in namespaces.
    pub namespaced: bool,
}

const fn core(
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    namespaced: bool,
) -> Resource {
    Resource { group: "", version: "v1", plural, singular, short: &[], kind, namespaced }
}

/// Every resource that is served.
pub(super) static RESOURCES: [Resource; 9] = [
    Resource { short: &["svc"], ..core("services", "service", "Service", true) },
    Resource { group: "discovery.k8s.io", ..core("endpointslices", "endpointslice", "EndpointSlice", true) },
    Resource { short: &["no"], ..core("nodes", "node", "Node", false) },
    Resource { group: "networking.k8s.io", ..core("servicecidrs", "servicecidr", "ServiceCIDR", false) },
    Resource { short: &["ns"], ..core("namespaces", "namespace", "Namespace", false) },
    Resource { short: &["cm"], ..core("configmaps", "configmap", "ConfigMap", true) },
    Resource { short: &["po"], ..core("pods", "pod", "Pod", true) },
    core("events", "event", "Event", true),
    Resource { group: "events.k8s.io", ..core("events", "event", "Event", true) },
];

impl Resource {
    /// The resource with that group, version and plural name.
    pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|r| r.group == group && r.version == version && r.plural == plural)
    }

    /// The resource of an object's `apiVersion` and `kind`.
    pub fn of_kind(api_version: &str, kind: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|r| r.kind == kind && r.api_version() == api_version)
    }

    /// The resources whose objects are of that kind.
    pub(super) fn all_of_kind(kind: &str) -> impl Iterator<Item = &'static Self> {
        RESOURCES.iter().filter(move |resource| resource.kind == kind)
    }

    /// `v1`, `discovery.k8s.io/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}
