//! Conversations with both ends on one thread.
//!
//! A packet sent through veth pairs has arrived when the call that sent it
//! returns; so the other end finds it at once, nobody has to be woken up, and
//! what is timed is the way of the packet.

use std::io::{Read, Write};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use socket2::{SockAddr, Socket, Type};

use super::site::{Server, socket};

/// Length of a request and of a response.
pub(super) const LENGTH: usize = 64;

/// A socket of a client.
pub(super) fn connected(kind: Type, target: SocketAddrV4) -> Result<Socket> {
    let client = socket(kind)?;
    client.connect(&target.into()).with_context(|| format!("connecting to {target}"))?;
    Ok(client)
}

/// The next connection.
pub(super) fn accept(server: &Server) -> Result<Socket> {
    let (accepted, _) = server.listener.accept().context("accepting")?;
    Ok(accepted)
}

/// Time to connect; the connection is then reset, so that nothing of it remains.
pub(super) fn connect(target: SocketAddrV4, server: &Server) -> Result<Duration> {
    let client = socket(Type::STREAM)?;
    client.set_linger(Some(Duration::ZERO)).context("preparing a socket")?;
    let address = SockAddr::from(target);
    let begun = Instant::now();
    client.connect(&address).with_context(|| format!("connecting to {target}"))?;
    let took = begun.elapsed();
    let accepted = accept(server)?;
    accepted.set_linger(Some(Duration::ZERO)).context("preparing a socket")?;
    Ok(took)
}

/// Connect, request, response, close: the server closes first, and keeps the memory of it.
pub(super) fn exchange(target: SocketAddrV4, server: &Server) -> Result<Duration> {
    let begun = Instant::now();
    let mut client = connected(Type::STREAM, target)?;
    client.write_all(&[1; LENGTH]).context("sending a request")?;
    let mut accepted = accept(server)?;
    let mut buffer = [0; LENGTH];
    accepted.read_exact(&mut buffer).context("reading a request")?;
    accepted.write_all(&buffer).context("sending a response")?;
    drop(accepted);
    client.read_exact(&mut buffer).context("reading a response")?;
    ensure!(client.read(&mut buffer).context("waiting for the end")? == 0, "more than a response came back");
    drop(client);
    Ok(begun.elapsed())
}

/// A connection that stays.
#[derive(Debug)]
pub(super) struct Kept {
    client: Socket,
    accepted: Socket,
}

impl Kept {
    pub(super) fn open(target: SocketAddrV4, server: &Server) -> Result<Self> {
        let client = connected(Type::STREAM, target)?;
        let accepted = accept(server)?;
        for end in [&client, &accepted] {
            end.set_tcp_nodelay(true).context("preparing a socket")?;
            end.set_linger(Some(Duration::ZERO)).context("preparing a socket")?;
        }
        Ok(Self { client, accepted })
    }

    /// One request and its response.
    pub(super) fn exchange(&mut self) -> Result<Duration> {
        let mut buffer = [0; LENGTH];
        let begun = Instant::now();
        self.client.write_all(&[1; LENGTH]).context("sending a request")?;
        self.accepted.read_exact(&mut buffer).context("reading a request")?;
        self.accepted.write_all(&buffer).context("sending a response")?;
        self.client.read_exact(&mut buffer).context("reading a response")?;
        Ok(begun.elapsed())
    }
}

/// A datagram and its answer, from a fresh socket.
pub(super) fn datagram(target: SocketAddrV4, server: &Server) -> Result<Duration> {
    let begun = Instant::now();
    let mut client = connected(Type::DGRAM, target)?;
    datagram_from(&mut client, server)?;
    drop(client);
    Ok(begun.elapsed())
}

/// A datagram and its answer, from a connected socket.
pub(super) fn datagram_from(client: &mut Socket, server: &Server) -> Result<()> {
    client.send(&[1; LENGTH]).context("sending a datagram")?;
    server.answer_datagram()?;
    client.read_exact(&mut [0; LENGTH]).context("waiting for an answer")
}
