//! `/statusz` and `/flagz`: what the process is and how it was started, as text or as objects.

use std::collections::BTreeMap;

use axum::response::Response;
use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::accept::{Form, negotiate};
use super::reply;

/// Tools know the pages by the name of the component they expect on this port.
const COMPONENT: &str = "kube-proxy";
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility \
                       guarantees and is for debugging purposes only.";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Stands where Go components tell their Go version.
const TOOLCHAIN: &str = concat!("none (shunt, Rust ", env!("CARGO_PKG_RUST_VERSION"), ")");

/// `/statusz`, for a process that started then and has these pages.
pub(super) fn statusz(headers: &HeaderMap, started: Timestamp, now: Timestamp, paths: &[&str]) -> Response {
    let up = now.duration_since(started).as_secs().max(0);
    match form(headers, "Statusz") {
        None => not_acceptable(),
        Some(Form::Text) => reply::text(StatusCode::OK, statusz_text(started, up, paths)),
        Some(Form::Object(version)) => object(
            version,
            "Statusz",
            json!({
                "startTime": started.round(jiff::Unit::Second).unwrap_or(started).to_string(),
                "uptimeSeconds": up,
                "goVersion": TOOLCHAIN,
                "binaryVersion": VERSION,
                "paths": paths,
            }),
        ),
    }
}

/// `/flagz`: the flags with their values.
pub(super) fn flagz(headers: &HeaderMap, flags: &BTreeMap<String, String>) -> Response {
    match form(headers, "Flagz") {
        None => not_acceptable(),
        Some(Form::Text) => reply::text(StatusCode::OK, flagz_text(flags)),
        Some(Form::Object(version)) => object(version, "Flagz", json!({ "flags": flags })),
    }
}

fn form(headers: &HeaderMap, kind: &str) -> Option<Form> {
    negotiate(headers.get(ACCEPT).and_then(|value| value.to_str().ok()), kind)
}

fn statusz_text(started: Timestamp, up: i64, paths: &[&str]) -> String {
    format!(
        "\n{COMPONENT} statusz\n{WARNING}\n\nStarted: {}\nUp: {} hr {:02} min {:02} sec\nGo version: {TOOLCHAIN}\n\
         Binary version: {VERSION}\nPaths: {}\n",
        started.strftime("%a %b %e %H:%M:%S UTC %Y"),
        up / 3600,
        (up / 60) % 60,
        up % 60,
        paths.join(" "),
    )
}

fn flagz_text(flags: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = flags.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    format!("\n{COMPONENT} flagz\n{WARNING}\n\n{}", lines.concat())
}

fn object(version: &str, kind: &str, mut fields: Value) -> Response {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("kind".to_owned(), json!(kind));
        fields.insert("apiVersion".to_owned(), json!(format!("config.k8s.io/{version}")));
        fields.insert("metadata".to_owned(), json!({ "name": COMPONENT }));
    }
    reply::json(StatusCode::OK, fields.to_string())
}

fn not_acceptable() -> Response {
    reply::text(StatusCode::NOT_ACCEPTABLE, "media type not acceptable, must be: text/plain\n")
}
