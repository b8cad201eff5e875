//! Much in one direction: a stream of bytes, bursts of datagrams. Both ends are on one thread, as in conversations.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Socket, Type};

use super::conversation::datagram_from;
use super::site::{Server, socket};

/// Nothing moves for so long: the connection is dead.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of one write.
const CHUNK: usize = 1 << 16;
/// Datagrams that are sent before any is taken: they fit into the receiver's buffer.
const BURST: u32 = 32;
/// Payload of a datagram.
const SMALL: usize = 18;

/// A connection with bytes under way in one direction.
#[derive(Debug)]
pub(super) struct Stream {
    from: Socket,
    to: Socket,
    buffer: Vec<u8>,
}

impl Stream {
    pub(super) const MEBIBYTE: f64 = 1_048_576.0;

    pub(super) fn open(target: SocketAddrV4, server: &Server) -> Result<Self> {
        let from = socket(Type::STREAM)?;
        from.connect(&target.into()).with_context(|| format!("connecting to {target}"))?;
        let (to, _) = server.listener.accept().context("accepting")?;
        for end in [&from, &to] {
            end.set_linger(Some(Duration::ZERO)).context("preparing a socket")?;
            end.set_nonblocking(true).context("preparing a socket")?;
        }
        Ok(Self { from, to, buffer: vec![1; CHUNK] })
    }

    /// Writes once and reads what has arrived; returns the bytes that came out.
    pub(super) fn pump(&mut self) -> Result<u32> {
        let begun = Instant::now();
        loop {
            let wrote = moved(self.from.write(&self.buffer)).context("sending")?;
            let mut read = 0;
            while let Some(more) = moved(self.to.read(&mut self.buffer)).context("receiving")? {
                ensure!(more > 0, "the connection has ended");
                read += more;
            }
            if read > 0 {
                return Ok(u32::try_from(read)?);
            }
            // A window that is closed may need a timer to open.
            if wrote.is_none() && begun.elapsed() > PATIENCE {
                bail!("nothing gets through a connection");
            }
        }
    }
}

fn moved(result: std::io::Result<usize>) -> std::io::Result<Option<usize>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Datagrams of one flow, one way.
#[derive(Debug)]
pub(super) struct Flow(Socket);

impl Flow {
    /// One datagram has been answered: the flow is established.
    pub(super) fn open(target: SocketAddrV4, server: &Server) -> Result<Self> {
        let mut client = socket(Type::DGRAM)?;
        client.connect(&target.into()).with_context(|| format!("connecting to {target}"))?;
        datagram_from(&mut client, server)?;
        datagram_from(&mut client, server)?;
        Ok(Self(client))
    }

    /// Sends some and takes them; returns how many arrived, which has to be all.
    pub(super) fn burst(&self, server: &Server) -> Result<u32> {
        for _ in 0..BURST {
            self.0.send(&[1; SMALL]).context("sending a datagram")?;
        }
        let begun = Instant::now();
        let mut taken = server.take_datagrams()?;
        while taken < BURST {
            ensure!(begun.elapsed() < PATIENCE, "{} of {BURST} datagrams were lost", BURST - taken);
            taken += server.take_datagrams()?;
        }
        Ok(taken)
    }
}
