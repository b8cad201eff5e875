//! The far end of test conversations: tells each client what it saw.

use std::collections::BTreeSet;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::message::{self, AnswerHeader, MAX_DATAGRAM, Protocol, RequestHeader};
use super::sctp::{Chunk, Packet};
use super::sctp_socket::SctpSocket;

/// Room for bursts of many clients.
const BACKLOG: i32 = 512;
const UDP_BUFFER: usize = 1 << 20;
/// Any value will do: nothing follows the first exchange.
const RESPONDER_TAG: u32 = 0x0102_0304;

/// A port to answer on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen {
    /// The protocol.
    pub protocol: Protocol,
    /// The port, host byte order.
    pub port: u16,
    /// One address, or `None` for all addresses of both IP versions.
    pub address: Option<IpAddr>,
}

/// Answers on ports of one namespace. Clones share the set of ports.
#[derive(Debug, Clone, Default)]
pub struct Responder {
    open: Arc<Mutex<BTreeSet<Listen>>>,
}

impl Responder {
    /// Opens a port; to be called on the namespace's worker. A port that is
    /// already open is left as it is.
    pub fn listen(&self, wanted: Listen) -> Result<()> {
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let everywhere = Listen { address: None, ..wanted };
            if open.contains(&everywhere) || !open.insert(wanted) {
                return Ok(());
            }
        }
        let addresses = match wanted.address {
            Some(address) => vec![address],
            None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        };
        for address in addresses {
            open_socket(wanted.protocol, SocketAddr::new(address, wanted.port)).with_context(|| {
                format!("cannot listen on {:?} {address}:{}", wanted.protocol, wanted.port)
            })?;
        }
        Ok(())
    }
}

fn open_socket(protocol: Protocol, local: SocketAddr) -> io::Result<()> {
    match protocol {
        Protocol::Tcp => {
            let socket = bound_socket(Type::STREAM, local)?;
            socket.listen(BACKLOG)?;
            tokio::spawn(accept_connections(TcpListener::from_std(socket.into())?));
        }
        Protocol::Udp => {
            let socket = bound_socket(Type::DGRAM, local)?;
            socket.set_recv_buffer_size(UDP_BUFFER)?;
            if local.is_ipv6() {
                setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
            } else {
                setsockopt(&socket, Ipv4PacketInfo, &true)?;
            }
            tokio::spawn(answer_datagrams(UdpSocket::from_std(socket.into())?, local.port()));
        }
        Protocol::Sctp => {
            let socket = SctpSocket::open(local.is_ipv6())?;
            tokio::spawn(answer_sctp(socket, local.port()));
        }
    }
    Ok(())
}

fn bound_socket(kind: Type, local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), kind, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&local.into())?;
    Ok(socket)
}

async fn accept_connections(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => drop(tokio::spawn(serve_connection(stream, peer))),
            // A connection that was reset before it was accepted.
            Err(error) => tracing::debug!(%error, "accept"),
        }
    }
}

/// Answers requests until the client closes. Errors end the conversation; the
/// client is the one that reports them.
async fn serve_connection(mut stream: TcpStream, peer: SocketAddr) {
    let Ok(local) = stream.local_addr() else { return };
    while let Ok(Some((request, problem))) = message::receive::<RequestHeader>(&mut stream).await {
        let answer = AnswerHeader { body: request.reply, nonce: request.nonce, local, peer, problem };
        let Ok(bytes) = message::encode(&answer) else { return };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn answer_datagrams(socket: UdpSocket, port: u16) {
    loop {
        let answered = socket.async_io(Interest::READABLE, || answer_datagram(&socket, port)).await;
        if let Err(error) = answered {
            tracing::debug!(%error, "datagram");
        }
    }
}

/// Answers one datagram from the address it was sent to.
fn answer_datagram(socket: &UdpSocket, port: u16) -> io::Result<()> {
    let mut buffer = vec![0; MAX_DATAGRAM];
    let mut control = nix::cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let received =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let sender = received.address.ok_or(io::ErrorKind::InvalidData)?;
    let peer = socket_address(&sender).ok_or(io::ErrorKind::InvalidData)?;
    let info = received.cmsgs()?.next().ok_or(io::ErrorKind::InvalidData)?;
    let length = received.bytes;
    let bytes = buffer.get(..length).unwrap_or_default();
    let (request, problem) = message::decode::<RequestHeader>(bytes).map_err(io::Error::other)?;
    let (local, v4, v6) = match info {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let local = IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)));
            (local, Some(libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: info.ipi_addr, ..info }), None)
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let local = IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr));
            (local, None, Some(libc::in6_pktinfo { ipi6_ifindex: 0, ..info }))
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let local = SocketAddr::new(local, port);
    let answer = AnswerHeader { body: request.reply, nonce: request.nonce, local, peer, problem };
    let reply = message::encode(&answer).map_err(io::Error::other)?;
    let from_v4 = v4.as_ref().map(ControlMessage::Ipv4PacketInfo);
    let from: Vec<_> = from_v4.into_iter().chain(v6.as_ref().map(ControlMessage::Ipv6PacketInfo)).collect();
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(&reply)], &from, MsgFlags::empty(), Some(&sender))?;
    Ok(())
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| SocketAddr::new(address.ip().into(), address.port()));
    v4.or_else(|| {
        storage.as_sockaddr_in6().map(|address| SocketAddr::new(address.ip().into(), address.port()))
    })
}

async fn answer_sctp(socket: SctpSocket, port: u16) {
    loop {
        match socket.receive().await {
            Ok(received) => {
                if let Err(error) = answer_init(&received, port) {
                    tracing::debug!(%error, "sctp");
                }
            }
            Err(error) => tracing::debug!(%error, "sctp"),
        }
    }
}

/// Answers an INIT with an INIT ACK whose cookie says what was seen.
fn answer_init(received: &super::sctp_socket::Received, port: u16) -> Result<()> {
    let Some((init, intact)) = Packet::decode(&received.packet) else { return Ok(()) };
    if init.chunk != Chunk::Init || init.dest_port != port {
        return Ok(());
    }
    let to = received.to.context("a packet without destination address")?;
    let answer = AnswerHeader {
        body: 0,
        nonce: 0,
        local: SocketAddr::new(to, port),
        peer: SocketAddr::new(received.from, init.source_port),
        problem: (!intact).then(|| "the INIT arrived with a wrong CRC32c".to_owned()),
    };
    let reply = Packet {
        source_port: port,
        dest_port: init.source_port,
        verification_tag: init.initiate_tag,
        chunk: Chunk::InitAck,
        initiate_tag: RESPONDER_TAG,
        cookie: message::encode(&answer)?,
    };
    let socket = SctpSocket::open(to.is_ipv6())?;
    socket.bind(to)?;
    socket.send_to(&reply.encode(), received.from)?;
    Ok(())
}
