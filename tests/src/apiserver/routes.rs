//! From a request to the store and back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Method, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::discovery;
use super::faults::{Faults, Request};
use super::patch::{Patch, PatchKind};
use super::resource::Resource;
use super::respond::{failure, json_body, object, status};
use super::selector::Selector;
use super::store::{Key, Store, StoreError, Stored};
use super::watch_stream::{self, WatchRequest};
use super::{table, validate};

/// What every request shares.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub(super) store: Store,
    pub(super) faults: Arc<Faults>,
}

/// What a path names.
struct Place {
    resource: &'static Resource,
    namespace: Option<String>,
    name: Option<String>,
    status: bool,
}

/// Answers one request.
pub(super) async fn handle(State(api): State<Api>, request: http::Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let query = head.uri.query().unwrap_or("").to_owned();
    api.faults.record(Request { method: head.method.to_string(), path: path.clone(), query: query.clone() });
    api.faults.hold().await;
    if let Some(refusal) = api.faults.refusal(&path) {
        let mut response = status(refusal.status, "Refused", "refused on purpose");
        if let Some(seconds) = refusal.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        return response;
    }
    let authorization = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !api.faults.admits(authorization) {
        return status(401, "Unauthorized", "Unauthorized");
    }
    if matches!(path.as_str(), "/healthz" | "/readyz" | "/livez") {
        return Response::new(Body::from("ok"));
    }
    if let Some(document) = discovery::document(&path) {
        return json_body(200, document.to_string());
    }
    let Some(place) = Place::parse(&path) else {
        return status(404, "NotFound", "the server could not find the requested resource");
    };
    let parameters = Parameters::parse(&query);
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return status(400, "BadRequest", &error.to_string()),
    };
    api.dispatch(&head.method, &place, &parameters, &head.headers, &body)
}

impl Api {
    fn dispatch(
        &self,
        method: &Method,
        place: &Place,
        parameters: &Parameters,
        headers: &http::HeaderMap,
        body: &Bytes,
    ) -> Response {
        match (method.as_str(), place.name.as_ref()) {
            ("GET", None) if parameters.flag("watch") => self.watch(place, parameters),
            ("GET", None) => self.list(place, parameters, table::is_wanted(headers)),
            ("GET", Some(_)) => match self.store.get(place.resource, &place.key()) {
                Ok(stored) if table::is_wanted(headers) => {
                    json_body(200, table::of(place.resource, &[stored], self.store.current_version()))
                }
                Ok(stored) => json_body(200, stored.json.clone()),
                Err(error) => failure(&error),
            },
            // A dry run that changes something would be worse than none.
            _ if parameters.get("dryRun").is_some() => {
                status(400, "BadRequest", "this server does not know dry runs")
            }
            _ if content_type(headers).starts_with("application/vnd.kubernetes.protobuf") => status(
                415,
                "UnsupportedMediaType",
                "this server reads JSON, not protobuf: of kubectl's ways to make objects use kubectl apply",
            ),
            ("POST", None) => {
                object(201, parse(body, place, parameters).and_then(|value| self.create(place, value)))
            }
            ("PUT", Some(_)) => {
                let replace = |value| self.store.replace(place.resource, value, &place.key(), place.status);
                object(200, parse(body, place, parameters).and_then(replace))
            }
            ("PATCH", Some(_)) => self.patch(place, parameters, headers, body),
            ("DELETE", Some(_)) => object(200, self.store.delete(place.resource, &place.key())),
            _ => status(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ),
        }
    }

    fn create(&self, place: &Place, mut value: Value) -> Result<Value, StoreError> {
        if let (Some(namespace), Some(Value::Object(meta))) = (&place.namespace, value.get_mut("metadata")) {
            meta.entry("namespace").or_insert_with(|| json!(namespace));
        }
        self.store.create(place.resource, value)
    }

    fn patch(
        &self,
        place: &Place,
        parameters: &Parameters,
        headers: &http::HeaderMap,
        body: &Bytes,
    ) -> Response {
        let content = content_type(headers);
        let Some(kind) = PatchKind::of_request(content, parameters.get("fieldManager")) else {
            return status(415, "UnsupportedMediaType", &format!("this server does not know {content}"));
        };
        let change = match decode(body) {
            Ok(change) => change,
            Err(error) => return failure(&error),
        };
        let patch = Patch { kind, change, status_only: place.status, strict: parameters.is_strict() };
        object(200, self.store.patch(place.resource, &place.key(), &patch))
    }

    fn list(&self, place: &Place, parameters: &Parameters, as_table: bool) -> Response {
        let selector = match parameters.selector() {
            Ok(selector) => selector,
            Err(response) => return *response,
        };
        let after = match parameters.get("continue").filter(|token| !token.is_empty()).map(continued_after) {
            None => None,
            Some(Some(after)) => Some(after),
            Some(None) => return status(400, "BadRequest", "invalid continue token"),
        };
        let limit = self.faults.page_limit(parameters.number("limit").unwrap_or(0));
        let page = self.store.list(
            place.resource,
            place.namespace.as_deref(),
            |value| selector.matches(value),
            limit,
            after.as_ref().map(|(key, version)| (key, *version)),
        );
        match page {
            Ok(page) if as_table && page.next.is_none() => {
                json_body(200, table::of(place.resource, &page.items, page.version))
            }
            Ok(page) => {
                let token = page.next.map(|(namespace, name)| format!("{}:{namespace}:{name}", page.version));
                json_body(200, list_body(place.resource, &page.items, page.version, token))
            }
            Err(error) => failure(&error),
        }
    }

