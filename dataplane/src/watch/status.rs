//! How the sources are doing: shared counters for metrics and the status page.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::domain::ObjectKind;

/// Why a list or watch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorReason {
    /// No connection, or it broke.
    Transport,
    /// No answer in time.
    Timeout,
    /// The resource version is too old (410): a new list is needed.
    Expired,
    /// The server asks us to slow down (429).
    Throttled,
    /// Not authenticated or not allowed (401, 403).
    Forbidden,
    /// The server has no such resource (404).
    NotFound,
    /// Another refusal of the server.
    Server,
    /// The answer (or file) cannot be read.
    Decode,
}

impl ErrorReason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Transport,
        Self::Timeout,
        Self::Expired,
        Self::Throttled,
        Self::Forbidden,
        Self::NotFound,
        Self::Server,
        Self::Decode,
    ];

    /// As in metrics: `transport`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Timeout => "timeout",
            Self::Expired => "expired",
            Self::Throttled => "throttled",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Server => "server",
            Self::Decode => "decode",
        }
    }
}

/// State of the watch of one kind of object.
#[derive(Debug)]
pub struct KindStatus {
    started: Instant,
    connected: AtomicBool,
    synced: AtomicBool,
    absent: AtomicBool,
    /// Milliseconds since `started`, plus one; 0: nothing was heard yet.
    heard: AtomicU64,
    lists: AtomicU64,
    errors: [AtomicU64; ErrorReason::ALL.len()],
}

impl KindStatus {
    fn new(started: Instant) -> Self {
        Self {
            started,
            connected: AtomicBool::new(false),
            synced: AtomicBool::new(false),
            absent: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            errors: Default::default(),
        }
    }

    /// Whether a watch is open now.
    pub fn connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// Whether a complete list has been given.
    pub fn synced(&self) -> bool {
        self.synced.load(Relaxed)
    }

    /// Whether the server does not offer this (optional) resource to us.
    pub fn absent(&self) -> bool {
        self.absent.load(Relaxed)
    }

    /// How long nothing has been heard: no event, no bookmark, no list. `None` if the resource is absent. A healthy API
    /// server sends bookmarks about once a minute.
    pub fn age(&self) -> Option<Duration> {
        let heard = Duration::from_millis(self.heard.load(Relaxed).saturating_sub(1));
        (!self.absent()).then(|| self.started.elapsed().saturating_sub(heard))
    }

    /// Complete lists so far; all but the first are relists.
    pub fn lists(&self) -> u64 {
        self.lists.load(Relaxed)
    }

    /// Failures so far, for each reason.
    pub fn errors(&self) -> impl Iterator<Item = (ErrorReason, u64)> + '_ {
        ErrorReason::ALL.into_iter().zip(self.errors.iter().map(|count| count.load(Relaxed)))
    }

    pub(super) fn hear(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.heard.store(now + 1, Relaxed);
    }

    pub(super) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Relaxed);
    }

    pub(super) fn set_absent(&self, absent: bool) {
        self.absent.store(absent, Relaxed);
    }

    pub(super) fn count_list(&self) {
        self.hear();
        self.synced.store(true, Relaxed);
        self.lists.fetch_add(1, Relaxed);
    }

    pub(super) fn count_error(&self, reason: ErrorReason) {
        if let Some(count) = self.errors.get(reason as usize) {
            count.fetch_add(1, Relaxed);
        }
    }
}

/// State of all watches of a source.
#[derive(Debug)]
pub struct WatchStatus {
    services: KindStatus,
    slices: KindStatus,
    nodes: KindStatus,
    service_cidrs: KindStatus,
    pods: KindStatus,
}

impl WatchStatus {
    pub(super) fn new() -> Self {
        let started = Instant::now();
        Self {
            services: KindStatus::new(started),
            slices: KindStatus::new(started),
            nodes: KindStatus::new(started),
            service_cidrs: KindStatus::new(started),
            pods: KindStatus::new(started),
        }
    }

    /// State of one kind.
    pub const fn kind(&self, kind: ObjectKind) -> &KindStatus {
        match kind {
            ObjectKind::Service => &self.services,
            ObjectKind::EndpointSlice => &self.slices,
            ObjectKind::Node => &self.nodes,
            ObjectKind::ServiceCidr => &self.service_cidrs,
            ObjectKind::Pod => &self.pods,
        }
    }

    /// All kinds that every dataplane needs.
    pub const KINDS: [ObjectKind; 4] =
        [ObjectKind::Service, ObjectKind::EndpointSlice, ObjectKind::Node, ObjectKind::ServiceCidr];

    /// All kinds that are watched: pods only where somebody asked for them.
    pub fn in_use(&self) -> impl Iterator<Item = ObjectKind> + use<> {
        let is_used = self.pods.connected() || self.pods.absent() || self.pods.lists() > 0;
        Self::KINDS.into_iter().chain(is_used.then_some(ObjectKind::Pod))
    }

    /// Whether complete lists of all kinds have been given.
    pub fn synced(&self) -> bool {
        Self::KINDS.into_iter().all(|kind| self.kind(kind).synced() || self.kind(kind).absent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_under_their_own_reason() {
        let status = WatchStatus::new();
        let services = status.kind(ObjectKind::Service);
        services.count_error(ErrorReason::Decode);
        services.count_error(ErrorReason::Decode);
        services.count_error(ErrorReason::Transport);
        let counted: Vec<_> = services.errors().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(ErrorReason::Transport, 1), (ErrorReason::Decode, 2)]);
    }

    #[test]
    fn an_absent_kind_has_no_age_and_does_not_hold_up_the_sync() {
        let status = WatchStatus::new();
        for kind in WatchStatus::KINDS {
            assert!(!status.synced(), "before {kind:?}");
            if kind == ObjectKind::ServiceCidr {
                status.kind(kind).set_absent(true);
            } else {
                status.kind(kind).count_list();
            }
        }
        assert!(status.synced());
        assert!(status.kind(ObjectKind::ServiceCidr).age().is_none());
        assert!(status.kind(ObjectKind::Node).age().is_some());
    }
}
