//! The health server: `/healthz` for load balancers that drain nodes, `/livez` for the kubelet.

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::any;

use super::reply::{health_status, json, not_found};
use crate::serve::{HealthMonitor, Metrics};

/// `/healthz` and `/livez`, each answer counted.
pub fn health_router(health: Arc<HealthMonitor>, metrics: Arc<Metrics>) -> Router {
    let (live, live_metrics) = (Arc::clone(&health), Arc::clone(&metrics));
    let healthz = move || std::future::ready(healthz(&health, &metrics));
    let livez = move || std::future::ready(livez(&live, &live_metrics));
    Router::new().route("/healthz", any(healthz)).route("/livez", any(livez)).fallback(not_found)
}

fn healthz(health: &HealthMonitor, metrics: &Metrics) -> Response {
    let (ok, body) = health.report().healthz();
    metrics.healthz_answered(ok);
    json(health_status(ok), body)
}

fn livez(health: &HealthMonitor, metrics: &Metrics) -> Response {
    let (ok, body) = health.report().livez();
    metrics.livez_answered(ok);
    json(health_status(ok), body)
}
