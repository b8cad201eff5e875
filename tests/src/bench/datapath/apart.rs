//! Conversations whose ends are apart: two threads on two processors, as two programs would be.
//!
//! Whoever waits sleeps, and is woken up by what arrives. The kernel takes a packet all the way on the processor of its
//! sender, so a time is made of what conversations on one thread take, of wake-ups, and of what the processors fetch from
//! each other's caches: plain routing takes more, and the same cost is a smaller ratio.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::{SockAddr, Socket, Type};

use super::measure::Target;
use super::site::{Server, socket};

/// Length of a request and of a response.
const LENGTH: usize = 64;

/// What the far end does for whoever comes, and how the near end uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// Accepts and resets.
    Accept,
    /// Accepts, answers a request, closes.
    Exchange,
    /// Accepts one connection, and answers what comes on it until it ends.
    Kept,
    /// Answers datagrams.
    Datagrams,
}

impl Service {
    /// The far end. Ends with a kept connection; else at the first who comes after `over` was set ([`Service::leave`]).
    pub(super) fn far(self, server: &Server, over: &AtomicBool) -> Result<()> {
        match self {
            Self::Accept => accept_all(server, over, |accepted| {
                accepted.set_linger(Some(Duration::ZERO)).context("preparing a socket")
            }),
            Self::Exchange => accept_all(server, over, |mut accepted| {
                ensure!(answer(&mut accepted)?, "no request came");
                Ok(())
            }),
            Self::Kept => {
                let mut accepted = accept(server)?;
                accepted.set_tcp_nodelay(true).context("preparing a socket")?;
                while answer(&mut accepted)? {}
                Ok(())
            }
            Self::Datagrams => loop {
                server.wait_for_datagram()?;
                if over.load(Ordering::Acquire) {
                    return Ok(());
                }
                server.answer_datagram()?;
            },
        }
    }

    /// The near end: has `every` time as many conversations as it likes.
    pub(super) fn near<T>(
        self,
        target: Target,
        every: impl FnOnce(&mut dyn FnMut() -> Result<Duration>) -> Result<T>,
    ) -> Result<T> {
        match self {
            Self::Accept => every(&mut || connect(target.tcp)),
            Self::Exchange => every(&mut || exchange(target.tcp)),
            Self::Datagrams => every(&mut || datagram(target.udp)),
            Self::Kept => {
                let mut client = connected(Type::STREAM, target.tcp)?;
                client.set_tcp_nodelay(true).context("preparing a socket")?;
                client.set_linger(Some(Duration::ZERO)).context("preparing a socket")?;
                every(&mut || request(&mut client))
            }
        }
    }

    /// The last to come, who is not served.
    pub(super) fn leave(self, target: Target) -> Result<()> {
        match self {
            Self::Kept => Ok(()),
            Self::Accept | Self::Exchange => {
                let client = connected(Type::STREAM, target.tcp)?;
                client.set_linger(Some(Duration::ZERO)).context("preparing a socket")
            }
            Self::Datagrams => {
                let client = connected(Type::DGRAM, target.udp)?;
                client.send(&[0; LENGTH]).context("sending a datagram")?;
                Ok(())
            }
        }
    }
}

fn accept(server: &Server) -> Result<Socket> {
    let (accepted, _) = server.listener.accept().context("accepting")?;
    Ok(accepted)
}

fn accept_all(server: &Server, over: &AtomicBool, serve: impl Fn(Socket) -> Result<()>) -> Result<()> {
    loop {
        let accepted = accept(server)?;
        if over.load(Ordering::Acquire) {
            return Ok(());
        }
        serve(accepted)?;
    }
}

/// Answers one request; whether there was one.
fn answer(accepted: &mut Socket) -> Result<bool> {
    let mut buffer = [0; LENGTH];
    match accepted.read(&mut buffer) {
        Ok(0) => return Ok(false),
        Ok(length) => accepted.read_exact(buffer.get_mut(length..).unwrap_or_default())?,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
        Err(error) => return Err(error).context("reading a request"),
    }
    accepted.write_all(&buffer).context("sending a response")?;
    Ok(true)
}

fn connected(kind: Type, target: SocketAddrV4) -> Result<Socket> {
    let client = socket(kind)?;
    client.connect(&target.into()).with_context(|| format!("connecting to {target}"))?;
    Ok(client)
}

/// Time to connect. The far end then resets the connection; when that is here, the far end sleeps or is about to.
fn connect(target: SocketAddrV4) -> Result<Duration> {
    let mut client = socket(Type::STREAM)?;
    client.set_linger(Some(Duration::ZERO)).context("preparing a socket")?;
    let address = SockAddr::from(target);
    let begun = Instant::now();
    client.connect(&address).with_context(|| format!("connecting to {target}"))?;
    let took = begun.elapsed();
    match client.read(&mut [0; LENGTH]) {
        Ok(length) => bail!("{length} bytes came in place of a reset"),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(took),
        Err(error) => Err(error).context("waiting for a reset"),
    }
}

/// Connect, request, response, close: the server closes first, and keeps the memory of it.
fn exchange(target: SocketAddrV4) -> Result<Duration> {
    let begun = Instant::now();
    let mut client = connected(Type::STREAM, target)?;
    let mut buffer = [1; LENGTH];
    client.write_all(&buffer).context("sending a request")?;
    client.read_exact(&mut buffer).context("reading a response")?;
    ensure!(client.read(&mut buffer).context("waiting for the end")? == 0, "more than a response came back");
    drop(client);
    Ok(begun.elapsed())
}

/// One request and its response on a connection that stays.
fn request(client: &mut Socket) -> Result<Duration> {
    let mut buffer = [1; LENGTH];
    let begun = Instant::now();
    client.write_all(&buffer).context("sending a request")?;
    client.read_exact(&mut buffer).context("reading a response")?;
    Ok(begun.elapsed())
}

/// A datagram and its answer, from a fresh socket.
fn datagram(target: SocketAddrV4) -> Result<Duration> {
    let begun = Instant::now();
    let mut client = connected(Type::DGRAM, target)?;
    client.send(&[1; LENGTH]).context("sending a datagram")?;
    client.read_exact(&mut [0; LENGTH]).context("waiting for an answer")?;
    drop(client);
    Ok(begun.elapsed())
}
