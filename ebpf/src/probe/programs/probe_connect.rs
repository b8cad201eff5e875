//! connect4 probe: refuses one destination with an errno of the agent's choice, lets every other connection pass.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{bpf_get_netns_cookie, bpf_set_retval},
    programs::SockAddrContext,
};
use shunt_abi::probe::ConnectProbe;

use crate::maps::PROBE_CONNECT;

/// Verdicts of a cgroup socket address program.
const REFUSE: i32 = 0;
const ALLOW: i32 = 1;
const MAX_ERRNO: u32 = 4095;

/// Whether the kernel has `bpf_set_retval` (5.18 and later); set by the agent. Without, the socket sees EPERM.
#[unsafe(no_mangle)]
static HAS_SET_RETVAL: u8 = 1;

pub(crate) fn run(ctx: &SockAddrContext) -> i32 {
    let Some(probe) = PROBE_CONNECT.get_ptr_mut(0) else { return ALLOW };
    // SAFETY: the pointer comes from a map look-up, is not null, and the array outlives the program.
    let probe = unsafe { &mut *probe };
    if is_target(ctx, probe) { refuse(ctx, probe) } else { ALLOW }
}

fn is_target(ctx: &SockAddrContext, probe: &ConnectProbe) -> bool {
    // SAFETY: the kernel hands the program a valid context; the field is readable in connect4.
    let address = unsafe { (*ctx.sock_addr).user_ip4 };
    // SAFETY: as above.
    let port = unsafe { (*ctx.sock_addr).user_port };
    address != 0
        && address == u32::from_ne_bytes(probe.address)
        && port == u32::from(u16::from_ne_bytes(probe.port))
}

fn refuse(ctx: &SockAddrContext, probe: &mut ConnectProbe) -> i32 {
    probe.refused += 1;
    // SAFETY: the helper takes the program's own context.
    probe.netns_cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    // SAFETY: a static of this object; volatile because the agent sets it where the compiler cannot see.
    if unsafe { core::ptr::read_volatile(&raw const HAS_SET_RETVAL) } != 0 {
        // Kernels from 7 on want to know that it is an error number, 4,095 at most.
        let errno = probe.errno & MAX_ERRNO;
        // SAFETY: the helper takes a plain number.
        unsafe { bpf_set_retval(-(errno.cast_signed())) };
    }
    REFUSE
}
