//! Objects by way of an API server inside the node's namespace.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::feed::{ObjectFeed, ObjectSet};
use super::objects::{elements, port, text};
use crate::apiserver::{ApiServer, Options, Resource};
use crate::lab::Worker;

/// Where the API server listens on the node.
pub(crate) const API_PORT: u16 = 16_443;

/// An API server whose objects are those of the case.
#[derive(Debug)]
pub(crate) struct ApiServerFeed {
    server: ApiServer,
    kubeconfig: PathBuf,
    current: ObjectSet,
}

impl ApiServerFeed {
    /// Starts the server on the node's loopback, and writes its kubeconfig.
    pub(crate) fn start(node: &Worker, directory: &Path) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, API_PORT));
        let server = node.run(ApiServer::start(address, Options::default()))??;
        let kubeconfig = directory.join("kubeconfig");
        fs::write(&kubeconfig, server.kubeconfig()).context("cannot write a kubeconfig")?;
        Ok(Self { server, kubeconfig, current: ObjectSet::default() })
    }

    fn put(&self, object: &Value) -> Result<()> {
        let mut object = object.clone();
        keep_node_ports(&mut object);
        let done = self.server.store().put(object.clone());
        done.map(drop).with_context(|| format!("the API server refuses {object}"))
    }

    fn delete(&self, object: &Value) -> Result<()> {
        let (version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
        let resource =
            Resource::of_kind(version, kind).with_context(|| format!("no kind {kind} is served"))?;
        let key = ["/metadata/namespace", "/metadata/name"].map(|path| text(object, path).to_owned());
        let deleted = self.server.store().delete(resource, &key.into());
        deleted.map(drop).with_context(|| format!("cannot delete {object}"))
    }
}

/// A load balancer of a case that has no node ports must not be given any: a
/// free one might be a port the case uses for something else.
fn keep_node_ports(object: &mut Value) {
    let is_load_balancer = text(object, "/spec/type") == "LoadBalancer";
    let lacks_one = elements(object, "/spec/ports").any(|item| port(item, "/nodePort").is_none());
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
        && is_load_balancer
        && lacks_one
    {
        spec.insert("allocateLoadBalancerNodePorts".to_owned(), false.into());
    }
}

impl ObjectFeed for ApiServerFeed {
    fn replace(&mut self, objects: &ObjectSet) -> Result<()> {
        for (identity, object) in self.current.iter() {
            if objects.get(identity).is_none() {
                self.delete(object)?;
            }
        }
        for (identity, object) in objects.iter() {
            if self.current.get(identity) != Some(object) {
                self.put(object)?;
            }
        }
        self.current = objects.clone();
        Ok(())
    }

    fn put_last(&mut self, object: Value) -> Result<()> {
        self.put(&object)?;
        self.current.put(object);
        Ok(())
    }

    fn arguments(&self) -> Vec<OsString> {
        Vec::new()
    }

    fn kubeconfig(&self) -> Option<PathBuf> {
        Some(self.kubeconfig.clone())
    }
}
