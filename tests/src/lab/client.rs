//! The near end of test conversations.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::{self, Answer, AnswerHeader, Attempt, MAX_DATAGRAM, Outcome, Protocol, RequestHeader};
use super::sctp::{Chunk, Packet};
use super::sctp_socket::SctpSocket;

/// Local SCTP ports are chosen here, from this number up.
const FIRST_SCTP_PORT: u16 = 32_768;

/// Whom to talk to, and how.
#[derive(Debug, Clone)]
pub struct Dial {
    /// The protocol.
    pub protocol: Protocol,
    /// Source address, or `None` to let the kernel choose.
    pub source: Option<IpAddr>,
    /// Source port, or 0 to let the kernel choose.
    pub source_port: u16,
    /// The destination.
    pub to: SocketAddr,
    /// Use `sendto` on an unconnected socket (UDP only).
    pub unconnected: bool,
    /// For connecting, and again for each exchange.
    pub timeout: Duration,
    /// Bytes of body to send and to ask for.
    pub payload: usize,
    /// Bytes of body in the answer.
    pub reply_size: usize,
}

impl Dial {
    /// A plain conversation: kernel-chosen source, one second, no bodies.
    pub fn new(protocol: Protocol, to: SocketAddr) -> Self {
        Self {
            protocol,
            source: None,
            source_port: 0,
            to,
            unconnected: false,
            timeout: Duration::from_secs(1),
            payload: 0,
            reply_size: 0,
        }
    }

