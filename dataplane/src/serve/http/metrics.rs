//! The metrics server: metrics, configuration, status pages, and the answers behind shunt's subcommands.

use std::collections::{BTreeMap, HashMap};
use std::num::ParseIntError;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Query, RawQuery, State};
use axum::response::Response;
use axum::routing::any;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::reply::{json as json_reply, not_found, reply, text};
use super::{ExplainError, Introspection, zpages};
use crate::serve::{Clock, LogHandle, Metrics, MetricsError};

const EXPOSITION: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What `/statusz` lists.
const PATHS: [&str; 11] = [
    "/configz",
    "/flagz",
    "/healthz",
    "/healthz/ping",
    "/metrics",
    "/metrics/slis",
    "/proxyMode",
    "/shunt/explain",
    "/shunt/services",
    "/shunt/status",
    "/statusz",
];

/// Everything the metrics server shows.
#[derive(Clone, Debug)]
pub struct MetricsPages {
    /// `/metrics` and `/metrics/slis`.
    pub metrics: Arc<Metrics>,
    /// `/proxyMode`: the mode in use, once it is known.
    pub proxy_mode: Arc<OnceLock<&'static str>>,
    /// `/configz`: the KubeProxyConfiguration in use, with `kind` and `apiVersion`.
    pub config: Value,
    /// `/flagz`: flags, without dashes, with their values.
    pub flags: BTreeMap<String, String>,
    /// When the process started.
    pub started: Timestamp,
    /// The time.
    pub clock: Clock,
    /// Opens `/debug/` (`enableProfiling`): the log level can be changed there.
    pub debug: Option<LogHandle>,
    /// `/shunt/`.
    pub introspection: Arc<dyn Introspection>,
}

type Pages = State<Arc<MetricsPages>>;

/// All pages. Methods are not looked at, except where they mean something, as in kube-proxy.
pub fn metrics_router(pages: MetricsPages) -> Router {
    let debug = pages.debug.clone();
    let router = Router::new()
        .route("/healthz", any(healthz))
        .route("/healthz/ping", any(ping))
        .route("/metrics", any(metrics))
        .route("/metrics/slis", any(slis))
        .route("/proxyMode", any(proxy_mode))
        .route("/configz", any(configz))
        .route("/flagz", any(flagz))
        .route("/statusz", any(statusz))
        .route("/shunt/status", any(status))
        .route("/shunt/services", any(services))
        .route("/shunt/explain", any(explain))
        .with_state(Arc::new(pages));
    let router = match debug {
        Some(handle) => router.merge(debug_router(handle)),
        None => router,
    };
    router.fallback(not_found)
}

/// `?verbose` lists the one check there is.
async fn healthz(State(pages): Pages, RawQuery(query): RawQuery) -> Response {
    pages.metrics.health_checked("ping", "healthz", true);
    let asks = |query: &str| query.split('&').any(|part| part == "verbose" || part.starts_with("verbose="));
    if query.as_deref().is_some_and(asks) {
        return text(StatusCode::OK, "[+]ping ok\nhealthz check passed\n");
    }
    text(StatusCode::OK, "ok")
}

async fn ping() -> Response {
    text(StatusCode::OK, "ok")
}

async fn metrics(State(pages): Pages) -> Response {
    pages.introspection.before_metrics().await;
    exposition(pages.metrics.render(pages.clock.now().monotonic))
}

async fn slis(State(pages): Pages, method: Method) -> Response {
    if method == Method::DELETE {
        pages.metrics.reset_slis();
        return text(StatusCode::OK, "metrics reset\n");
    }
    exposition(pages.metrics.render_slis())
}

fn exposition(rendered: Result<String, MetricsError>) -> Response {
    match rendered {
        Ok(body) => reply(StatusCode::OK, EXPOSITION, body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

async fn proxy_mode(State(pages): Pages) -> Response {
    text(StatusCode::OK, pages.proxy_mode.get().copied().unwrap_or("auto"))
}

async fn configz(State(pages): Pages) -> Response {
    json_reply(StatusCode::OK, json!({ "kubeproxy.config.k8s.io": pages.config }).to_string())
}

async fn flagz(State(pages): Pages, headers: HeaderMap) -> Response {
    zpages::flagz(&headers, &pages.flags)
}

async fn statusz(State(pages): Pages, headers: HeaderMap) -> Response {
    zpages::statusz(&headers, pages.started, pages.clock.now().wall, &PATHS)
}

async fn status(State(pages): Pages) -> Response {
    json_reply(StatusCode::OK, pages.introspection.status().await.to_string())
}

async fn services(State(pages): Pages) -> Response {
    json_reply(StatusCode::OK, pages.introspection.services().await.to_string())
}

async fn explain(State(pages): Pages, Query(mut query): Query<HashMap<String, String>>) -> Response {
    let from = query.remove("from").unwrap_or_default();
    let probe = match query.remove("probe").as_deref() {
        None | Some("" | "false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(ExplainError::BadParameter {
            parameter: "probe",
            reason: format!("{other:?} is neither true nor false"),
        }),
    };
    let answer = match (query.remove("to"), probe) {
        (Some(to), Ok(probe)) => pages.introspection.explain(from, to, probe).await,
        (_, Err(error)) => Err(error),
        (None, Ok(_)) => Err(ExplainError::BadParameter {
            parameter: "to",
            reason: "is needed: ADDRESS:PORT/PROTOCOL".into(),
        }),
    };
    match answer {
        Ok(answer) => json_reply(StatusCode::OK, answer.to_string()),
        Err(error) => json_reply(refusal(&error), json!({ "error": error.to_string() }).to_string()),
    }
}

const fn refusal(error: &ExplainError) -> StatusCode {
    match error {
        ExplainError::BadParameter { .. } => StatusCode::BAD_REQUEST,
        ExplainError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn debug_router(handle: LogHandle) -> Router {
    Router::new()
        .route("/debug/flags/v", any(set_verbosity))
        .route("/debug/pprof/", any(no_profiles))
        .route("/debug/pprof/{*profile}", any(no_profiles))
        .with_state(handle)
}

/// The body is the new level: a number as for `-v`.
async fn set_verbosity(State(handle): State<LogHandle>, method: Method, body: String) -> Response {
    if method != Method::PUT {
        return text(StatusCode::NOT_ACCEPTABLE, "unsupported http method\n");
    }
    let level = body.trim();
    let outcome = level
        .parse()
        .map_err(|error: ParseIntError| format!("failed set logging level {level}: {error}\n"))
        .and_then(|verbosity| {
            handle
                .set_verbosity(verbosity)
                .map_err(|error| format!("failed set logging level {level}: {error}\n"))
        });
    match outcome {
        Ok(()) => text(StatusCode::OK, format!("successfully set logging level to {level}\n")),
        Err(message) => text(StatusCode::BAD_REQUEST, message),
    }
}

async fn no_profiles() -> Response {
    text(
        StatusCode::NOT_IMPLEMENTED,
        "shunt has no Go runtime and no pprof profiles; use perf on the process instead\n",
    )
}