    fn watch(&self, place: &Place, parameters: &Parameters) -> Response {
        let selector = match parameters.selector() {
            Ok(selector) => selector,
            Err(response) => return *response,
        };
        let streaming = parameters.flag("sendInitialEvents");
        if streaming && !self.faults.knows_streaming_lists() {
            let message = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the \
                           WatchList feature gate is enabled";
            return status(422, "Invalid", message);
        }
        let version = parameters.number("resourceVersion").unwrap_or(0) as u64;
        let from_now = streaming || version == 0;
        let initial = from_now.then(|| {
            self.store.list(
                place.resource,
                place.namespace.as_deref(),
                |value| selector.matches(value),
                0,
                None,
            )
        });
        let (version, initial) = match initial {
            Some(Ok(page)) => (page.version, Some(page.items)),
            Some(Err(error)) => return failure(&error),
            None => (version, None),
        };
        if let Err(error) = self.store.changes(place.resource, version) {
            return json_body(200, watch_stream::error_line(&error));
        }
        let timeout = parameters.number("timeoutSeconds").unwrap_or(1800) as u64;
        let request = WatchRequest {
            resource: place.resource,
            namespace: place.namespace.clone(),
            selector,
            version,
            initial,
            bookmarks: parameters.flag("allowWatchBookmarks"),
            deadline: Instant::now() + Duration::from_secs(timeout),
        };
        let body = watch_stream::stream(request, self.store.clone(), Arc::clone(&self.faults));
        json_body(200, Body::from_stream(body))
    }
}

fn content_type(headers: &http::HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// The object in a request; without unknown fields where the request wants to know of them.
fn parse(body: &Bytes, place: &Place, parameters: &Parameters) -> Result<Value, StoreError> {
    let object = decode(body)?;
    if parameters.is_strict() {
        validate::strictly(place.resource.kind, &object)?;
    }
    Ok(object)
}

fn decode(body: &Bytes) -> Result<Value, StoreError> {
    serde_json::from_slice(body)
        .map_err(|error| StoreError::BadRequest(format!("the body is not JSON: {error}")))
}

fn list_body(resource: &Resource, items: &[Arc<Stored>], version: u64, token: Option<String>) -> Bytes {
    let metadata = json!({"resourceVersion": version.to_string(), "continue": token.unwrap_or_default()});
    let head = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        resource.kind,
        resource.api_version()
    );
    let size = items.iter().map(|item| item.json.len() + 1).sum::<usize>();
    let mut body = BytesMut::with_capacity(head.len() + size + 2);
    body.put_slice(head.as_bytes());
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            body.put_u8(b',');
        }
        body.put_slice(&item.json);
    }
    body.put_slice(b"]}");
    body.freeze()
}

/// The key and version in a continue token.
fn continued_after(token: &str) -> Option<(Key, u64)> {
    let mut parts = token.splitn(3, ':');
    let version = parts.next()?.parse().ok()?;
    Some(((parts.next()?.to_owned(), parts.next()?.to_owned()), version))
}

impl Place {
    fn parse(path: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/').peekable();
        let (group, version) = match parts.next()? {
            "api" => ("", parts.next()?),
            "apis" => (parts.next()?, parts.next()?),
            _ => return None,
        };
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, rest @ ..] if rest.len() > usize::from(rest == ["status"]) => {
                (Some((*namespace).to_owned()), rest)
            }
            rest => (None, rest),
        };
        let resource = Resource::find(group, version, rest.first()?)?;
        let place = |name, status| Some(Self { resource, namespace: namespace.clone(), name, status });
        match rest {
            [_] => place(None, false),
            [_, name] => place(Some((*name).to_owned()), false),
            [_, name, "status"] => place(Some((*name).to_owned()), true),
            _ => None,
        }
    }

    fn key(&self) -> Key {
        (self.namespace.clone().unwrap_or_default(), self.name.clone().unwrap_or_default())
    }
}

/// Decoded query parameters.
struct Parameters(HashMap<String, String>);

impl Parameters {
    fn parse(query: &str) -> Self {
        Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    /// Whether unknown fields are to be refused.
    fn is_strict(&self) -> bool {
        self.get("fieldValidation") == Some("Strict")
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.get(name)?.parse().ok()
    }

    fn selector(&self) -> Result<Selector, Box<Response>> {
        Selector::parse(self.get("labelSelector").unwrap_or(""), self.get("fieldSelector").unwrap_or(""))
            .map_err(|error| Box::new(status(400, "BadRequest", &error.to_string())))
    }
}
