//! HTTP responses.

use axum::body::Body;
use axum::response::Response;
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::store::{StoreError, status_object};

/// A JSON response.
pub(super) fn json_body(code: u16, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// An object, or the `Status` of what went wrong.
pub(super) fn object(code: u16, result: Result<Value, StoreError>) -> Response {
    match result {
        Ok(object) => json_body(code, object.to_string()),
        Err(error) => failure(&error),
    }
}

/// The `Status` of an error.
pub(super) fn failure(error: &StoreError) -> Response {
    let (code, status) = status_object(error);
    json_body(code, status.to_string())
}

/// A `Status` with that code and reason.
pub(super) fn status(code: u16, reason: &str, message: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    json_body(code, status.to_string())
}
