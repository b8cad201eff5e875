//! Responses as Go's servers send them.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};

pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A body of that type, which browsers are told not to second-guess.
pub(super) fn reply(status: StatusCode, content_type: HeaderValue, body: impl Into<String>) -> Response {
    let headers = [(CONTENT_TYPE, content_type), (X_CONTENT_TYPE_OPTIONS, NOSNIFF)];
    (status, headers, body.into()).into_response()
}

pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Response {
    reply(status, TEXT, body)
}

pub(super) fn json(status: StatusCode, body: impl Into<String>) -> Response {
    reply(status, JSON, body)
}

/// What is answered where nothing is.
pub(super) async fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// 200 if all is well, 503 otherwise.
pub(super) const fn health_status(ok: bool) -> StatusCode {
    if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
