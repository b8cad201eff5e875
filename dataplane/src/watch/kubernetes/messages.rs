//! The envelopes of the API: list pages, watch events, bookmarks and failures.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::WatchError;
use crate::watch::wire::{AnyObject, Text};

/// Annotation of the bookmark that ends a streaming list.
const END_OF_LIST: &str = "k8s.io/initial-events-end";

/// A page of a list; the items are left as text so that one that cannot be read does not take the others along.
#[derive(Debug, Deserialize)]
pub(super) struct Page<'a> {
    #[serde(default)]
    pub(super) metadata: PageMeta,
    #[serde(borrow, default)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

/// `metadata` of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PageMeta {
    pub(super) resource_version: Option<String>,
    #[serde(rename = "continue")]
    pub(super) continue_token: Option<String>,
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct WatchLine<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// What a bookmark says.
pub(super) struct Bookmark {
    pub(super) resource_version: String,
    pub(super) ends_list: bool,
}

impl Bookmark {
    pub(super) fn parse(json: &str) -> Result<Self, WatchError> {
        let object: AnyObject<'_> = serde_json::from_str(json).map_err(WatchError::Answer)?;
        Ok(Self {
            resource_version: object.metadata.resource_version.to_string(),
            ends_list: object.metadata.annotations.get(END_OF_LIST) == Some("true"),
        })
    }
}

/// A `Status` of failure.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    code: Option<u16>,
    reason: Option<String>,
    message: Option<String>,
    details: Option<StatusDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StatusDetails {
    retry_after_seconds: Option<u64>,
    causes: Option<Vec<StatusCause>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StatusCause {
    reason: Option<String>,
}

impl Status {
    /// Reads the body of a refusal, which may be anything: proxies in between answer in plain text or HTML.
    pub(super) fn parse_lossy(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_else(|_| {
            let text: String = String::from_utf8_lossy(body).trim().chars().take(200).collect();
            Self { message: Some(text), ..Self::default() }
        })
    }

    /// The failure; `http_code` and `retry_after` come from the response, if this is the body of one.
    pub(super) fn into_error(self, http_code: Option<u16>, retry_after: Option<Duration>) -> WatchError {
        let code = http_code.or(self.code).unwrap_or_default();
        let message = self.message.unwrap_or_default();
        let details = self.details.unwrap_or_default();
        // Ahead of the server (it was restored from a backup): only a new list tells what is there now.
        let ahead = details
            .causes
            .iter()
            .flatten()
            .any(|cause| cause.reason.as_deref() == Some("ResourceVersionTooLarge"));
        if code == 410 || ahead {
            return WatchError::Expired(message);
        }
        let retry_after = retry_after.or(details.retry_after_seconds.map(Duration::from_secs));
        WatchError::Refused { code, reason: self.reason.unwrap_or_default(), message, retry_after }
    }
}
