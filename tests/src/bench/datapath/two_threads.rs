//! Conversations of two threads, as two programs would have them: on one processor in turn, or apart on two.
//!
//! Whoever waits sleeps, and is woken up by what arrives. The kernel takes a packet all the way on the processor of its
//! sender, so a time is made of what conversations on one thread take and of wake-ups: on one processor the scheduler
//! changes threads; to another it sends an interrupt, which the sender waits for on many virtual machines, and an idle one
//! first has to come back from sleep. So plain routing takes more than on one thread, and the same cost is a smaller ratio.
//!
//! In turn, who was woken may run before the call that woke it returns: then a connect contains what the far end does after
//! accepting. Whether it does is up to the scheduler, and changes with what else the machine does.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use socket2::{SockAddr, Socket, Type};

use super::conversation::{LENGTH, accept, connected};
use super::measure::Target;
use super::site::{Server, socket};

/// What the far end does for whoever comes, and how the near end uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// Accepts and closes.
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
                drop(accepted);
                Ok(())
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
            Self::Datagrams => {
                // Asked after an answer, too: the last to come may have been answered with the one before, as there are
                // two sockets.
                while !over.load(Ordering::Acquire) {
                    server.wait_for_datagram()?;
                    if !over.load(Ordering::Acquire) {
                        server.answer_datagram()?;
                    }
                }
                Ok(())
            }
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

/// Time to connect. The far end then closes; when that is here, it sleeps or is about to. The connection is reset in the
/// end, so that nothing of it remains.
fn connect(target: SocketAddrV4) -> Result<Duration> {
    let mut client = socket(Type::STREAM)?;
    client.set_linger(Some(Duration::ZERO)).context("preparing a socket")?;
    let address = SockAddr::from(target);
    let begun = Instant::now();
    client.connect(&address).with_context(|| format!("connecting to {target}"))?;
    let took = begun.elapsed();
    let length = client.read(&mut [0; LENGTH]).context("waiting for the end")?;
    ensure!(length == 0, "{length} bytes came in place of the end");
    Ok(took)
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::bench::objects::{TCP_TARGET, UDP_TARGET};
    use crate::bench::seat::Seat;
    use crate::lab::{Namespace, unique_name};

    const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
    const CONVERSATIONS: usize = 30;

    #[test]
    fn each_service_serves_whoever_comes_and_ends_with_the_last() {
        let namespace = Namespace::create(&unique_name(), "two").unwrap();
        let seat = Seat::create().unwrap();
        let server = Server::open(&namespace, &seat, ADDRESSES).unwrap();
        for service in [Service::Accept, Service::Exchange, Service::Kept, Service::Datagrams] {
            server.drain().unwrap();
            let over = AtomicBool::new(false);
            let (served, times) = std::thread::scope(|scope| {
                let far = scope.spawn(|| service.far(&server, &over));
                let times = namespace.run(|| near(service, &over)).unwrap();
                (far.join().unwrap(), times)
            });
            served.unwrap();
            assert_eq!(times.len(), CONVERSATIONS, "{service:?}");
            assert!(times.iter().all(|time| !time.is_zero()), "{service:?}");
        }
    }

    /// At both addresses one after the other, but on one connection if it is kept.
    fn near(service: Service, over: &AtomicBool) -> Vec<Duration> {
        let [first, second] = ADDRESSES.map(|address| Target {
            tcp: SocketAddrV4::new(address, TCP_TARGET),
            udp: SocketAddrV4::new(address, UDP_TARGET),
        });
        let at = |target, count| {
            service.near(target, |once| (0..count).map(|_| once()).collect::<Result<Vec<_>>>()).unwrap()
        };
        let times = match service {
            Service::Kept => at(first, CONVERSATIONS),
            _ => [at(first, CONVERSATIONS / 2), at(second, CONVERSATIONS / 2)].concat(),
        };
        over.store(true, Ordering::Release);
        service.leave(first).unwrap();
        times
    }
}
