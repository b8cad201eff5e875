//! Connected UDP sockets whose backend is gone: they are told so, by destroying them. Their owners see `ECONNABORTED`
//! and connect anew; otherwise they would go on sending to nobody.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_bindings::inet_diag::{Msg, ReqV2, Request, Sockid};
use netlink_bindings::traits::{NetlinkRequest, Protocol};
use netlink_socket2::NetlinkSocket;

use crate::domain::IpFamily;

/// `TCP_ESTABLISHED` as a bit: for UDP it means connected.
const CONNECTED: u32 = 1 << 1;
/// NETLINK_SOCK_DIAG, SOCK_DESTROY.
const DESTROY: Protocol = Protocol::Raw { protonum: 4, request_type: 21 };

/// A connected UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connected {
    /// The kernel's name for the socket, which BPF programs see too.
    pub(super) cookie: u64,
    /// Where it is connected to.
    pub(super) peer: SocketAddr,
}

/// Destroys the connected UDP sockets of the calling thread's network namespace that `is_stale` says so of; their
/// number.
pub(super) fn destroy_stale(is_stale: &dyn Fn(&Connected) -> bool) -> io::Result<u64> {
    let mut socket = NetlinkSocket::new();
    let mut destroyed = 0;
    for family in IpFamily::ALL {
        for (connected, id) in list(&mut socket, family)? {
            if is_stale(&connected) {
                destroyed += u64::from(destroy(&mut socket, family, id)?);
            }
        }
    }
    Ok(destroyed)
}

fn header(family: IpFamily) -> ReqV2 {
    let mut header = ReqV2::new();
    header.family = match family {
        IpFamily::V4 => 2,
        IpFamily::V6 => 10,
    };
    header.protocol = 17;
    header.states = CONNECTED;
    header
}

fn list(socket: &mut NetlinkSocket, family: IpFamily) -> io::Result<Vec<(Connected, Sockid)>> {
    let request = Request::new().op_udp_diag_dump(&header(family));
    let mut replies = socket.request(&request)?;
    let mut found = Vec::new();
    while let Some(reply) = replies.recv() {
        let (message, _) = reply?;
        found.push((read(family, &message), message.sockid.clone()));
    }
    Ok(found)
}

fn read(family: IpFamily, message: &Msg) -> Connected {
    let address = match family {
        IpFamily::V4 => {
            let [a, b, c, d, ..] = message.sockid.dst;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::from(message.sockid.dst)).to_canonical(),
    };
    let [a, b] = message.sockid._dport_be.to_ne_bytes();
    Connected {
        cookie: u64::from_ne_bytes(message.sockid.cookie),
        peer: SocketAddr::new(address, u16::from_be_bytes([a, b])),
    }
}

/// Whether it was still there.
fn destroy(socket: &mut NetlinkSocket, family: IpFamily, id: Sockid) -> io::Result<bool> {
    let mut header = header(family);
    header.states = u32::MAX;
    header.sockid = id;
    match socket.request(&Destruction(header))?.recv_ack() {
        Ok(()) => Ok(true),
        Err(reply) if reply.as_io_error().raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(reply) => Err(reply.into()),
    }
}

#[derive(Debug)]
struct Destruction(ReqV2);

impl NetlinkRequest for Destruction {
    type ReplyType<'buf> = ();

    fn protocol(&self) -> Protocol {
        DESTROY
    }

    fn flags(&self) -> u16 {
        0
    }

    fn payload(&self) -> &[u8] {
        self.0.as_slice()
    }

    fn decode_reply(_: &[u8]) -> Self::ReplyType<'_> {}
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_connected_socket_is_found_and_destroyed_by_where_it_is_connected_to() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let server = UdpSocket::bind(address).unwrap();
            let peer = server.local_addr().unwrap();
            let client = UdpSocket::bind(address).unwrap();
            client.connect(peer).unwrap();
            assert_eq!(destroy_stale(&|connected| connected.peer == peer).unwrap(), 1, "{address}");
            let error = client.recv(&mut [0; 4]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECONNABORTED), "{address}: {error}");
        }
    }
}
