//! Waiting for addresses to change.

#![expect(unsafe_code, reason = "a descriptor is handed to the reactor")]

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::unix::AsyncFd;

use super::current_addresses;

/// Changes come in bursts: an interface that comes up brings several.
const COALESCE: Duration = Duration::from_millis(10);

/// Knows the addresses of the namespace it was made in and waits for them to change. What the kernel reports is only a
/// reason to look again, so lost messages lose nothing.
#[derive(Debug)]
pub struct AddressMonitor {
    notices: AsyncFd<OwnedFd>,
    known: BTreeSet<IpAddr>,
    /// Something was reported and not looked at yet.
    pending: bool,
}

impl AddressMonitor {
    /// Subscribes and reads the addresses. Needs a tokio runtime; fails if the kernel refuses the socket.
    pub fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let descriptor =
            socket(AddressFamily::Netlink, SockType::Raw, flags, Some(SockProtocol::NetlinkRoute))?;
        let groups = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        bind(descriptor.as_raw_fd(), &NetlinkAddr::new(0, groups.cast_unsigned()))?;
        // SAFETY: the monitor owns the descriptor, never takes it out, and closes it after its registration has ended.
        let notices = unsafe { AsyncFd::register(descriptor) }?;
        // Subscribed first: what changes while the list is read is reported afterwards.
        Ok(Self { notices, known: current_addresses()?, pending: false })
    }

    /// The addresses as last seen.
    pub const fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.known
    }

    /// Waits until the addresses differ from those last seen and returns them. May be dropped and called again without
    /// losing a change. Fails if the kernel does; calling again looks again.
    pub async fn changed(&mut self) -> io::Result<&BTreeSet<IpAddr>> {
        loop {
            if !self.pending {
                self.wait().await?;
            }
            tokio::time::sleep(COALESCE).await;
            self.drain()?;
            let found = current_addresses()?;
            self.pending = false;
            if found != self.known {
                self.known = found;
                return Ok(&self.known);
            }
        }
    }

    async fn wait(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.notices.readable().await?;
            match receive(self.notices.get_ref()) {
                Ok(()) => {
                    self.pending = true;
                    return Ok(());
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn drain(&self) -> io::Result<()> {
        loop {
            match receive(self.notices.get_ref()) {
                Ok(()) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Takes one message off the socket, whatever it says; that some were lost counts as one.
fn receive(descriptor: &OwnedFd) -> Result<(), Errno> {
    let mut buffer = [0; 4096];
    match recv(descriptor.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}
