//! The probe programs, by which the agent finds out what a kernel can do: entry points only.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "BPF programs are entered, and maps and contexts reached, through raw pointers"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the macros of the entry points hand contexts over by value"
)]

mod maps;
mod packet;
mod programs;

use aya_ebpf::{
    macros::{cgroup_sock_addr, classifier},
    programs::{SockAddrContext, TcContext},
};

/// Records the facts of a packet and leaves it to whatever comes next.
#[classifier]
fn shunt_probe_packet(ctx: TcContext) -> i32 {
    programs::probe_packet::run(&ctx)
}

/// Refuses connections to the probe's target, and no others.
#[cgroup_sock_addr(connect4)]
fn shunt_probe_connect(ctx: SockAddrContext) -> i32 {
    programs::probe_connect::run(&ctx)
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
