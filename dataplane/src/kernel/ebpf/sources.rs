//! The addresses that packets of this node's own get by the interface that they leave by.
//!
//! As the kernel chooses them where no route says otherwise: the first IPv4 address that is not secondary, and an IPv6 address of
//! global scope. (Of several IPv6 addresses the kernel prefers one that is like the destination. Any of them leads back here.)

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_bindings::rt_addr::{AddrAttrs, Ifaddrmsg, IterableAddrAttrs, Request};
use netlink_socket2::NetlinkSocket;

/// No packet gets these by itself: IPv4 secondary ones and IPv6 temporary ones (which share a bit), and what is not, not yet or not
/// any more to be used.
const UNFIT: u32 =
    libc::IFA_F_SECONDARY | libc::IFA_F_DADFAILED | libc::IFA_F_DEPRECATED | libc::IFA_F_TENTATIVE;

/// Of one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sources {
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

impl Sources {
    fn add(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.v4 = self.v4.or(Some(address)),
            IpAddr::V6(address) => self.v6 = self.v6.or(Some(address)),
        }
    }
}

/// Those of every interface that has any, by its index.
pub(super) fn current() -> io::Result<BTreeMap<u32, Sources>> {
    let mut socket = NetlinkSocket::new();
    let request = Request::new().op_getaddr_dump(&Ifaddrmsg::new());
    let mut replies = socket.request(&request)?;
    let mut found: BTreeMap<u32, Sources> = BTreeMap::new();
    while let Some(reply) = replies.recv() {
        let (header, attributes) = reply?;
        if let Some(address) = fit(&header, attributes) {
            found.entry(header.ifa_index).or_default().add(address);
        }
    }
    Ok(found)
}

/// This end's address, if it is fit for any destination. Of the flags, the header has the low eight bits.
fn fit(header: &Ifaddrmsg, attributes: IterableAddrAttrs<'_>) -> Option<IpAddr> {
    let mut flags = u32::from(header.ifa_flags);
    let (mut local, mut address) = (None, None);
    for attribute in attributes.flatten() {
        match attribute {
            AddrAttrs::Local(found) => local = Some(found),
            AddrAttrs::Address(found) => address = Some(found),
            AddrAttrs::Flags(found) => flags = found,
            _ => {}
        }
    }
    let is_fit = header.ifa_scope == libc::RT_SCOPE_UNIVERSE && flags & UNFIT == 0;
    local.or(address).filter(|_| is_fit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_of_each_family_counts() {
        let mut sources = Sources::default();
        for address in ["192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"] {
            sources.add(address.parse().unwrap());
        }
        assert_eq!(sources.v4, Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(sources.v6, Some("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn addresses_of_the_loopback_interface_lead_nowhere_else() {
        assert_eq!(current().unwrap().get(&1).and_then(|sources| sources.v4), None);
    }
}
