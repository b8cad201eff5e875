//! The addresses as they are now.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_bindings::rt_addr::{AddrAttrs, Ifaddrmsg, IterableAddrAttrs, Request};
use netlink_socket2::NetlinkSocket;

/// Duplicate address detection has failed: the address belongs to somebody else.
const DUPLICATE: u32 = libc::IFA_F_DADFAILED;

/// Every unicast address of every interface, up or down, without IPv6 link-local ones (they mean nothing without an
/// interface) and duplicates that the kernel has refused. Fails if the kernel does, or memory is short.
pub fn current_addresses() -> io::Result<BTreeSet<IpAddr>> {
    let mut socket = NetlinkSocket::new();
    let request = Request::new().op_getaddr_dump(&Ifaddrmsg::new());
    let mut replies = socket.request(&request)?;
    let mut found = BTreeSet::new();
    while let Some(reply) = replies.recv() {
        let (header, attributes) = reply?;
        found.extend(own_address(u32::from(header.ifa_flags), attributes).filter(is_usable));
    }
    Ok(found)
}

/// The address of this end: on a point-to-point interface `Address` is the other one. `flags` are the low eight bits
/// from the header, extended by an attribute where there is one.
fn own_address(mut flags: u32, attributes: IterableAddrAttrs<'_>) -> Option<IpAddr> {
    let (mut local, mut address) = (None, None);
    for attribute in attributes.flatten() {
        match attribute {
            AddrAttrs::Local(found) => local = Some(found),
            AddrAttrs::Address(found) => address = Some(found),
            AddrAttrs::Flags(found) => flags = found,
            _ => {}
        }
    }
    if flags & DUPLICATE != 0 { None } else { local.or(address) }
}

fn is_usable(address: &IpAddr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_and_multicast_addresses_are_of_no_use() {
        let usable = |text: &str| is_usable(&text.parse().unwrap());
        assert!(usable("192.0.2.1") && usable("127.0.0.1") && usable("169.254.1.1"));
        assert!(usable("fd00::1") && usable("::1") && usable("2001:db8::1"));
        assert!(!usable("fe80::1") && !usable("ff02::1") && !usable("224.0.0.1") && !usable("0.0.0.0"));
    }

    #[test]
    fn listing_yields_usable_addresses_only() {
        let found = current_addresses().unwrap();
        assert!(found.iter().all(is_usable), "{found:?}");
    }
}
