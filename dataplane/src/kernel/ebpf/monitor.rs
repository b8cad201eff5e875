//! Hearing of what changes around the programs: interfaces, addresses, classic filters, and the masquerade rule.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket,
    sockopt,
};

use crate::kernel::netlink::{Messages, Notifications};
use crate::kernel::nftables::tells_of_mark_table;

/// What the kernel may queue before it says that there was too much.
const QUEUE: usize = 1 << 20;
/// `RTMGRP_TC`, which libc does not have: qdiscs and filters.
const RTMGRP_TC: i32 = 8;
const GROUPS: i32 = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR | RTMGRP_TC;
/// `NFNLGRP_NFTABLES`
const NFTABLES: u32 = 7;

/// What was reported. It is only a reason to look again, so lost messages lose nothing: they count as everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Interfaces or addresses came, went or changed.
    pub(super) interfaces: bool,
    /// Filters or qdiscs went.
    pub(super) filters: bool,
    /// Something of the table with the masquerade rule changed.
    pub(super) rule: bool,
}

impl News {
    pub(super) const EVERYTHING: Self = Self { interfaces: true, filters: true, rule: true };

    const fn with(self, other: Self) -> Self {
        Self {
            interfaces: self.interfaces || other.interfaces,
            filters: self.filters || other.filters,
            rule: self.rule || other.rule,
        }
    }
}

/// Listens.
#[derive(Debug)]
pub(super) struct Monitor {
    route: OwnedFd,
    /// `None` where the kernel has no nftables, and so no rule.
    rules: Option<Notifications>,
}

impl Monitor {
    /// Listens in the network namespace of the calling thread.
    pub(super) fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let route = socket(AddressFamily::Netlink, SockType::Raw, flags, Some(SockProtocol::NetlinkRoute))?;
        setsockopt(&route, sockopt::RcvBufForce, &QUEUE)?;
        bind(route.as_raw_fd(), &NetlinkAddr::new(0, GROUPS.cast_unsigned()))?;
        Ok(Self { route, rules: Notifications::netfilter(NFTABLES).ok() })
    }

    /// Waits until something was reported, or for `limit`.
    pub(super) fn wait(&mut self, limit: Duration) -> io::Result<News> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut descriptors = vec![readable(self.route.as_fd())];
        descriptors.extend(self.rules.as_ref().map(|rules| readable(rules.as_fd())));
        match poll(&mut descriptors, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(News::default()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let rule = match &mut self.rules {
            Some(rules) => rules.drain(tells_of_mark_table)?,
            None => false,
        };
        Ok(self.drain_route()?.with(News { rule, ..News::default() }))
    }

    fn drain_route(&self) -> io::Result<News> {
        let mut news = News::default();
        let mut buffer = vec![0; 32 << 10];
        loop {
            match recv(self.route.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    let messages = Messages::new(buffer.get(..length).unwrap_or_default());
                    news = messages.fold(news, |news, message| news.with(of(message.kind)));
                }
                Err(Errno::ENOBUFS) => news = News::EVERYTHING,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(news),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What a message of this kind tells.
fn of(kind: u16) -> News {
    let none = News::default();
    match kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK | libc::RTM_NEWADDR | libc::RTM_DELADDR => {
            News { interfaces: true, ..none }
        }
        libc::RTM_DELQDISC | libc::RTM_DELTFILTER => News { filters: true, ..none },
        _ => none,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_take_something_away_is_news_about_filters() {
        assert!(of(libc::RTM_NEWLINK).interfaces && of(libc::RTM_DELADDR).interfaces);
        assert!(of(libc::RTM_DELTFILTER).filters && of(libc::RTM_DELQDISC).filters);
        assert_eq!(of(libc::RTM_NEWTFILTER), News::default());
        assert_eq!(of(libc::RTM_NEWQDISC), News::default());
        let both = of(libc::RTM_NEWLINK).with(News { rule: true, ..News::default() });
        assert_eq!(both, News { interfaces: true, filters: false, rule: true });
    }
}
