//! Misbehaviour on demand, and what clients asked for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// One request that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query, still encoded.
    pub query: String,
}

/// How requests are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status: 429, 503, 500 ...
    pub status: u16,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u32>,
}

/// The switches of a misbehaving server. All can be turned at any time.
#[derive(Debug)]
pub struct Faults {
    /// Raised to end all watches that are open.
    watch_epoch: watch::Sender<u64>,
    frozen: watch::Sender<bool>,
    settings: Mutex<Settings>,
    requests: Mutex<Vec<Request>>,
}

#[derive(Debug)]
struct Settings {
    refusal: Option<Refusal>,
    /// By plural name.
    resource_refusals: BTreeMap<String, Refusal>,
    delay: Duration,
    streaming_lists: bool,
    bookmark_interval: Duration,
    max_page: usize,
    token: Option<String>,
}

impl Default for Faults {
    fn default() -> Self {
        let settings = Settings {
            refusal: None,
            resource_refusals: BTreeMap::new(),
            delay: Duration::ZERO,
            streaming_lists: true,
            bookmark_interval: Duration::from_secs(5),
            max_page: usize::MAX,
            token: None,
        };
        Self {
            watch_epoch: watch::Sender::new(0),
            frozen: watch::Sender::new(false),
            settings: Mutex::new(settings),
            requests: Mutex::new(Vec::new()),
        }
    }
}

impl Faults {
    fn with<T>(&self, act: impl FnOnce(&mut Settings) -> T) -> T {
        act(&mut self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends every open watch in the middle of its stream.
    pub fn drop_watches(&self) {
        self.watch_epoch.send_modify(|epoch| *epoch += 1);
    }

    /// While frozen nothing is answered and nothing is sent, but connections stay open: half-open peers.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Refuses every request in this way; `None` serves again.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.with(|settings| settings.refusal = refusal);
    }

    /// Refuses requests for one resource, by its plural name: not offered, or not allowed.
    pub fn refuse_resource(&self, plural: &str, refusal: Option<Refusal>) {
        self.with(|settings| match refusal {
            Some(refusal) => drop(settings.resource_refusals.insert(plural.to_owned(), refusal)),
            None => drop(settings.resource_refusals.remove(plural)),
        });
    }

    /// Delays every answer.
    pub fn delay(&self, delay: Duration) {
        self.with(|settings| settings.delay = delay);
    }

    /// Whether `sendInitialEvents` is known; servers before 1.32 refuse it.
    pub fn streaming_lists(&self, known: bool) {
        self.with(|settings| settings.streaming_lists = known);
    }

    /// How often idle watches get a bookmark.
    pub fn bookmark_interval(&self, interval: Duration) {
        self.with(|settings| settings.bookmark_interval = interval);
    }

    /// Makes pages no larger than this, whatever clients ask for.
    pub fn max_page(&self, items: usize) {
        self.with(|settings| settings.max_page = items);
    }

    /// Asks for this bearer token from now on; `None` lets everybody in.
    pub fn require_token(&self, token: Option<String>) {
        self.with(|settings| settings.token = token);
    }

    /// Every request so far, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn record(&self, request: Request) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    /// How a request for `path` is refused.
    pub(super) fn refusal(&self, path: &str) -> Option<Refusal> {
        let part_of_path = |plural: &str| path.split('/').any(|part| part == plural);
        self.with(|settings| {
            let mut refusals = settings.resource_refusals.iter();
            let of_resource = refusals.find(|(plural, _)| part_of_path(plural)).map(|(_, refusal)| *refusal);
            settings.refusal.or(of_resource)
        })
    }

    pub(super) fn knows_streaming_lists(&self) -> bool {
        self.with(|settings| settings.streaming_lists)
    }

    pub(super) fn bookmarks(&self) -> Duration {
        self.with(|settings| settings.bookmark_interval)
    }

    pub(super) fn page_limit(&self, asked: usize) -> usize {
        let largest = self.with(|settings| settings.max_page);
        if asked == 0 && largest == usize::MAX { 0 } else { asked.min(largest).max(1) }
    }

    pub(super) fn admits(&self, authorization: Option<&str>) -> bool {
        let token = self.with(|settings| settings.token.clone());
        token.is_none_or(|token| authorization == Some(&format!("Bearer {token}")))
    }

    /// Waits out the delay and the frost.
    pub(super) async fn hold(&self) {
        let delay = self.with(|settings| settings.delay);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.thaw().await;
    }

    /// Waits while frozen.
    pub(super) async fn thaw(&self) {
        let mut frozen = self.frozen.subscribe();
        // The sender lives as long as `self`: waiting cannot fail.
        drop(frozen.wait_for(|frozen| !*frozen).await);
    }

    pub(super) fn watch_epoch(&self) -> watch::Receiver<u64> {
        self.watch_epoch.subscribe()
    }
}
