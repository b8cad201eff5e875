//! What can go wrong between us and the API server.

use std::time::Duration;

use crate::watch::ErrorReason;
use crate::watch::source::ReceiverGone;

/// Why a list or watch ended. All but `ReceiverGone` are tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error("request failed")]
    Request(#[source] Box<kube::Error>),
    #[error("connection broke while reading")]
    Body(#[source] Box<kube::Error>),
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error("server says {code} {reason}: {message}")]
    Refused { code: u16, reason: String, message: String, retry_after: Option<Duration> },
    #[error("resource version is too old: {0}")]
    Expired(String),
    #[error("streaming list did not say that it is complete within {0:?}")]
    NoEndOfList(Duration),
    #[error("watch ended as soon as it began")]
    EndedEarly,
    #[error("answer cannot be read")]
    Answer(#[source] serde_json::Error),
    #[error("answer has a line of more than {0} bytes")]
    LineTooLong(usize),
    #[error("list has no resource version")]
    NoResourceVersion,
    #[error(transparent)]
    ReceiverGone(#[from] ReceiverGone),
}

impl WatchError {
    /// The reason as metrics have it.
    pub(super) fn reason(&self) -> ErrorReason {
        match self {
            Self::Request(_) | Self::Body(_) | Self::EndedEarly | Self::ReceiverGone(_) => {
                ErrorReason::Transport
            }
            Self::NoAnswer(_) | Self::NoEndOfList(_) => ErrorReason::Timeout,
            Self::Expired(_) => ErrorReason::Expired,
            Self::Refused { code: 429, .. } => ErrorReason::Throttled,
            Self::Refused { code: 401 | 403, .. } => ErrorReason::Forbidden,
            Self::Refused { code: 404, .. } => ErrorReason::NotFound,
            Self::Refused { .. } => ErrorReason::Server,
            Self::Answer(_) | Self::LineTooLong(_) | Self::NoResourceVersion => ErrorReason::Decode,
        }
    }

    /// The least wait that the server asked for.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether a connection ended before it carried any of the answer.
    pub(super) fn is_stale_connection(&self) -> bool {
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
                return true;
            }
            source = error.source();
        }
        false
    }
}
