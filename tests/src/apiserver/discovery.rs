//! Discovery documents, enough for `kubectl`.

use serde_json::{Value, json};

use super::resource::{RESOURCES, Resource};

/// The discovery document at `path`, if it is one.
pub(super) fn document(path: &str) -> Option<Value> {
    match path.trim_end_matches('/') {
        "/version" => Some(json!({
            "major": "1", "minor": "36", "gitVersion": "v1.36.2", "gitCommit": "0000000", "gitTreeState": "clean",
            "platform": "linux/amd64", "goVersion": "none", "compiler": "none", "buildDate": "2026-01-01T00:00:00Z",
        })),
        "/api" => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        "/apis" => Some(groups()),
        "/openapi/v3" => Some(openapi_index()),
        path => resource_list(path).or_else(|| openapi_document(path)),
    }
}

fn group_names() -> Vec<&'static str> {
    let mut names: Vec<_> = RESOURCES.iter().map(|r| r.group).filter(|group| !group.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn groups() -> Value {
    let groups: Vec<Value> = group_names()
        .into_iter()
        .map(|group| {
            let version = json!({"groupVersion": format!("{group}/v1"), "version": "v1"});
            json!({"name": group, "versions": [version.clone()], "preferredVersion": version})
        })
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn of_group_path(path: &str) -> Option<(String, Vec<&'static Resource>)> {
    let api_version = path.strip_prefix("/apis/").or_else(|| path.strip_prefix("/api/"))?;
    let found: Vec<_> = RESOURCES.iter().filter(|r| r.api_version() == api_version).collect();
    (!found.is_empty()).then(|| (api_version.to_owned(), found))
}

fn resource_list(path: &str) -> Option<Value> {
    let (api_version, found) = of_group_path(path)?;
    let verbs = json!(["create", "delete", "get", "list", "patch", "update", "watch"]);
    let mut resources: Vec<Value> = found.iter().map(|r| json!({
        "name": r.plural, "singularName": r.singular, "shortNames": r.short, "namespaced": r.namespaced,
        "kind": r.kind, "verbs": verbs,
    })).collect();
    resources.extend(found.iter().filter(|r| matches!(r.kind, "Service" | "Node")).map(|r| {
        json!({
            "name": format!("{}/status", r.plural), "singularName": "", "namespaced": r.namespaced,
            "kind": r.kind, "verbs": ["get", "patch", "update"],
        })
    }));
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources}),
    )
}

fn group_paths() -> Vec<String> {
    let groups = group_names().into_iter().map(|group| format!("apis/{group}/v1"));
    std::iter::once("api/v1".to_owned()).chain(groups).collect()
}

fn openapi_index() -> Value {
    let paths: serde_json::Map<_, _> = group_paths()
        .into_iter()
        .map(|path| {
            let url = json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash=1")});
            (path, url)
        })
        .collect();
    json!({"paths": paths})
}

/// A schema-less OpenAPI v3 document: it tells `kubectl` that the server validates fields itself.
fn openapi_document(path: &str) -> Option<Value> {
    let group_path = path.strip_prefix("/openapi/v3")?;
    let (api_version, found) = of_group_path(group_path)?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let parameters = json!([
        {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}},
        {"name": "dryRun", "in": "query", "schema": {"type": "string"}},
    ]);
    let paths: serde_json::Map<_, _> = found.iter().map(|r| {
        let scope = if r.namespaced { "/namespaces/{namespace}" } else { "" };
        let kind = json!({"group": group, "version": version, "kind": r.kind});
        let patch = json!({
            "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": kind, "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
        });
        (format!("{group_path}{scope}/{}/{{name}}", r.plural), json!({"patch": patch}))
    }).collect();
    Some(json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.36.2"}, "paths": paths}))
}
