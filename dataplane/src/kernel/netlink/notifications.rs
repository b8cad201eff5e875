//! A socket that listens to what happens, instead of asking.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket,
    sockopt,
};

/// What the kernel may queue before it says that there was too much.
const QUEUE: usize = 1 << 20;

/// A non-blocking `NETLINK_NETFILTER` socket that belongs to one multicast group.
#[derive(Debug)]
pub struct Notifications {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Notifications {
    /// Joins `group` (`NFNLGRP_*`) in the network namespace of the calling thread.
    pub fn netfilter(group: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        setsockopt(&fd, sockopt::RcvBufForce, &QUEUE)?;
        // Groups up to 32 are bits of the address.
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 1 << group.saturating_sub(1).min(31)))?;
        Ok(Self { fd, buffer: vec![0; 64 << 10] })
    }

    /// Reads everything that is queued. True if `interesting` says so of any datagram, or if some were lost.
    pub fn drain(&mut self, mut interesting: impl FnMut(&[u8]) -> bool) -> io::Result<bool> {
        let mut any = false;
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => any |= interesting(self.buffer.get(..length).unwrap_or_default()),
                Err(Errno::ENOBUFS) => any = true,
                Err(Errno::EAGAIN) => return Ok(any),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsRawFd for Notifications {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
