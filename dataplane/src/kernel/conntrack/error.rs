//! Why cleaning failed.

use std::io;

use netlink_socket2::ReplyError;

/// Why a conntrack call failed; flows deleted before the failure stay deleted.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    /// The process may not read or change the conntrack table.
    #[error("no permission to {operation} (CAP_NET_ADMIN is needed)")]
    Denied {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel has no netlink interface to connection tracking.
    #[error(
        "cannot {operation}: conntrack over netlink is not there (is the module nf_conntrack_netlink loaded?)"
    )]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel refused for another reason.
    #[error("cannot {operation}: {detail}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer with its extended explanation.
        detail: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl ConntrackError {
    /// Sorts an answer of the kernel. Errno 22 is what nfnetlink says for a subsystem that is not loaded.
    pub(super) fn from_io(operation: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Denied { operation, source },
            Some(libc::EINVAL | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => {
                Self::Unavailable { operation, source }
            }
            _ => Self::Refused { operation, detail: source.to_string(), source },
        }
    }

    /// The same for a reply, whose extended acknowledgement is kept as text.
    pub(super) fn from_reply(operation: &'static str, reply: ReplyError) -> Self {
        let detail = reply.to_string();
        match Self::from_io(operation, reply.into()) {
            Self::Refused { operation, source, .. } => Self::Refused { operation, detail, source },
            sorted => sorted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sorted_by_who_can_help() {
        let sort = |errno| ConntrackError::from_io("list", io::Error::from_raw_os_error(errno));
        assert!(matches!(sort(libc::EPERM), ConntrackError::Denied { .. }));
        assert!(matches!(sort(libc::EINVAL), ConntrackError::Unavailable { .. }));
        assert!(matches!(sort(libc::ENOBUFS), ConntrackError::Refused { .. }));
    }

    #[test]
    fn messages_say_what_to_do() {
        let text = |errno| ConntrackError::from_io("list", io::Error::from_raw_os_error(errno)).to_string();
        assert!(text(libc::EPERM).contains("CAP_NET_ADMIN"));
        assert!(text(libc::EINVAL).contains("nf_conntrack_netlink"));
    }
}
