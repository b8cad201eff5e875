//! Counts requests to the Kubernetes API, as a layer around the client's HTTP service.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use tower::{Layer, Service};

use super::Metrics;

/// Puts [`CountedApi`] around a service; give it to kube's `ClientBuilder::with_layer`.
#[derive(Clone, Debug)]
pub struct ApiRequestCounter {
    metrics: Arc<Metrics>,
    host: Arc<str>,
}

/// A service whose answers are counted in `rest_client_requests_total`.
#[derive(Clone, Debug)]
pub struct CountedApi<S> {
    inner: S,
    counter: ApiRequestCounter,
}

impl ApiRequestCounter {
    /// Counts requests to that host, which is written with its port. (Requests do not name it yet where kube's layers
    /// see them.)
    pub fn new(metrics: Arc<Metrics>, host: &str) -> Self {
        Self { metrics, host: host.into() }
    }
}

impl<S> Layer<S> for ApiRequestCounter {
    type Service = CountedApi<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CountedApi { inner, counter: self.clone() }
    }
}

impl<S, B, R> Service<Request<B>> for CountedApi<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = request.method().clone();
        let counter = self.counter.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            // Clients written in Go use this word for an answer that never came.
            let code = answer.as_ref().map(Response::status).ok();
            let code = code.as_ref().map_or("<error>", StatusCode::as_str);
            counter.metrics.api_request(code, method.as_str(), &counter.host);
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tower::ServiceExt;

    use super::*;
    use crate::serve::ServiceSeries;

    #[tokio::test]
    async fn answers_are_counted_by_code_and_requests_without_one_as_errors() {
        let metrics = Arc::new(Metrics::new(ServiceSeries::Off).unwrap());
        let api = tower::service_fn(|request: Request<()>| {
            let status = request.uri().path().trim_start_matches('/').parse::<u16>();
            std::future::ready(status.map(|status| Response::builder().status(status).body(()).unwrap()))
        });
        let api = ApiRequestCounter::new(Arc::clone(&metrics), "10.96.0.1:443").layer(api);
        for path in ["/200", "/200", "/410", "/nothing"] {
            let request = Request::get(path).body(()).unwrap();
            let answered = api.clone().oneshot(request).await.is_ok();
            assert_eq!(answered, path != "/nothing");
        }
        let text = metrics.render(Instant::now()).unwrap();
        for (code, count) in [("200", 2), ("410", 1), ("<error>", 1)] {
            let labels = format!("code=\"{code}\",host=\"10.96.0.1:443\",method=\"GET\"");
            let line = format!("rest_client_requests_total{{{labels}}} {count}\n");
            assert!(text.contains(&line), "{line}");
        }
    }
}
