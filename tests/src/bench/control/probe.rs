//! Connections that tell which endpoint a cluster IP leads to.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Socket, Type};

use crate::bench::objects::{TCP_PORT, TCP_TARGET};

/// Between two connections while the probe waits for a change.
const PERIOD: Duration = Duration::from_micros(250);
/// How many unanswered connections are kept in case the answer comes late.
const KEPT: usize = 64;

/// A listener for all endpoints and the connections made to it.
///
/// A handshake over loopback is over when `connect` returns: a connection is
/// in the listener's queue at once, or it is lost. So one thread does both
/// ends, and no other thread has to be woken up.
#[derive(Debug)]
pub(super) struct Probe {
    listener: Socket,
    open: VecDeque<Socket>,
}

impl Probe {
    /// Listens on all addresses of the calling thread's namespace.
    pub(super) fn open() -> Result<Self> {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).context("opening a socket")?;
        listener.set_reuse_address(true).context("preparing a listener")?;
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, TCP_TARGET));
        listener.bind(&any.into()).context("binding a listener")?;
        listener.listen(4096).context("listening")?;
        listener.set_nonblocking(true).context("preparing a listener")?;
        Ok(Self { listener, open: VecDeque::new() })
    }

    /// Connects to port 80 of an address, without waiting.
    pub(super) fn knock(&mut self, address: Ipv4Addr) -> Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("opening a socket")?;
        socket.set_nonblocking(true).context("preparing a socket")?;
        // Closing resets: no port is held by a connection that is over.
        socket.set_linger(Some(Duration::ZERO)).context("preparing a socket")?;
        // Refused, filtered, not answered: all the same to the probe.
        if socket.connect(&SocketAddrV4::new(address, TCP_PORT).into()).is_err_and(|e| !in_progress(&e)) {
            return Ok(());
        }
        self.open.push_back(socket);
        if self.open.len() > KEPT {
            self.open.pop_front();
        }
        Ok(())
    }

    /// The endpoints that connections have arrived at since the last call.
    pub(super) fn arrivals(&mut self) -> Result<Vec<Ipv4Addr>> {
        let mut endpoints = Vec::new();
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    let local = socket.local_addr().context("asking for a local address")?;
                    let local = local.as_socket_ipv4().context("an address that is not IPv4")?;
                    // Both ends close with a reset.
                    drop(socket.set_linger(Some(Duration::ZERO)));
                    endpoints.push(*local.ip());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(endpoints),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error).context("accepting"),
            }
        }
    }

    /// Connects again and again until a connection arrives at `wanted`; returns when that connection was begun.
    pub(super) fn until(
        &mut self,
        service: Ipv4Addr,
        wanted: Ipv4Addr,
        patience: Duration,
    ) -> Result<Instant> {
        let started = Instant::now();
        loop {
            let begun = Instant::now();
            self.knock(service)?;
            if self.arrivals()?.contains(&wanted) {
                return Ok(begun);
            }
            if started.elapsed() > patience {
                bail!("{service} does not lead to {wanted} after {patience:?}");
            }
            std::thread::sleep(PERIOD.saturating_sub(begun.elapsed()));
        }
    }

    /// Gives up all connections that were not answered.
    pub(super) fn forget(&mut self) -> Result<()> {
        self.open.clear();
        self.arrivals()?;
        Ok(())
    }
}

fn in_progress(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINPROGRESS)
}
