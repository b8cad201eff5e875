//! Requests to the API server, and what it says when it refuses them.

use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;

use super::error::WatchError;
use super::messages::Status;

/// Time for a request to be answered, and for a page to arrive.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Kept connections that may turn out to be closed: one for each kind that is watched.
const KEPT_CONNECTIONS: usize = 5;

/// The API server.
pub(super) struct Api {
    client: Client,
}

impl Api {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Sends a request that changes nothing; any answer but success is an error.
    pub(super) async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Body>, WatchError> {
        let mut answer = self.send_once(request.clone()).await;
        for _ in 0..KEPT_CONNECTIONS {
            // The server closed a kept connection as we were about to use it: that says nothing about the server.
            if !answer.as_ref().is_err_and(WatchError::is_stale_connection) {
                break;
            }
            answer = self.send_once(request.clone()).await;
        }
        let response = answer?;
        if response.status() == StatusCode::OK { Ok(response) } else { Err(refusal(response).await) }
    }

    async fn send_once(&self, request: Request<Vec<u8>>) -> Result<Response<Body>, WatchError> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.client.send(request.map(Body::from)));
        let answer = answer.await.map_err(|_elapsed| WatchError::NoAnswer(ANSWER_TIMEOUT))?;
        answer.map_err(|error| WatchError::Request(Box::new(error)))
    }
}

/// A request that cannot even be made.
pub(super) fn invalid_request(error: kube::core::request::Error) -> WatchError {
    WatchError::Request(Box::new(kube::Error::BuildRequest(error)))
}

/// The whole body of an answer.
pub(super) async fn read_page(response: Response<Body>) -> Result<Bytes, WatchError> {
    let body = tokio::time::timeout(ANSWER_TIMEOUT, response.into_body().collect());
    let body = body.await.map_err(|_elapsed| WatchError::NoAnswer(ANSWER_TIMEOUT))?;
    Ok(body.map_err(|error| WatchError::Body(Box::new(error)))?.to_bytes())
}

async fn refusal(response: Response<Body>) -> WatchError {
    let code = response.status().as_u16();
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = read_page(response).await.unwrap_or_default();
    Status::parse_lossy(&body).into_error(Some(code), seconds.map(Duration::from_secs))
}
