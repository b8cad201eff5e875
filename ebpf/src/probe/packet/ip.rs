//! IPv4 and IPv6 headers, as far as a route look-up needs them.

use aya_ebpf::{bindings::bpf_fib_lookup as FibParameters, programs::TcContext};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Address families as the kernel numbers them (linux/socket.h).
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Offsets within the IPv4 header.
const V4_PROTOCOL: usize = 9;
const V4_SOURCE: usize = 12;
const V4_DESTINATION: usize = 16;

/// Offsets within the IPv6 header.
const V6_NEXT_HEADER: usize = 6;
const V6_SOURCE: usize = 8;
const V6_DESTINATION: usize = 24;

/// IP version of an EtherType (host byte order), if it is one of IP's.
pub(crate) const fn version_of(ethertype: u16) -> Option<u8> {
    match ethertype {
        ETHERTYPE_IPV4 => Some(4),
        ETHERTYPE_IPV6 => Some(6),
        _ => None,
    }
}

/// Fills in the question to the routing table for the packet whose IP header is at `offset`; the caller sets
/// `ifindex`. `None`, with `query` partly filled, where the header cannot be read.
pub(crate) fn fill_route_query(
    ctx: &TcContext,
    ethertype: u16,
    offset: usize,
    query: &mut FibParameters,
) -> Option<()> {
    match ethertype {
        ETHERTYPE_IPV4 => fill_v4(ctx, offset, query),
        ETHERTYPE_IPV6 => fill_v6(ctx, offset, query),
        _ => None,
    }
}

fn fill_v4(ctx: &TcContext, offset: usize, query: &mut FibParameters) -> Option<()> {
    query.family = AF_INET;
    query.l4_protocol = ctx.load(offset + V4_PROTOCOL).ok()?;
    query.__bindgen_anon_3.ipv4_src = ctx.load(offset + V4_SOURCE).ok()?;
    query.__bindgen_anon_4.ipv4_dst = ctx.load(offset + V4_DESTINATION).ok()?;
    Some(())
}

fn fill_v6(ctx: &TcContext, offset: usize, query: &mut FibParameters) -> Option<()> {
    query.family = AF_INET6;
    query.l4_protocol = ctx.load(offset + V6_NEXT_HEADER).ok()?;
    fill_v6_source(ctx, offset, query)?;
    fill_v6_destination(ctx, offset, query)
}

// One function for each address: together their temporaries are more than a BPF stack frame should hold.
fn fill_v6_source(ctx: &TcContext, offset: usize, query: &mut FibParameters) -> Option<()> {
    query.__bindgen_anon_3.ipv6_src = ctx.load(offset + V6_SOURCE).ok()?;
    Some(())
}

fn fill_v6_destination(ctx: &TcContext, offset: usize, query: &mut FibParameters) -> Option<()> {
    query.__bindgen_anon_4.ipv6_dst = ctx.load(offset + V6_DESTINATION).ok()?;
    Some(())
}
