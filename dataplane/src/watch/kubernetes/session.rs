//! List, watch and recover: one session for each kind of object.
//!
//! ```text
//!            no position                    position (a resource version)
//! list (streamed or in pages)  ------------>  watch from the position
//!        ^                                        |          |
//!        |  410 Gone: position lost                |          |  end, broken connection, refusal: wait, watch again
//!        +----------------------------------------+          +---> from the position of the last event
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kube::Client;
use kube::api::{ListParams, WatchParams};
use rand::Rng;
use tracing::{info, warn};

use super::api::{Api, invalid_request, read_page};
use super::backoff::Backoff;
use super::error::WatchError;
use super::lines::Lines;
use super::messages::{Bookmark, Page, Status, WatchLine};
use super::target::Target;
use super::tracker::Tracker;
use crate::domain::{Event, ObjectKind};
use crate::watch::source::{ReceiverGone, Sink};
use crate::watch::wire::AnyObject;
use crate::watch::{ErrorReason, KindStatus, WatchStatus};

const PAGE_SIZE: u32 = 500;
/// Watches are asked to end after a time in this range (seconds), each its own, as client-go does.
const WATCH_SECONDS: std::ops::Range<u32> = 300..600;
/// A watch that outlives what was asked for by this much is dead.
const WATCH_GRACE: Duration = Duration::from_secs(15);
/// Silence within a streaming list after which it is taken that the server does not know what one is.
const STREAM_PATIENCE: Duration = Duration::from_secs(15);
/// Silence after which a watch is begun again where it was. API servers send a bookmark about every minute, so that a
/// silent one hangs or sits behind a connection that nobody has closed.
const WATCH_PATIENCE: Duration = Duration::from_secs(150);
/// A watch that ends sooner than this counts as a failure, so that a server cannot make us call it in a rush.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// Whether the server can stream lists: assumed until it refuses, then remembered for all kinds.
#[derive(Debug, Default)]
pub(super) struct Streaming {
    refused: AtomicBool,
}

/// The watch of one kind of object.
pub(super) struct Session {
    api: Api,
    target: Target,
    tracker: Box<dyn Tracker>,
    sink: Sink,
    status: Arc<WatchStatus>,
    streaming: Arc<Streaming>,
    backoff: Backoff,
    /// Resource version up to which everything is known.
    position: Option<String>,
    synced: bool,
    events: Vec<Event>,
    /// Silence that a streaming list may have.
    pub(super) stream_patience: Duration,
    pub(super) watch_patience: Duration,
}

impl Session {
    pub(super) fn new(
        client: Client,
        target: Target,
        tracker: Box<dyn Tracker>,
        sink: Sink,
        status: Arc<WatchStatus>,
        streaming: Arc<Streaming>,
    ) -> Self {
        let backoff = Backoff::default();
        Self {
            api: Api::new(client),
            target,
            tracker,
            sink,
            status,
            streaming,
            backoff,
            position: None,
            synced: false,
            events: Vec::new(),
            stream_patience: STREAM_PATIENCE,
            watch_patience: WATCH_PATIENCE,
        }
    }

    /// Runs until nobody receives the events any more.
    pub(super) async fn run(mut self) {
        let sink = self.sink.clone();
        tokio::select! {
            () = sink.closed() => {}
            () = self.watch_forever() => {}
        }
    }

