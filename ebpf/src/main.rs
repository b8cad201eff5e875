//! The dataplane's BPF programs: entry points only.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    unsafe_code,
    reason = "BPF programs are entered, and maps and contexts reached, through raw pointers"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the macros of the entry points hand contexts over by value"
)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key that is not borrowed from a map's memory is copied to the stack first"
)]

mod count;
mod family;
mod flow;
mod log;
mod maps;
mod packet;
mod programs;

use aya_ebpf::{
    bindings::tcx_action_base,
    macros::{cgroup_sock_addr, classifier},
    programs::{SockAddrContext, TcContext},
};
use shunt_abi::counter::Counter;

use crate::{
    family::{V4, V6},
    packet::Skb,
    programs::socket::{self, address::Call},
};

/// Packets that enter this host by an interface: client to frontend.
#[classifier]
fn shunt_ingress(ctx: TcContext) -> i32 {
    programs::ingress::run::<false>(Skb::new(&ctx))
}

/// The same, where flows are accelerated. (A program of its own: without, nothing of it is run.)
#[classifier]
fn shunt_ingress_accelerated(ctx: TcContext) -> i32 {
    programs::ingress::run::<true>(Skb::new(&ctx))
}

/// Packets that leave by an interface: backend to client, and what this node itself sends to frontends.
#[classifier]
fn shunt_egress(ctx: TcContext) -> i32 {
    programs::egress::run(Skb::new(&ctx))
}

/// The continuations (`shunt_abi::tail`) of a family.
macro_rules! tails {
    ($family:ty, $consider:ident, $decide:ident, $store:ident, $special:ident, $return:ident, $unknown:ident, $reject:ident, $in:ident, $out:ident, $direct:ident, $unusual_reply:ident) => {
        #[classifier]
        fn $consider(ctx: TcContext) -> i32 {
            flow::consider::<$family>(Skb::new(&ctx))
        }

        #[classifier]
        fn $decide(ctx: TcContext) -> i32 {
            flow::decide::<$family>(Skb::new(&ctx))
        }

        #[classifier]
        fn $store(ctx: TcContext) -> i32 {
            flow::settle::<$family>(Skb::new(&ctx))
        }

        #[classifier]
        fn $special(ctx: TcContext) -> i32 {
            flow::special::<$family>(Skb::new(&ctx))
        }

        #[classifier]
        fn $return(ctx: TcContext) -> i32 {
            programs::to_host_or_itself::<$family>(Skb::new(&ctx))
        }

        #[classifier]
        fn $unknown(ctx: TcContext) -> i32 {
            programs::ingress::unknown_port::<$family>(Skb::new(&ctx))
        }

        #[classifier]
        fn $reject(ctx: TcContext) -> i32 {
            programs::reject::reject::<$family>(Skb::new(&ctx))
        }

        #[classifier]
        fn $in(ctx: TcContext) -> i32 {
            programs::unusual::ingress::<$family>(Skb::new(&ctx))
        }

        #[classifier]
        fn $out(ctx: TcContext) -> i32 {
            programs::unusual::egress::<$family>(Skb::new(&ctx))
        }

        #[classifier]
        fn $direct(ctx: TcContext) -> i32 {
            flow::direct::<$family>(Skb::new(&ctx))
        }

        #[classifier]
        fn $unusual_reply(ctx: TcContext) -> i32 {
            programs::unusual_reply::<$family>(Skb::new(&ctx))
        }
    };
}

tails!(
    V4,
    shunt_consider4,
    shunt_decide4,
    shunt_store4,
    shunt_special4,
    shunt_return4,
    shunt_unknown4,
    shunt_reject4,
    shunt_unusual_in4,
    shunt_unusual_out4,
    shunt_direct4,
    shunt_unusual_reply4
);
tails!(
    V6,
    shunt_consider6,
    shunt_decide6,
    shunt_store6,
    shunt_special6,
    shunt_return6,
    shunt_unknown6,
    shunt_reject6,
    shunt_unusual_in6,
    shunt_unusual_out6,
    shunt_direct6,
    shunt_unusual_reply6
);

/// Reads the clock for the agent; attached nowhere.
#[classifier]
fn shunt_clock(_ctx: TcContext) -> i32 {
    programs::clock::run()
}

/// Does nothing: what the runs of the others are measured against.
#[classifier]
fn shunt_empty(_ctx: TcContext) -> i32 {
    tcx_action_base::TCX_NEXT
}

/// The programs of socket load balancing, one for each attach point and IP version.
macro_rules! sockets {
    ($($(#[doc = $doc:literal])+ $name:ident($hook:ident, $ipv6:literal) => $body:expr;)+) => {
        $($(#[doc = $doc])+
        #[cgroup_sock_addr($hook)]
        fn $name(ctx: SockAddrContext) -> i32 {
            let body: fn(Call<$ipv6>) -> i32 = $body;
            body(Call::new(&ctx))
        })+
    };
}

sockets! {
    /// A socket is connected.
    shunt_connect4(connect4, false) => socket::connect;
    /// A socket is connected.
    shunt_connect6(connect6, true) => socket::connect;
    /// A datagram is sent to an address.
    shunt_sendmsg4(sendmsg4, false) => socket::send;
    /// A datagram is sent to an address.
    shunt_sendmsg6(sendmsg6, true) => socket::send;
    /// A datagram is received.
    shunt_recvmsg4(recvmsg4, false) => |call| socket::show_frontend(call, Some(Counter::SocketReceive));
    /// A datagram is received.
    shunt_recvmsg6(recvmsg6, true) => |call| socket::show_frontend(call, Some(Counter::SocketReceive));
    /// A process asks for its peer.
    shunt_getpeername4(getpeername4, false) => |call| socket::show_frontend(call, None);
    /// A process asks for its peer.
    shunt_getpeername6(getpeername6, true) => |call| socket::show_frontend(call, None);
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program in which it could be.
    loop {}
}

/// Helpers marked GPL-only may be called by programs with this licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
