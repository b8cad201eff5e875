//! Why cleaning failed.

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
        source: ReplyError,
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
        source: ReplyError,
    },
    /// The kernel refused for another reason.
    #[error("cannot {operation}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: ReplyError,
    },
}

impl ConntrackError {
    /// Sorts an answer of the kernel. EINVAL is what nfnetlink says for a subsystem that is not loaded.
    pub(super) fn new(operation: &'static str, source: impl Into<ReplyError>) -> Self {
        let source = source.into();
        match source.as_io_error().raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Denied { operation, source },
            Some(libc::EINVAL | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => {
                Self::Unavailable { operation, source }
            }
            _ => Self::Refused { operation, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn answers_are_sorted_by_who_can_help() {
        let sort = |errno| ConntrackError::new("list", io::Error::from_raw_os_error(errno));
        assert!(matches!(sort(libc::EPERM), ConntrackError::Denied { .. }));
        assert!(matches!(sort(libc::EINVAL), ConntrackError::Unavailable { .. }));
        assert!(matches!(sort(libc::ENOBUFS), ConntrackError::Refused { .. }));
    }

    #[test]
    fn messages_say_what_to_do() {
        let text = |errno| ConntrackError::new("list", io::Error::from_raw_os_error(errno)).to_string();
        assert!(text(libc::EPERM).contains("CAP_NET_ADMIN"));
        assert!(text(libc::EINVAL).contains("nf_conntrack_netlink"));
    }
}
