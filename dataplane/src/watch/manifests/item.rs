//! Documents -> objects.

use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use tracing::debug;

use super::document::{Broken, Document, yaml_error, yaml_options};
use crate::domain::{EndpointSlice, Node, ObjectKind, OptedOutPod, Problem, Service};
use crate::watch::convert::{self, Converted, Names};
use crate::watch::wire;

/// What identifies an object: kind, namespace, name.
pub(super) type Key = (ObjectKind, Arc<str>, Arc<str>);

/// An object of a manifest.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) key: Key,
    /// Line of the document.
    pub(super) line: u64,
    pub(super) object: Object,
    /// What of it cannot be used; `object` is only the name of the object.
    pub(super) problems: Vec<Problem>,
}

/// What an object says; `None`: not ours to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Service(Option<Service>),
    Slice(Option<EndpointSlice>),
    Node(Node),
    Cidrs(Vec<IpNet>),
    /// The node it is on, and what it asks for.
    Pod(Arc<str>, Option<OptedOutPod>),
}

/// The objects of a file that the proxy is interested in.
pub(super) fn items(documents: &[Document], names: &Names) -> Result<Vec<Item>, Broken> {
    let mut items = Vec::new();
    for document in documents {
        add(document, &document.value, "", names, &mut items)?;
    }
    Ok(items)
}

fn add(
    document: &Document,
    value: &Value,
    path: &str,
    names: &Names,
    items: &mut Vec<Item>,
) -> Result<(), Broken> {
    let kind = required(document, value, path, "kind")?;
    let api_version = required(document, value, path, "apiVersion")?;
    if let Some(list) = value.get("items").filter(|_| kind.ends_with("List")) {
        return add_list(document, (kind, api_version), list, path, names, items);
    }
    let Some(kind) = object_kind(api_version, kind) else {
        debug!(line = document.line, kind, api_version, "manifest is of no interest");
        return Ok(());
    };
    items.push(item(document, kind, value, path, names)?);
    Ok(())
}

/// `kind: List`, or a typed list whose items need not repeat their kind.
fn add_list(
    document: &Document,
    (list_kind, api_version): (&str, &str),
    list: &Value,
    path: &str,
    names: &Names,
    items: &mut Vec<Item>,
) -> Result<(), Broken> {
    let item_kind = list_kind.strip_suffix("List").unwrap_or_default();
    let broken = || broken_field(document, path, "items", "is not a list");
    let entries = if list.is_null() { &Vec::new() } else { list.as_array().ok_or_else(broken)? };
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("{path}items[{index}].");
        if item_kind.is_empty() || entry.get("kind").is_some() {
            add(document, entry, &path, names, items)?;
        } else if let Some(kind) = object_kind(api_version, item_kind) {
            items.push(item(document, kind, entry, &path, names)?);
        }
    }
    Ok(())
}

fn object_kind(api_version: &str, kind: &str) -> Option<ObjectKind> {
    match (api_version, kind) {
        ("v1", "Service") => Some(ObjectKind::Service),
        ("discovery.k8s.io/v1", "EndpointSlice") => Some(ObjectKind::EndpointSlice),
        ("v1", "Node") => Some(ObjectKind::Node),
        ("v1", "Pod") => Some(ObjectKind::Pod),
        ("networking.k8s.io/v1" | "networking.k8s.io/v1beta1", "ServiceCIDR") => {
            Some(ObjectKind::ServiceCidr)
        }
        _ => None,
    }
}

fn item(
    document: &Document,
    kind: ObjectKind,
    value: &Value,
    path: &str,
    names: &Names,
) -> Result<Item, Broken> {
    let (object, problems) = match kind {
        ObjectKind::Service => {
            let wire = typed::<wire::Service<'_>, wire::Service<'_>>(document, value, path)?;
            let Converted { value, problems } = convert::service(&wire, names);
            (Object::Service(value), problems)
        }
        ObjectKind::EndpointSlice => {
            let wire = typed::<wire::EndpointSlice<'_>, wire::EndpointSlice<'_>>(document, value, path)?;
            let Converted { value, problems } = convert::endpoint_slice(&wire, names);
            (Object::Slice(value), problems)
        }
        ObjectKind::Node => {
            let Converted { value, problems } =
                convert::node(&typed::<_, wire::Node<'_>>(document, value, path)?, names);
            (Object::Node(value), problems)
        }
        ObjectKind::ServiceCidr => {
            let Converted { value, problems } =
                convert::service_cidr(&typed::<_, wire::ServiceCidr<'_>>(document, value, path)?);
            (Object::Cidrs(value), problems)
        }
        ObjectKind::Pod => {
            let wire = typed::<wire::Pod<'_>, wire::Pod<'_>>(document, value, path)?;
            let Converted { value, problems } = convert::pod(&wire.metadata);
            (Object::Pod(names.shared(&wire.spec.node_name), value), problems)
        }
    };
    let key = key(document, kind, value, path, names)?;
    Ok(Item { key, line: document.line, object, problems })
}

fn key(
    document: &Document,
    kind: ObjectKind,
    value: &Value,
    path: &str,
    names: &Names,
) -> Result<Key, Broken> {
    let meta = value.get("metadata").unwrap_or(&Value::Null);
    let name = required(document, meta, &format!("{path}metadata."), "name")?;
    let namespace = match kind {
        ObjectKind::Service | ObjectKind::EndpointSlice | ObjectKind::Pod => {
            let given = meta.get("namespace").and_then(Value::as_str).filter(|text| !text.is_empty());
            given.unwrap_or("default")
        }
        ObjectKind::Node | ObjectKind::ServiceCidr => "",
    };
    Ok((kind, names.shared(namespace), names.shared(name)))
}

fn required<'v>(document: &Document, value: &'v Value, path: &str, field: &str) -> Result<&'v str, Broken> {
    let text = value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or_else(|| broken_field(document, path, field, "is missing (a string is wanted)"))
}

fn broken_field(document: &Document, path: &str, field: &str, reason: &str) -> Broken {
    Broken { line: Some(document.line), field: format!("{path}{field}"), reason: reason.to_owned() }
}

/// Reads the object as `T`; the error names the field, and its line where the text can tell. `Y` is the same type,
/// borrowing from the text.
fn typed<'v, 'd, T: Deserialize<'v>, Y: Deserialize<'d>>(
    document: &'d Document,
    value: &'v Value,
    path: &str,
) -> Result<T, Broken> {
    serde_path_to_error::deserialize(value).map_err(|error| Broken {
        line: line_of_error::<Y>(document).filter(|_| path.is_empty()).or(Some(document.line)),
        field: format!("{path}{}", error.path()),
        reason: error.inner().to_string(),
    })
}

/// Where the text of the document is not a `Y`.
fn line_of_error<'d, Y: Deserialize<'d>>(document: &'d Document) -> Option<u64> {
    let (start, text) = document.yaml.as_ref()?;
    let error = serde_saphyr::from_str_with_options::<Y>(text, yaml_options()).err()?;
    yaml_error(*start, &error).line
}
