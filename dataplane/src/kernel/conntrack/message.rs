//! ctnetlink messages: dump requests with a filter, deletions, and flows read from replies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use netlink_bindings::conntrack::{
    ConntrackAttrs, IterableConntrackAttrs, IterableTupleAttrs, Nfgenmsg, OpGetDump, PushConntrackAttrs,
    PushTupleAttrs, Request, TupleAttrs, TupleIpAttrs, TupleProtoAttrs,
};
use netlink_bindings::traits::{NetlinkRequest, Protocol, Pusher};

use super::{Flow, Tuple};
use crate::domain::IpFamily;

/// NETLINK_NETFILTER, subsystem conntrack, IPCTNL_MSG_CT_DELETE.
const DELETE: Protocol = Protocol::Raw { protonum: 12, request_type: 0x0102 };
const UDP: u8 = 17;

/// Which fields of the original tuple the kernel compares in a filtered dump: CTA_FILTER_F_* of
/// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_internals.h>. Kernels before 5.8 ignore the
/// attribute and send everything, so replies are always looked at again.
mod filter_flag {
    pub(super) const IP_DST: u32 = 1 << 1;
    pub(super) const PROTO_NUM: u32 = 1 << 3;
    pub(super) const PROTO_DST_PORT: u32 = 1 << 5;
}

/// What the kernel is asked to list: UDP flows of a family, perhaps with one destination only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Filter {
    /// Family of the flows.
    pub(super) family: IpFamily,
    /// Original destination port, host order.
    pub(super) port: Option<u16>,
    /// Original destination. There is none for IPv6: the kernel compares IPv6 addresses the wrong way round and
    /// lists all flows but those asked for (seen up to 6.18,
    /// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_netlink.c#L1108>).
    pub(super) address: Option<Ipv4Addr>,
}

impl Filter {
    /// All UDP flows of a family.
    pub(super) const fn family(family: IpFamily) -> Self {
        Self { family, port: None, address: None }
    }

    fn flags(&self) -> u32 {
        let port = self.port.map_or(0, |_| filter_flag::PROTO_DST_PORT);
        let address = self.address.map_or(0, |_| filter_flag::IP_DST);
        filter_flag::PROTO_NUM | port | address
    }

    /// The dump request; without `in_kernel` the whole family is listed.
    pub(super) fn dump(&self, in_kernel: bool) -> OpGetDump<'static> {
        let mut request = Request::new().op_get_dump(&header(self.family));
        if in_kernel {
            let mut proto = request.encode().nested_tuple_orig();
            if let Some(address) = self.address {
                proto = proto.nested_tuple_ip().push_ip_v4_dst(address).end_nested();
            }
            let mut proto = proto.nested_tuple_proto().push_proto_num(UDP);
            if let Some(port) = self.port {
                proto = proto.push_proto_dst_port(port);
            }
            proto.end_nested().end_nested().nested_filter().push_orig_flags(self.flags()).end_nested();
        }
        request
    }
}

/// Deletes exactly the entry that was listed, not a newer one of the same addresses.
#[derive(Debug)]
pub(super) struct Deletion {
    payload: Vec<u8>,
}

impl Deletion {
    pub(super) fn of(flow: &Flow) -> Self {
        let family = IpFamily::of(flow.original.destination.ip());
        let mut payload = header(family).as_slice().to_vec();
        let mut attributes = PushConntrackAttrs::new(&mut payload);
        let mut tuple = push_tuple(attributes.nested_tuple_orig(), &flow.original);
        if flow.original_zone != 0 {
            tuple = tuple.push_tuple_zone(flow.original_zone);
        }
        attributes = tuple.end_nested().push_id(flow.id);
        if flow.zone != 0 {
            attributes = attributes.push_zone(flow.zone);
        }
        drop(attributes);
        Self { payload }
    }
}

impl NetlinkRequest for Deletion {
    type ReplyType<'buf> = ();

    fn protocol(&self) -> Protocol {
        DELETE
    }

    fn flags(&self) -> u16 {
        0
    }

    fn payload(&self) -> &[u8] {
        &self.payload
    }

    fn decode_reply(_: &[u8]) -> Self::ReplyType<'_> {}
}

fn header(family: IpFamily) -> Nfgenmsg {
    let family = match family {
        IpFamily::V4 => libc::AF_INET,
        IpFamily::V6 => libc::AF_INET6,
    };
    let mut header = Nfgenmsg::new();
    header.nfgen_family = u8::try_from(family).unwrap_or_default();
    header
}

fn push_tuple<Prev: Pusher>(tuple: PushTupleAttrs<Prev>, ends: &Tuple) -> PushTupleAttrs<Prev> {
    let ip = tuple.nested_tuple_ip();
    let ip = match ends.source.ip() {
        IpAddr::V4(source) => ip.push_ip_v4_src(source),
        IpAddr::V6(source) => ip.push_ip_v6_src(source),
    };
    let ip = match ends.destination.ip() {
        IpAddr::V4(destination) => ip.push_ip_v4_dst(destination),
        IpAddr::V6(destination) => ip.push_ip_v6_dst(destination),
    };
    ip.end_nested()
        .nested_tuple_proto()
        .push_proto_num(UDP)
        .push_proto_src_port(ends.source.port())
        .push_proto_dst_port(ends.destination.port())
        .end_nested()
}

/// The flow in a reply; `None` if it is not UDP or lacks a part.
pub(super) fn read_flow(attributes: IterableConntrackAttrs<'_>) -> Option<Flow> {
    let (mut original, mut reply, mut id, mut zone) = (None, None, None, 0);
    for attribute in attributes {
        match attribute.ok()? {
            ConntrackAttrs::TupleOrig(tuple) => original = Some(read_tuple(tuple)?),
            ConntrackAttrs::TupleReply(tuple) => reply = Some(read_tuple(tuple)?),
            ConntrackAttrs::Id(found) => id = Some(found),
            ConntrackAttrs::Zone(found) => zone = found,
            _ => {}
        }
    }
    let ((original, original_zone), (reply, _)) = (original?, reply?);
    Some(Flow { original, reply, id: id?, zone, original_zone })
}

/// A UDP tuple and its zone.
fn read_tuple(attributes: IterableTupleAttrs<'_>) -> Option<(Tuple, u16)> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut source_port, mut destination_port, mut zone) = (None, None, None, 0);
    for attribute in attributes {
        match attribute.ok()? {
            TupleAttrs::TupleIp(addresses) => {
                for address in addresses {
                    match address.ok()? {
                        TupleIpAttrs::IpV4Src(address) => source = Some(IpAddr::V4(address)),
                        TupleIpAttrs::IpV4Dst(address) => destination = Some(IpAddr::V4(address)),
                        TupleIpAttrs::IpV6Src(address) => source = Some(IpAddr::V6(address)),
                        TupleIpAttrs::IpV6Dst(address) => destination = Some(IpAddr::V6(address)),
                    }
                }
            }
            TupleAttrs::TupleProto(parts) => {
                for part in parts {
                    match part.ok()? {
                        TupleProtoAttrs::ProtoNum(number) => protocol = Some(number),
                        TupleProtoAttrs::ProtoSrcPort(port) => source_port = Some(port),
                        TupleProtoAttrs::ProtoDstPort(port) => destination_port = Some(port),
                        _ => {}
                    }
                }
            }
            TupleAttrs::TupleZone(found) => zone = found,
        }
    }
    let tuple = Tuple {
        source: SocketAddr::new(source?, source_port?),
        destination: SocketAddr::new(destination?, destination_port?),
    };
    (protocol? == UDP).then_some((tuple, zone))
}