    async fn watch_forever(&mut self) {
        loop {
            let outcome = self.attempt().await;
            self.kind_status().set_connected(false);
            match outcome {
                Ok(()) => {}
                Err(WatchError::ReceiverGone(_)) => return,
                Err(error) => {
                    if self.recover(&error).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn kind_status(&self) -> &KindStatus {
        self.status.kind(self.target.kind)
    }

    /// One list if the position is lost, and one watch.
    async fn attempt(&mut self) -> Result<(), WatchError> {
        if self.position.is_none() && !self.streaming.refused.load(Relaxed) {
            match self.watch(true).await {
                Err(WatchError::Refused { code: 400 | 405 | 415 | 422 | 501, reason, message, .. }) => {
                    self.refuse_streaming(&format!("{reason}: {message}"));
                }
                Err(error @ WatchError::NoEndOfList(_)) => {
                    self.refuse_streaming(&error.to_string());
                }
                outcome => return outcome,
            }
        }
        if self.position.is_none() {
            self.list_pages().await?;
        }
        self.watch(false).await
    }

    fn refuse_streaming(&self, reason: &str) {
        if !self.streaming.refused.swap(true, Relaxed) {
            info!(
                resource = self.target.kind.resource(),
                reason, "the API server does not stream lists: reading pages"
            );
        }
    }

    // ---- list

    async fn list_pages(&mut self) -> Result<(), WatchError> {
        self.tracker.begin_list();
        let mut params = ListParams {
            label_selector: self.target.labels.clone(),
            field_selector: self.target.fields.clone(),
            limit: Some(PAGE_SIZE),
            ..ListParams::default()
        };
        loop {
            let request = self.target.list(&params).map_err(invalid_request)?;
            let body = read_page(self.api.send(request).await?).await?;
            let received = Instant::now();
            let page: Page<'_> = serde_json::from_slice(&body).map_err(WatchError::Answer)?;
            for item in page.items.iter().flatten() {
                self.tracker.apply(item.get(), &mut self.events);
            }
            self.kind_status().hear();
            self.sink.send(&mut self.events, received).await?;
            params.continue_token = page.metadata.continue_token.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let version = page.metadata.resource_version.filter(|version| !version.is_empty());
                let version = version.ok_or(WatchError::NoResourceVersion)?;
                return self.end_list(version, received).await;
            }
        }
    }

    async fn end_list(&mut self, version: String, received: Instant) -> Result<(), WatchError> {
        self.tracker.end_list(&mut self.events);
        self.position = Some(version);
        self.kind_status().set_absent(false);
        self.kind_status().count_list();
        self.give_synced(received).await?;
        self.succeed();
        Ok(())
    }

    async fn give_synced(&mut self, received: Instant) -> Result<(), ReceiverGone> {
        if !std::mem::replace(&mut self.synced, true) {
            self.events.push(Event::Synced(self.target.kind));
        }
        self.sink.send(&mut self.events, received).await
    }

    // ---- watch

    /// Watches from the position, or from nothing as a streaming list. `Ok` when the server ends the watch.
    async fn watch(&mut self, as_list: bool) -> Result<(), WatchError> {
        let seconds = rand::rng().random_range(WATCH_SECONDS);
        let params = WatchParams {
            label_selector: self.target.labels.clone(),
            field_selector: self.target.fields.clone(),
            timeout: Some(seconds),
            bookmarks: true,
            send_initial_events: as_list,
        };
        let version = self.position.clone().unwrap_or_default();
        let request = self.target.watch(&params, &version).map_err(invalid_request)?;
        let response = self.api.send(request).await?;
        self.kind_status().set_connected(true);
        if as_list {
            self.tracker.begin_list();
        }
        let deadline = Instant::now() + Duration::from_secs(u64::from(seconds)) + WATCH_GRACE;
        self.follow(Lines::new(response.into_body()), as_list, deadline).await
    }

    async fn follow(&mut self, mut lines: Lines, as_list: bool, deadline: Instant) -> Result<(), WatchError> {
        let began = Instant::now();
        let mut listing = as_list;
        // Whether the watch has proven to be one: by a word, or by lasting.
        let mut settled = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = match (listing, settled) {
                (true, _) => left.min(self.stream_patience),
                (false, false) => left.min(SHORTEST_WATCH),
                (false, true) => left.min(self.watch_patience),
            };
            match lines.fill(patience).await {
                Ok(true) => {}
                Ok(false) if !listing && began.elapsed() >= SHORTEST_WATCH => return Ok(()),
                Ok(false) => return Err(WatchError::EndedEarly),
                Err(WatchError::NoAnswer(patience)) if listing => {
                    return Err(WatchError::NoEndOfList(patience));
                }
                Err(WatchError::NoAnswer(_)) if !settled => {
                    settled = true;
                    self.succeed();
                    continue;
                }
                Err(error) => return Err(error),
            }
            let received = Instant::now();
            while let Some(line) = lines.next()? {
                settled = true;
                if let Some(version) = self.take_line(&line, listing)? {
                    listing = false;
                    self.end_list(version, received).await?;
                }
            }
            self.kind_status().hear();
            self.sink.send(&mut self.events, received).await?;
            if settled && !listing {
                self.succeed();
            }
        }
    }

    /// Handles one watch event; gives the position if it ends the streaming list.
    fn take_line(&mut self, line: &Bytes, listing: bool) -> Result<Option<String>, WatchError> {
        if line.is_empty() {
            return Ok(None);
        }
        let line: WatchLine<'_> = serde_json::from_slice(line).map_err(WatchError::Answer)?;
        let json = line.object.get();
        match &*line.kind {
            "ADDED" | "MODIFIED" => self.tracker.apply(json, &mut self.events),
            "DELETED" => self.tracker.delete(json, &mut self.events),
            "BOOKMARK" => return self.take_bookmark(json, listing),
            "ERROR" => return Err(Status::parse_lossy(json.as_bytes()).into_error(None, None)),
            other => {
                warn!(resource = self.target.kind.resource(), kind = other, "unknown watch event is ignored");
                return Ok(None);
            }
        }
        if !listing {
            self.advance(json);
        }
        Ok(None)
    }

    fn take_bookmark(&mut self, json: &str, listing: bool) -> Result<Option<String>, WatchError> {
        let bookmark = Bookmark::parse(json)?;
        if listing {
            return Ok(bookmark.ends_list.then_some(bookmark.resource_version));
        }
        if self.is_ahead_of(&bookmark.resource_version) {
            let reason = format!("the server has gone back to {}", bookmark.resource_version);
            return Err(WatchError::Expired(reason));
        }
        self.position = Some(bookmark.resource_version);
        Ok(None)
    }

    /// A server that was reset has lower versions than we know: only a new list tells what is there now.
    fn is_ahead_of(&self, version: &str) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        self.position
            .as_deref()
            .and_then(number)
            .zip(number(version))
            .is_some_and(|(ours, theirs)| ours > theirs)
    }

    fn advance(&mut self, json: &str) {
        let version =
            serde_json::from_str::<AnyObject<'_>>(json).map(|object| object.metadata.resource_version);
        if let Ok(version) = version
            && !version.is_empty()
        {
            self.position = Some(version.to_string());
        }
    }

    // ---- failure

    /// Notes the failure and waits before the next attempt.
    async fn recover(&mut self, error: &WatchError) -> Result<(), ReceiverGone> {
        // Events of the part that could be read are good.
        self.sink.send(&mut self.events, Instant::now()).await?;
        let reason = error.reason();
        self.kind_status().count_error(reason);
        if reason == ErrorReason::Expired {
            self.position = None;
            if self.backoff.failures() == 0 {
                info!(resource = self.target.kind.resource(), reason = %error, "listing again");
                self.backoff.after(reason, false, None);
                return Ok(());
            }
        }
        let absent = self.target.optional && matches!(reason, ErrorReason::NotFound | ErrorReason::Forbidden);
        if absent {
            self.do_without().await?;
        }
        let wait = self.backoff.after(reason, absent, error.retry_after());
        // One line at the 1st, 2nd, 4th, 8th ... failure of a row.
        if !absent && self.backoff.failures().is_power_of_two() {
            let failures = self.backoff.failures();
            warn!(
                resource = self.target.kind.resource(),
                error = chain(error),
                failures,
                ?wait,
                "watch failed"
            );
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// The resource is not offered to us: everything goes on as if there were none.
    async fn do_without(&mut self) -> Result<(), ReceiverGone> {
        self.kind_status().set_absent(true);
        if self.synced {
            return Ok(());
        }
        if self.target.kind == ObjectKind::Pod {
            warn!(
                "pods of this node may not be listed: annotations that turn socket load balancing off have no effect"
            );
        } else {
            info!(
                resource = self.target.kind.resource(),
                "the API server does not offer this: going on without"
            );
        }
        if self.target.kind == ObjectKind::ServiceCidr {
            self.events.push(Event::ServiceCidrs(Vec::new()));
        }
        self.give_synced(Instant::now()).await
    }

    fn succeed(&mut self) {
        if self.backoff.failures() > 1 {
            info!(resource = self.target.kind.resource(), "watching again");
        }
        self.backoff.reset();
    }
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
