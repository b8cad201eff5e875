//! The interfaces of this network namespace.

use std::io;

use netlink_bindings::rt_link::{Ifinfomsg, IterableLinkAttrs, LinkAttrs, LinkinfoAttrs, Request};
use netlink_socket2::NetlinkSocket;

use super::sources::{self, Sources};

/// What kind of thing an interface is, as far as service translation cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Loopback,
    /// One end of a veth pair: a pod is behind it, or nothing that differs from one.
    Veth,
    /// A port of a bridge, of whatever kind.
    BridgePort,
    /// A bridge itself.
    Bridge,
    /// A tunnel that carries Ethernet frames (VXLAN, Geneve).
    Overlay,
    /// Any other Ethernet device: the way out.
    Uplink,
    /// A device without Ethernet headers (WireGuard, IPIP, tun).
    Layer3,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) role: Role,
    /// The bridge (or other master) it belongs to; 0 for none.
    pub(super) master: u32,
    /// Its Ethernet address, zeros where there is none.
    pub(super) mac: [u8; 6],
    /// A member of a bond or team: what it carries is seen on the master.
    pub(super) is_member: bool,
    /// Addresses of packets that leave by it or, of a bridge's port, by the bridge.
    pub(super) sources: Sources,
    /// One end of a veth pair whose other end is in another network namespace, and what it sends is not queued.
    pub(super) is_way_in: bool,
}

/// Everything that there is now.
pub(super) fn current() -> io::Result<Vec<Interface>> {
    let mut socket = NetlinkSocket::new();
    let request = Request::new().op_getlink_dump(&Ifinfomsg::new());
    let mut replies = socket.request(&request)?;
    let mut found = Vec::new();
    while let Some(reply) = replies.recv() {
        let (header, attributes) = reply?;
        found.extend(read(&header, attributes));
    }
    let sources = sources::current()?;
    for interface in &mut found {
        let owner = if interface.role == Role::BridgePort { interface.master } else { interface.index };
        interface.sources = sources.get(&owner).copied().unwrap_or_default();
    }
    Ok(found)
}

#[derive(Debug, Default)]
struct Facts<'a> {
    name: &'a str,
    kind: &'a str,
    member_of: &'a str,
    master: u32,
    mac: [u8; 6],
    /// What it is connected to is in another network namespace.
    leads_elsewhere: bool,
    qdisc: &'a str,
}

fn read(header: &Ifinfomsg, attributes: IterableLinkAttrs<'_>) -> Option<Interface> {
    let mut facts = Facts::default();
    for attribute in attributes.flatten() {
        match attribute {
            LinkAttrs::Ifname(name) => facts.name = name.to_str().unwrap_or_default(),
            LinkAttrs::Master(master) => facts.master = master,
            LinkAttrs::Address(address) => facts.mac = address.try_into().unwrap_or_default(),
            LinkAttrs::LinkNetnsid(_) => facts.leads_elsewhere = true,
            LinkAttrs::Qdisc(qdisc) => facts.qdisc = qdisc.to_str().unwrap_or_default(),
            LinkAttrs::Linkinfo(details) => {
                for detail in details.flatten() {
                    match detail {
                        LinkinfoAttrs::Kind(kind) => facts.kind = kind.to_str().unwrap_or_default(),
                        LinkinfoAttrs::SlaveKind(kind) => facts.member_of = kind.to_str().unwrap_or_default(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(Interface {
        index: u32::try_from(header.ifi_index).ok()?,
        name: facts.name.to_owned(),
        role: role(header.ifi_type, &facts),
        master: facts.master,
        mac: facts.mac,
        is_member: matches!(facts.member_of, "bond" | "team"),
        sources: Sources::default(),
        is_way_in: facts.kind == "veth" && facts.leads_elsewhere && facts.qdisc == "noqueue",
    })
}

fn role(hardware: u16, facts: &Facts<'_>) -> Role {
    match (hardware, facts.kind, facts.member_of) {
        (libc::ARPHRD_LOOPBACK, ..) => Role::Loopback,
        (libc::ARPHRD_ETHER, _, "bridge") => Role::BridgePort,
        (libc::ARPHRD_ETHER, "veth", _) => Role::Veth,
        (libc::ARPHRD_ETHER, "bridge", _) => Role::Bridge,
        (libc::ARPHRD_ETHER, "vxlan" | "geneve", _) => Role::Overlay,
        (libc::ARPHRD_ETHER, ..) => Role::Uplink,
        _ => Role::Layer3,
    }
}

/// Whether there is an interface with this index in the network namespace of the calling thread.
pub(super) fn exists(index: u32) -> bool {
    nix::net::if_::if_indextoname(index).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_there() {
        let found = current().unwrap();
        let loopback = found.iter().find(|interface| interface.role == Role::Loopback).unwrap();
        assert_eq!(loopback.name, "lo");
        assert!(!loopback.is_member && loopback.master == 0 && loopback.mac == [0; 6]);
    }

    #[test]
    fn roles_follow_from_kind_and_master() {
        let cases = [
            (libc::ARPHRD_ETHER, "veth", "", Role::Veth),
            (libc::ARPHRD_ETHER, "veth", "bridge", Role::BridgePort),
            (libc::ARPHRD_ETHER, "", "bridge", Role::BridgePort),
            (libc::ARPHRD_ETHER, "bridge", "", Role::Bridge),
            (libc::ARPHRD_ETHER, "vxlan", "", Role::Overlay),
            (libc::ARPHRD_ETHER, "vlan", "", Role::Uplink),
            (libc::ARPHRD_ETHER, "bond", "", Role::Uplink),
            (libc::ARPHRD_ETHER, "", "", Role::Uplink),
            (libc::ARPHRD_NONE, "wireguard", "", Role::Layer3),
            (libc::ARPHRD_TUNNEL, "ipip", "", Role::Layer3),
            (libc::ARPHRD_LOOPBACK, "", "", Role::Loopback),
        ];
        for (hardware, kind, member_of, expected) in cases {
            let facts = Facts { kind, member_of, ..Facts::default() };
            assert_eq!(role(hardware, &facts), expected, "{kind} {member_of}");
        }
    }
}
