//! What every Kubernetes component shows: the build, requests to the API, the process. Feature gates there are none.

use prometheus::IntCounterVec;
use prometheus::process_collector::ProcessCollector;

use super::MetricsError;
use super::register::{Declarations, Declare};

#[derive(Debug)]
pub(super) struct GenericMetrics {
    pub(super) api_requests: IntCounterVec,
}

const BUILD_LABELS: [&str; 9] = [
    "major",
    "minor",
    "git_version",
    "git_commit",
    "git_tree_state",
    "build_date",
    "go_version",
    "compiler",
    "platform",
];

impl GenericMetrics {
    pub(super) fn register(declarations: &Declarations) -> Result<Self, MetricsError> {
        register_build_info(declarations)?;
        declarations
            .registry
            .register(Box::new(ProcessCollector::for_self()))
            .map_err(|source| MetricsError::Registration { name: "process_*".to_owned(), source })?;
        Ok(Self {
            api_requests: Declare::new(declarations, "rest_client_", "[ALPHA] ").counters(
                "requests_total",
                "Number of HTTP requests, partitioned by status code, method, and host.",
                &["code", "method", "host"],
            )?,
        })
    }
}

/// The version is shunt's own. What Go binaries know of their build and this one does not stays empty.
fn register_build_info(declarations: &Declarations) -> Result<(), MetricsError> {
    let info = Declare::new(declarations, "kubernetes_", "[ALPHA] ").gauges(
        "build_info",
        "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, \
         build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
        &BUILD_LABELS,
    )?;
    let version = concat!("v", env!("CARGO_PKG_VERSION"), "+shunt");
    let platform = format!("{}/{}", std::env::consts::OS, go_architecture());
    let values = [
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        version,
        option_env!("SHUNT_GIT_COMMIT").unwrap_or_default(),
        "",
        option_env!("SHUNT_BUILD_DATE").unwrap_or_default(),
        "",
        "rustc",
        &platform,
    ];
    info.with_label_values(&values).set(1);
    Ok(())
}

/// The architecture as Kubernetes labels spell it.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
