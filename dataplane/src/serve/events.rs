//! Events on Kubernetes objects: what an operator should see with `kubectl describe`.
//!
//! Emitting never waits and never fails: what cannot be sent is in the log anyway.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use super::event_limiter::EventLimiter;
use crate::domain::ServiceName;

/// Events that wait to be sent; more are left to the log.
const QUEUE: usize = 256;
/// Attempts while the API cannot be reached, and the pause between them.
const ATTEMPTS: u32 = 12;
const RETRY: Duration = Duration::from_secs(10);
/// How long the API may take for one.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest note the API takes.
const NOTE: usize = 1024;

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventObject {
    /// This node.
    Node,
    /// A Service, with its `metadata.uid`.
    Service(ServiceName, Arc<str>),
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// News.
    Normal,
    /// Something for somebody to look at.
    Warning,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterEvent {
    /// To what.
    pub object: EventObject,
    /// How bad it is.
    pub severity: Severity,
    /// Why, in one CamelCase word: `FailedToStartServiceHealthcheck`.
    pub reason: &'static str,
    /// What was being done, in one CamelCase word: `Listen`.
    pub action: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// What owners of Services are warned about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceWarning {
    /// Another Service has the same address and port, and keeps it.
    FrontendConflict,
    /// The kernel refuses a frontend.
    FrontendRefused,
    /// `loadBalancerSourceRanges` names ranges of one address family only, of a Service that has two.
    SourceRangesOfOneFamily,
    /// A part of the object cannot be used.
    UnusableField,
}

impl ServiceWarning {
    const fn reason(self) -> &'static str {
        match self {
            Self::FrontendConflict => "FrontendConflict",
            Self::FrontendRefused => "FrontendRefused",
            Self::SourceRangesOfOneFamily => "SourceRangesOfOneFamily",
            Self::UnusableField => "UnusableField",
        }
    }
}

impl ClusterEvent {
    /// The agent starts to serve this node.
    pub const fn starting() -> Self {
        Self {
            object: EventObject::Node,
            severity: Severity::Normal,
            reason: "Starting",
            action: "StartKubeProxy",
            message: String::new(),
        }
    }

    /// Something does not work on this node, and something else is done instead.
    pub const fn degraded(message: String) -> Self {
        Self {
            object: EventObject::Node,
            severity: Severity::Warning,
            reason: "DataplaneDegraded",
            action: "StartKubeProxy",
            message,
        }
    }

    /// A Service has a problem that its owner can solve.
    pub const fn service_warning(
        service: ServiceName,
        uid: Arc<str>,
        warning: ServiceWarning,
        message: String,
    ) -> Self {
        Self {
            object: EventObject::Service(service, uid),
            severity: Severity::Warning,
            reason: warning.reason(),
            action: "Program",
            message,
        }
    }

    fn log(&self) {
        let (object, reason, message) = (&self.object, self.reason, self.message.as_str());
        match self.severity {
            Severity::Normal => tracing::info!(%object, reason, message),
            Severity::Warning => tracing::warn!(%object, reason, message),
        }
    }

    fn to_kube(&self) -> Event {
        Event {
            type_: match self.severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: self.reason.to_owned(),
            note: Some(shortened(&self.message)),
            action: self.action.to_owned(),
            secondary: None,
        }
    }
}

/// The longest beginning of at most [`NOTE`] bytes.
fn shortened(message: &str) -> String {
    message.get(..message.floor_char_boundary(NOTE)).unwrap_or_default().to_owned()
}

impl fmt::Display for EventObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Service(name, _) => write!(f, "service {name}"),
        }
    }
}

/// Where Events go.
pub trait EventSink: Send + Sync + fmt::Debug {
    /// Takes an Event; never waits.
    fn emit(&self, event: ClusterEvent);
}

/// Events go to the log only: there is no API.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogEvents;

impl EventSink for LogEvents {
    fn emit(&self, event: ClusterEvent) {
        event.log();
    }
}

/// Events are kept, for tests.
#[derive(Debug, Default)]
pub struct RecordedEvents(Mutex<Vec<ClusterEvent>>);

impl RecordedEvents {
    /// All so far.
    pub fn all(&self) -> Vec<ClusterEvent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl EventSink for RecordedEvents {
    fn emit(&self, event: ClusterEvent) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// Events go to the API (`events.k8s.io`) and to the log. Repetitions become one series, and only so many pass.
#[derive(Debug)]
pub struct KubeEvents {
    queue: mpsc::Sender<ClusterEvent>,
    limiter: Mutex<EventLimiter>,
}

impl KubeEvents {
    /// Starts the task that sends; it ends when the sink is dropped. Needs a tokio runtime.
    pub fn start(client: kube::Client, node: &str) -> Self {
        let (queue, events) = mpsc::channel(QUEUE);
        let reporter = Reporter { controller: "shunt".to_owned(), instance: Some(node.to_owned()) };
        tokio::spawn(send_all(Recorder::new(client, reporter), node.to_owned(), events));
        Self { queue, limiter: Mutex::new(EventLimiter::new(Instant::now())) }
    }
}

impl EventSink for KubeEvents {
    fn emit(&self, event: ClusterEvent) {
        event.log();
        let allowed =
            self.limiter.lock().unwrap_or_else(PoisonError::into_inner).allows(&event, Instant::now());
        if allowed && let Err(error) = self.queue.try_send(event) {
            tracing::debug!(%error, "event not sent");
        }
    }
}

async fn send_all(recorder: Recorder, node: String, mut events: mpsc::Receiver<ClusterEvent>) {
    while let Some(event) = events.recv().await {
        send(&recorder, &event.to_kube(), &reference(&event.object, &node), RETRY).await;
    }
}

/// Tries until the API takes or refuses the Event.
async fn send(recorder: &Recorder, event: &Event, about: &ObjectReference, retry: Duration) {
    for _ in 0..ATTEMPTS {
        match tokio::time::timeout(PATIENCE, recorder.publish(event, about)).await {
            Ok(Ok(())) => return,
            Ok(Err(kube::Error::Api(refusal))) => {
                tracing::debug!(%refusal, reason = event.reason, "the API refuses an event");
                return;
            }
            Ok(Err(error)) => tracing::debug!(%error, "event not sent yet"),
            Err(_) => tracing::debug!("event not sent yet: the API is silent"),
        }
        tokio::time::sleep(retry).await;
    }
}

/// The Node is named as kube-proxy and the kubelet name it, with its name for a uid: that is what tools look for.
fn reference(object: &EventObject, node: &str) -> ObjectReference {
    match object {
        EventObject::Node => ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            uid: Some(node.to_owned()),
            ..ObjectReference::default()
        },
        EventObject::Service(service, uid) => ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some(service.namespace.to_string()),
            name: Some(service.name.to_string()),
            uid: Some(uid.to_string()),
            ..ObjectReference::default()
        },
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
