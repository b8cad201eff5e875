//! Raw sockets that carry SCTP packets.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr, Ipv6RecvPacketInfo};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use socket2::{Domain, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::message::MAX_DATAGRAM;

/// IPv4 raw sockets deliver the IP header too; its destination is at 16.
const IPV4_DESTINATION: std::ops::Range<usize> = 16..20;

/// A raw SCTP socket of one IP version, for the runtime of the calling task.
#[derive(Debug)]
pub(crate) struct SctpSocket {
    socket: AsyncFd<Socket>,
    v6: bool,
}

/// An SCTP packet with the addresses of the IP header around it.
#[derive(Debug)]
pub(crate) struct Received {
    pub from: IpAddr,
    pub to: Option<IpAddr>,
    pub packet: Vec<u8>,
}

impl SctpSocket {
    pub(crate) fn open(v6: bool) -> io::Result<Self> {
        let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::RAW, Some(libc::IPPROTO_SCTP.into()))?;
        socket.set_nonblocking(true)?;
        if v6 {
            setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
        }
        #[expect(
            deprecated,
            reason = "the replacement is unsafe; a socket2 socket keeps its descriptor valid"
        )]
        let socket = AsyncFd::new(socket)?;
        Ok(Self { socket, v6 })
    }

    /// Binds, connects, and asks for ICMP errors to be reported.
    pub(crate) fn connect(&self, source: Option<IpAddr>, to: IpAddr) -> io::Result<()> {
        let socket = self.socket.get_ref();
        if self.v6 {
            setsockopt(socket, Ipv6RecvErr, &true)?;
        } else {
            setsockopt(socket, Ipv4RecvErr, &true)?;
        }
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect(&SocketAddr::new(to, 0).into())
    }

    /// Binds the source of what is sent.
    pub(crate) fn bind(&self, source: IpAddr) -> io::Result<()> {
        self.socket.get_ref().bind(&SocketAddr::new(source, 0).into())
    }

    pub(crate) fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.get_ref().send(packet).map(drop)
    }

    pub(crate) fn send_to(&self, packet: &[u8], to: IpAddr) -> io::Result<()> {
        self.socket.get_ref().send_to(packet, &SocketAddr::new(to, 0).into()).map(drop)
    }

    /// Waits for a packet, or for an error the network reports.
    pub(crate) async fn receive(&self) -> io::Result<Received> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| self.receive_now(socket.get_ref())) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    fn receive_now(&self, socket: &Socket) -> io::Result<Received> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut control = nix::cmsg_space!(libc::in6_pktinfo);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        let from = message.address.as_ref().and_then(address).ok_or(io::ErrorKind::InvalidData)?;
        let announced = message.cmsgs()?.find_map(|item| match item {
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)))
            }
            _ => None,
        });
        let length = message.bytes;
        buffer.truncate(length);
        if self.v6 {
            return Ok(Received { from, to: announced, packet: buffer });
        }
        let header = usize::from(buffer.first().copied().unwrap_or_default() & 15) * 4;
        let to: Option<[u8; 4]> = buffer.get(IPV4_DESTINATION).and_then(|bytes| bytes.try_into().ok());
        let packet = buffer.get(header..).unwrap_or_default().to_vec();
        Ok(Received { from, to: to.map(|bytes| Ipv4Addr::from(bytes).into()), packet })
    }
}

/// The IP address of a socket address.
pub(crate) fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}
