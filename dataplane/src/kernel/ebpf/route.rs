//! Where the kernel would send a packet.

use std::io;
use std::net::IpAddr;

use netlink_bindings::rt_route::{Request, RouteAttrs, Rtmsg};
use netlink_socket2::NetlinkSocket;

/// Index of the interface by which packets to `to` leave this network namespace.
pub(super) fn output_interface(to: IpAddr) -> io::Result<u32> {
    let (family, length) = match to {
        IpAddr::V4(_) => (libc::AF_INET, 32),
        IpAddr::V6(_) => (libc::AF_INET6, 128),
    };
    let mut header = Rtmsg::new();
    header.rtm_family = u8::try_from(family).unwrap_or(0);
    header.rtm_dst_len = length;
    let mut socket = NetlinkSocket::new();
    let mut request = Request::new().op_getroute_do(&header);
    request.encode().push_dst(to);
    let mut replies = socket.request(&request)?;
    while let Some(reply) = replies.recv() {
        let (_, attributes) = reply?;
        for attribute in attributes.flatten() {
            if let RouteAttrs::Oif(index) = attribute {
                return Ok(index);
            }
        }
    }
    Err(io::ErrorKind::HostUnreachable.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_node_itself_is_behind_the_loopback_interface() {
        assert_eq!(output_interface(IpAddr::from([127, 0, 0, 1])).unwrap(), 1);
    }
}
