//! An API server whose answers the test gives, one call at a time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

/// The server. Its connections break when it is stopped or dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    calls: mpsc::UnboundedReceiver<Call>,
    sender: mpsc::UnboundedSender<Call>,
    tasks: JoinSet<()>,
}

/// A request that waits for its answer.
pub(super) struct Call {
    pub(super) path: String,
    pub(super) query: HashMap<String, String>,
    pub(super) accept: String,
    answer: oneshot::Sender<Option<Answer>>,
}

/// An open watch.
pub(super) struct Stream(mpsc::UnboundedSender<Result<Bytes, std::io::Error>>);

impl Server {
    pub(super) async fn start() -> Self {
        let (sender, calls) = mpsc::unbounded_channel();
        let mut server = Self { address: ([127, 0, 0, 1], 0).into(), calls, sender, tasks: JoinSet::new() };
        server.listen().await;
        server
    }

    /// Listens at the address it had.
    pub(super) async fn listen(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        self.tasks.spawn(accept(listener, self.sender.clone()));
    }

    /// Stops listening and breaks all connections.
    pub(super) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }

    /// The next request.
    pub(super) async fn call(&mut self) -> Call {
        tokio::time::timeout(PATIENCE, self.calls.recv()).await.expect("a request in time").unwrap()
    }

    /// The next request, which must be a watch that asks for a streaming list.
    pub(super) async fn streaming_list(&mut self) -> Stream {
        let call = self.call().await;
        assert!(call.is("sendInitialEvents", "true"), "{:?}", call.query);
        assert!(call.is("resourceVersionMatch", "NotOlderThan") && call.is("allowWatchBookmarks", "true"));
        call.stream()
    }

    /// The next request, which must be a watch from this version.
    pub(super) async fn watch_from(&mut self, version: &str) -> Stream {
        let call = self.call().await;
        assert!(call.is("watch", "true") && call.is("resourceVersion", version), "{:?}", call.query);
        assert!(!call.query.contains_key("sendInitialEvents"), "{:?}", call.query);
        call.stream()
    }

    /// No request comes for a while.
    pub(super) async fn expect_no_call(&mut self, time: Duration) {
        let call = tokio::time::timeout(time, self.calls.recv()).await;
        assert!(call.is_err(), "unexpected {:?}", call.map(|call| call.map(|call| call.query)));
    }
}

async fn accept(listener: TcpListener, sender: mpsc::UnboundedSender<Call>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let sender = sender.clone();
        let service = service_fn(move |request| handle(request, sender.clone()));
        connections.spawn(async move {
            // A connection that breaks is what some tests are about.
            http1::Builder::new().serve_connection(TokioIo::new(socket), service).await.ok();
        });
    }
}

async fn handle(
    request: Request<Incoming>,
    sender: mpsc::UnboundedSender<Call>,
) -> Result<Answer, std::io::Error> {
    let query = request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let query = query.map(|(key, value)| (key.to_owned(), decoded(value))).collect();
    let accept = request.headers().get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let accept = accept.unwrap_or_default().to_owned();
    let (answer, answered) = oneshot::channel();
    sender.send(Call { path: request.uri().path().to_owned(), query, accept, answer }).ok();
    let answer = answered.await.unwrap_or_else(|_| Some(full(500, None, "the test did not answer")));
    answer.ok_or_else(|| std::io::Error::other("hung up by the test"))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}

fn full(code: u16, retry_after: Option<u64>, body: impl Into<Bytes>) -> Answer {
    let mut builder = Response::builder().status(code);
    if let Some(seconds) = retry_after {
        builder = builder.header("Retry-After", seconds);
    }
    builder.body(Full::new(body.into()).map_err(|never| match never {}).boxed()).unwrap()
}

impl Call {
    pub(super) fn is(&self, key: &str, value: &str) -> bool {
        self.query.get(key).map(String::as_str) == Some(value)
    }

    pub(super) fn refuse(self, code: u16, retry_after: Option<u64>) {
        let status = json!({"kind": "Status", "code": code, "reason": "Because", "message": "no"});
        self.answer.send(Some(full(code, retry_after, status.to_string()))).ok();
    }

    /// Closes the connection without an answer.
    pub(super) fn hang_up(self) {
        self.answer.send(None).ok();
    }

    pub(super) fn page(self, version: &str, continue_token: Option<&str>, items: &[Value]) {
        let page = json!({
            "kind": "List", "metadata": {"resourceVersion": version, "continue": continue_token}, "items": items,
        });
        self.answer.send(Some(full(200, None, page.to_string()))).ok();
    }

    pub(super) fn stream(self) -> Stream {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Result<Bytes, std::io::Error>>();
        let chunks = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        let body = StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data)));
        self.answer.send(Some(Response::new(BodyExt::boxed(body)))).ok();
        Stream(sender)
    }
}

impl Stream {
    pub(super) fn raw(&self, text: &str) {
        self.0.send(Ok(Bytes::copy_from_slice(text.as_bytes()))).unwrap();
    }

    pub(super) fn event(&self, kind: &str, object: &Value) {
        self.raw(&format!("{}\n", json!({"type": kind, "object": object})));
    }

    pub(super) fn added(&self, object: &Value) {
        self.event("ADDED", object);
    }

    pub(super) fn bookmark(&self, version: &str) {
        self.event("BOOKMARK", &json!({"kind": "Service", "metadata": {"resourceVersion": version}}));
    }

    /// The bookmark at the end of a streaming list.
    pub(super) fn complete(&self, version: &str) {
        let annotations = json!({"k8s.io/initial-events-end": "true"});
        let meta = json!({"resourceVersion": version, "annotations": annotations});
        self.event("BOOKMARK", &json!({"kind": "Service", "metadata": meta}));
    }

    pub(super) fn expired(&self) {
        self.event(
            "ERROR",
            &json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}),
        );
    }

    /// Breaks the connection.
    pub(super) fn cut(self) {
        self.0.send(Err(std::io::Error::other("cut by the test"))).ok();
    }
}