    /// The same from a given source address.
    #[must_use]
    pub fn from(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// The same with another patience.
    #[must_use]
    pub fn patience(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    fn bind_address(&self) -> SocketAddr {
        let any: IpAddr = if self.to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        SocketAddr::new(self.source.unwrap_or(any), self.source_port)
    }

    /// A fresh socket, one request, one answer.
    pub async fn once(self) -> Attempt {
        let started = Instant::now();
        let from = self.source;
        let outcome = match Client::open(self).await {
            Ok(mut client) => client.ask().await,
            Err(error) => Outcome::of_error(&error),
        };
        Attempt { from, outcome, elapsed: started.elapsed() }
    }
}

/// A TCP connection, UDP socket or raw SCTP socket that can be used again.
#[derive(Debug)]
pub struct Client {
    dial: Dial,
    socket: Connection,
    /// How the last exchange ended, when it ended in an error.
    last_error: Option<io::ErrorKind>,
}

#[derive(Debug)]
enum Connection {
    Tcp(TcpStream),
    Udp(UdpSocket),
    Sctp(SctpSocket),
}

impl Client {
    /// Opens the socket (and connects it); to be called on a worker.
    pub async fn open(dial: Dial) -> io::Result<Self> {
        let opened = timeout(dial.timeout, Connection::open(&dial)).await;
        let socket = opened.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(Self { dial, socket, last_error: None })
    }

    /// Sends one request and waits for its answer.
    pub async fn ask(&mut self) -> Outcome {
        let exchanged = timeout(self.dial.timeout, self.exchange()).await;
        let result = exchanged.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
        self.last_error = result.as_ref().err().map(io::Error::kind);
        match result {
            Ok(answer) => Outcome::Answer(answer),
            Err(error) => Outcome::of_error(&error),
        }
    }

    /// Whether the kernel aborted this UDP socket (as an agent may ask it to
    /// when an endpoint is gone): its owner has to open a new one.
    pub fn was_aborted(&self) -> bool {
        matches!(self.socket, Connection::Udp(_))
            && matches!(self.last_error, Some(io::ErrorKind::ConnectionAborted | io::ErrorKind::NotConnected))
    }

    async fn exchange(&mut self) -> io::Result<Answer> {
        let nonce = rand::random();
        let header = RequestHeader { body: self.dial.payload, reply: self.dial.reply_size, nonce };
        let (mut header, problem) = match &mut self.socket {
            Connection::Tcp(stream) => exchange_tcp(stream, &header).await?,
            Connection::Udp(socket) => exchange_udp(socket, &header, &self.dial).await?,
            Connection::Sctp(socket) => return exchange_sctp(socket, &self.dial).await,
        };
        if header.body != self.dial.reply_size {
            header.problem = Some(format!("the reply has {} bytes of body", header.body));
        }
        let problem = problem.map(|problem| format!("reply: {problem}")).or(header.problem);
        Ok(Answer { local: header.local, peer: header.peer, problem })
    }
}

impl Connection {
    async fn open(dial: &Dial) -> io::Result<Self> {
        match dial.protocol {
            Protocol::Tcp => {
                let socket = if dial.to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                // Closed with a reset, so that no port lingers in TIME_WAIT.
                socket.set_zero_linger()?;
                if dial.source.is_some() || dial.source_port != 0 {
                    socket.set_reuseaddr(true)?;
                    socket.bind(dial.bind_address())?;
                }
                Ok(Self::Tcp(socket.connect(dial.to).await?))
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(dial.bind_address()).await?;
                if dial.to.is_ipv4() {
                    setsockopt(&socket, Ipv4RecvErr, &true)?;
                } else {
                    setsockopt(&socket, Ipv6RecvErr, &true)?;
                }
                if !dial.unconnected {
                    socket.connect(dial.to).await?;
                }
                Ok(Self::Udp(socket))
            }
            Protocol::Sctp => {
                let socket = SctpSocket::open(dial.to.is_ipv6())?;
                socket.connect(dial.source, dial.to.ip())?;
                Ok(Self::Sctp(socket))
            }
        }
    }
}

type Received = (AnswerHeader, Option<String>);

async fn exchange_tcp(stream: &mut TcpStream, request: &RequestHeader) -> io::Result<Received> {
    let bytes = message::encode(request).map_err(io::Error::other)?;
    stream.write_all(&bytes).await?;
    match message::receive::<AnswerHeader>(stream).await {
        Ok(Some(received)) => Ok(received),
        Ok(None) => Err(io::ErrorKind::ConnectionReset.into()),
        Err(error) => Err(error.downcast::<io::Error>().unwrap_or_else(io::Error::other)),
    }
}

async fn exchange_udp(socket: &UdpSocket, request: &RequestHeader, dial: &Dial) -> io::Result<Received> {
    let bytes = message::encode(request).map_err(io::Error::other)?;
    if dial.unconnected {
        socket.send_to(&bytes, dial.to).await?;
    } else {
        socket.send(&bytes).await.map_err(|error| match error.raw_os_error() {
            // Destroyed by way of sock_diag: the socket is not connected any more, and says so before the reason.
            Some(libc::EDESTADDRREQ) => io::ErrorKind::ConnectionAborted.into(),
            _ => error,
        })?;
    }
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let (length, sender) = socket.recv_from(&mut buffer).await?;
        let data = buffer.get(..length).unwrap_or_default();
        let (mut header, problem) = message::decode::<AnswerHeader>(data).map_err(io::Error::other)?;
        if header.nonce != request.nonce {
            continue; // the late answer to an earlier request
        }
        if dial.unconnected && sender != dial.to {
            header.problem = Some(format!("the reply came from {sender}"));
        }
        return Ok((header, problem));
    }
}

async fn exchange_sctp(socket: &SctpSocket, dial: &Dial) -> io::Result<Answer> {
    let source_port = match dial.source_port {
        0 => FIRST_SCTP_PORT + rand::random_range(0..28_000),
        port => port,
    };
    // A tag of zero is not allowed.
    let initiate_tag = rand::random::<u32>() | 1;
    let init = Packet {
        source_port,
        dest_port: dial.to.port(),
        verification_tag: 0,
        chunk: Chunk::Init,
        initiate_tag,
        cookie: Vec::new(),
    };
    socket.send(&init.encode())?;
    loop {
        let received = socket.receive().await?;
        let Some((packet, intact)) = Packet::decode(&received.packet) else { continue };
        let ours = packet.chunk == Chunk::InitAck
            && packet.verification_tag == initiate_tag
            && packet.source_port == dial.to.port()
            && packet.dest_port == source_port;
        if !ours {
            continue;
        }
        let (header, _) = message::decode::<AnswerHeader>(&packet.cookie).map_err(io::Error::other)?;
        let damaged = (!intact).then(|| "the INIT ACK came back with a wrong CRC32c".to_owned());
        return Ok(Answer { local: header.local, peer: header.peer, problem: header.problem.or(damaged) });
    }
}
