//! Routes of IPv4 with an MTU of their own.
//!
//! Forwarding minds it. Programs that ask the routing table hear of it only if it is locked, so what such routes lead to is no
//! way past the stack. (Of IPv6 they hear.)

use std::collections::BTreeSet;
use std::io;

use netlink_bindings::rt_route::{IterableRouteAttrs, Metrics, Request, RouteAttrs, Rtmsg};
use netlink_socket2::NetlinkSocket;

/// `struct rtnexthop`: its length, and where the index of the interface is.
const NEXT_HOP: usize = 8;
const NEXT_HOP_INTERFACE: usize = 4;

/// Indexes of the interfaces that such routes lead to.
pub(super) fn interfaces() -> io::Result<BTreeSet<u32>> {
    let mut header = Rtmsg::new();
    header.rtm_family = u8::try_from(libc::AF_INET).unwrap_or(0);
    let mut socket = NetlinkSocket::new();
    let request = Request::new().op_getroute_dump(&header);
    let mut replies = socket.request(&request)?;
    let mut found = BTreeSet::new();
    while let Some(reply) = replies.recv() {
        let (_, attributes) = reply?;
        found.extend(read(attributes));
    }
    Ok(found)
}

/// The interfaces of one route, if it has an MTU.
fn read(attributes: IterableRouteAttrs<'_>) -> Vec<u32> {
    let mut leads_to = Vec::new();
    let mut has_mtu = false;
    for attribute in attributes.flatten() {
        match attribute {
            RouteAttrs::Oif(index) => leads_to.push(index),
            RouteAttrs::Multipath(hops) => leads_to.extend(next_hops(hops)),
            RouteAttrs::Metrics(metrics) => {
                has_mtu |= metrics.flatten().any(|metric| matches!(metric, Metrics::Mtu(mtu) if mtu != 0));
            }
            _ => {}
        }
    }
    if has_mtu { leads_to } else { Vec::new() }
}

fn next_hops(mut hops: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    while let Some((head, _)) = hops.split_at_checked(NEXT_HOP) {
        let [low, high, ..] = *head else { break };
        let index = head.get(NEXT_HOP_INTERFACE..).and_then(|bytes| bytes.try_into().ok());
        found.extend(index.map(u32::from_ne_bytes));
        // Aligned to four bytes.
        let length = usize::from(u16::from_ne_bytes([low, high])).next_multiple_of(4).max(NEXT_HOP);
        hops = hops.get(length..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_next_hop_of_a_route_is_found() {
        let hop = |length: u16, index: u32| {
            let mut bytes = [&length.to_ne_bytes()[..], &[0, 0], &index.to_ne_bytes()].concat();
            bytes.resize(usize::from(length).max(NEXT_HOP), 7);
            bytes
        };
        assert_eq!(next_hops(&[hop(16, 3), hop(8, 5)].concat()), [3, 5]);
        assert_eq!(next_hops(&[]), [0; 0]);
        assert_eq!(next_hops(&hop(0, 9)), [9]);
        assert_eq!(next_hops(&[1, 2, 3]), [0; 0]);
    }

    #[test]
    fn no_route_of_the_loopback_interface_has_an_mtu() {
        assert!(!interfaces().unwrap().contains(&1));
    }
}
