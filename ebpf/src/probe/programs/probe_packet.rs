//! tc probe: records of a packet what the per-packet path has to know, and changes nothing.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, BPF_CSUM_LEVEL_QUERY, bpf_fib_lookup as FibParameters, tcx_action_base::TCX_NEXT},
    helpers::generated::{bpf_csum_level, bpf_fib_lookup},
    programs::TcContext,
};
use shunt_abi::probe::{FIB_NOT_TRIED, NO_NETWORK_HEADER, PacketFacts};

use crate::{
    maps::PROBE_PACKET,
    packet::{ethernet, ip},
};

/// Bytes of the helper's parameters (linux/bpf.h, the same since 4.18).
const FIB_PARAMETERS: i32 = 64;
const _: () = assert!(size_of::<FibParameters>() == 64);

pub(crate) fn run(ctx: &TcContext) -> i32 {
    if let Some(facts) = PROBE_PACKET.get_ptr_mut(0) {
        // SAFETY: the pointer comes from a map look-up, is not null, and the array outlives the program.
        record(ctx, unsafe { &mut *facts });
    }
    TCX_NEXT
}

fn record(ctx: &TcContext, facts: &mut PacketFacts) {
    // SAFETY: the kernel hands the program a valid context, whose fields it lets classifiers read.
    let skb: &__sk_buff = unsafe { &*ctx.skb.skb };
    facts.packets += 1;
    facts.length = skb.len;
    facts.linear = skb.data_end.wrapping_sub(skb.data);
    facts.ifindex = skb.ifindex;
    facts.ingress_ifindex = skb.ingress_ifindex;
    facts.gso_size = skb.gso_size;
    facts.gso_segs = skb.gso_segs;
    facts.vlan_tci = if skb.vlan_present == 0 { 0 } else { skb.vlan_tci };
    record_headers(ctx, ethernet::protocol(skb), facts);
    // SAFETY: the helper takes the program's own context and a query that changes nothing.
    let level = unsafe { bpf_csum_level(ctx.skb.skb, u64::from(BPF_CSUM_LEVEL_QUERY)) };
    facts.csum_level = narrow(level);
}

fn record_headers(ctx: &TcContext, protocol: u16, facts: &mut PacketFacts) {
    facts.protocol = u32::from(protocol);
    facts.network_offset = NO_NETWORK_HEADER;
    facts.fib_result = FIB_NOT_TRIED;
    facts.fib_ifindex = 0;
    if let Some(offset) = ethernet::network_offset(ctx, protocol) {
        facts.network_offset = offset;
        record_route(ctx, protocol, offset, facts);
    }
}

fn record_route(ctx: &TcContext, protocol: u16, offset: u32, facts: &mut PacketFacts) {
    // SAFETY: the structure holds integers and unions of them only; all zeroes is a value of each.
    let mut query: FibParameters = unsafe { core::mem::zeroed() };
    if ip::fill_route_query(ctx, protocol, offset as usize, &mut query).is_none() {
        return;
    }
    query.ifindex = facts.ifindex;
    // SAFETY: the helper takes the context and a buffer of the length that it is told.
    let result = unsafe { bpf_fib_lookup(ctx.as_ptr(), &raw mut query, FIB_PARAMETERS, 0) };
    facts.fib_result = narrow(result);
    facts.fib_ifindex = query.ifindex;
}

/// Helpers return small numbers in 64 bits.
fn narrow(result: i64) -> i32 {
    i32::try_from(result).unwrap_or(i32::MAX)
}
