//! What is watched, with kube-proxy's selectors.

use kube::api::{ListParams, WatchParams};

use crate::domain::ObjectKind;

/// One list-and-watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: ObjectKind,
    pub(super) path: &'static str,
    pub(super) labels: Option<String>,
    pub(super) fields: Option<String>,
    /// The agent works without this resource: old servers do not have it, and roles may not allow it.
    pub(super) optional: bool,
    /// Only metadata are asked for.
    pub(super) metadata_only: bool,
}

type Request = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

impl Target {
    /// The request for a page of the list.
    pub(super) fn list(&self, params: &ListParams) -> Request {
        let request = kube::core::Request::new(self.path);
        if self.metadata_only { request.list_metadata(params) } else { request.list(params) }
    }

    /// The request for a watch from that version on.
    pub(super) fn watch(&self, params: &WatchParams, version: &str) -> Request {
        let request = kube::core::Request::new(self.path);
        if self.metadata_only {
            request.watch_metadata(params, version)
        } else {
            request.watch(params, version)
        }
    }

    pub(super) fn services() -> Self {
        Self {
            kind: ObjectKind::Service,
            path: "/api/v1/services",
            labels: Some("!service.kubernetes.io/service-proxy-name".to_owned()),
            fields: Some("spec.clusterIP!=None".to_owned()),
            optional: false,
            metadata_only: false,
        }
    }

    pub(super) fn endpoint_slices() -> Self {
        Self {
            kind: ObjectKind::EndpointSlice,
            path: "/apis/discovery.k8s.io/v1/endpointslices",
            labels: Some("!service.kubernetes.io/headless".to_owned()),
            fields: None,
            optional: false,
            metadata_only: false,
        }
    }

    pub(super) fn node(name: &str) -> Self {
        Self {
            kind: ObjectKind::Node,
            path: "/api/v1/nodes",
            labels: None,
            fields: Some(format!("metadata.name={name}")),
            optional: false,
            metadata_only: false,
        }
    }

    /// The pods of a node.
    pub(super) fn pods(node: &str) -> Self {
        Self {
            kind: ObjectKind::Pod,
            path: "/api/v1/pods",
            labels: None,
            fields: Some(format!("spec.nodeName={node}")),
            optional: true,
            metadata_only: true,
        }
    }

    pub(super) fn service_cidrs() -> Self {
        Self {
            kind: ObjectKind::ServiceCidr,
            path: "/apis/networking.k8s.io/v1/servicecidrs",
            labels: None,
            fields: None,
            optional: true,
            metadata_only: false,
        }
    }
}
