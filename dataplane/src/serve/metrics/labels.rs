//! Label values.

use crate::domain::IpFamily;

/// The two traffic policies that can be Local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalPolicy {
    /// `internalTrafficPolicy`.
    Internal,
    /// `externalTrafficPolicy`.
    External,
}

impl LocalPolicy {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Internal, Self::External];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::External => "external",
        }
    }
}

/// Why the kernel state had to be brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// The kernel told that somebody else changed it.
    Notified,
    /// An audit found differences.
    Audit,
    /// A sync had failed.
    Failure,
}

impl Repair {
    pub(super) const ALL: [Self; 3] = [Self::Notified, Self::Audit, Self::Failure];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Notified => "notified",
            Self::Audit => "audit",
            Self::Failure => "failure",
        }
    }
}

/// Why a watch was started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchRestart {
    /// The server ended it in order, as it does every few minutes.
    Closed,
    /// The resource version is too old (410): a new list is needed.
    Expired,
    /// The connection broke, or could not be made.
    Disconnected,
    /// Nothing was heard for too long.
    Silent,
    /// The server asks for patience (429).
    Throttled,
    /// The server refuses (401, 403 and other answers of that kind).
    Refused,
    /// The server sent what cannot be understood.
    Garbled,
}

impl WatchRestart {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Expired => "expired",
            Self::Disconnected => "disconnected",
            Self::Silent => "silent",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::Garbled => "garbled",
        }
    }
}

pub(super) const fn family(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "IPv4",
        IpFamily::V6 => "IPv6",
    }
}

pub(super) const fn code(ok: bool) -> &'static str {
    if ok { "200" } else { "503" }
}
