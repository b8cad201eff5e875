//! Where a socket is connected, or a datagram sent.

use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_set_retval};
use shunt_abi::{
    config::{Config, PODS_BY_INTERFACE, PODS_BY_RANGE, Range4, Range6, SOCKETS_HOST_ONLY},
    counter::Counter,
    frontend::{FrontendValue, MASQUERADE_ALL, RANGES, SOCKET_ONLY, SPLIT},
    known::Role,
};

use super::{
    ALLOW, REFUSE,
    address::{Call, Peer},
    connected, opt_out,
    origin::{self, Origin},
};
use crate::{
    count,
    family::{Family, V4, V6, mix},
    flow::{Client, Pool},
    maps,
};

/// 0 where the kernel has no `bpf_set_retval` (before 5.18): refused sockets would see `EPERM`, so they are left to the
/// packet programs, which reject what they send. Set by the agent before the programs are loaded; the verifier does not
/// look at what can never run.
#[unsafe(no_mangle)]
static HAS_SET_RETVAL: u8 = 1;

const ECONNREFUSED: i32 = 111;

/// `connect()`: any backend will do.
pub(crate) fn connect<const IPV6: bool>(call: Call<IPV6>) -> i32 {
    // SAFETY: the helper takes nothing.
    balance(call, |_| unsafe { bpf_get_prandom_u32() }, connected::remember, Counter::SocketConnect)
}

/// A datagram of a socket that is not connected: the same backend as long as it is there, since the answers to what it
/// sent before may still come.
pub(crate) fn send<const IPV6: bool>(call: Call<IPV6>) -> i32 {
    balance(call, |call| mix(call.cookie()), origin::remember, Counter::SocketSend)
}

#[inline]
fn balance<const IPV6: bool>(
    call: Call<IPV6>,
    hash: impl FnOnce(Call<IPV6>) -> u32,
    remember: impl FnOnce(Call<IPV6>, &Origin<'_>) -> bool,
    counter: Counter,
) -> i32 {
    let (Some(protocol), Some(config)) = (call.protocol(), maps::config()) else { return ALLOW };
    let peer = call.peer();
    let Some(frontend) = find::<IPV6>(&peer, protocol) else { return ALLOW };
    if !concerns(call, &peer, frontend, config) || opt_out::is_wanted(config) {
        return ALLOW;
    }
    let pool = Pool::of(frontend, Client::Host);
    if pool.length == 0 {
        return if pool.rejects == 0 { ALLOW } else { refuse() };
    }
    // A frontend for sockets alone has one client, this node: its affinity is to choose alike every time.
    let sticky = frontend.affinity_seconds != 0;
    let hash = if sticky {
        mix(u64::from(frontend.service) << 32 | u64::from(config.hash_seed))
    } else {
        hash(call)
    };
    let Some(picked) = pool.at(hash, 0) else { return ALLOW };
    let backend = Peer { address: picked.backend.address, port: picked.backend.port };
    // What the socket sends to a backend that is a frontend as well would be translated once more.
    if frontend.flags & SOCKET_ONLY == 0 && backend.is_known_as::<IPV6>(Role::Frontend, protocol) {
        return ALLOW;
    }
    let is_new = remember(call, &Origin { protocol, frontend: &peer, picked: &picked });
    call.replace(&backend);
    count::count(counter);
    if is_new {
        count::flow(frontend.service);
    }
    ALLOW
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "a function of its own lies in memory of its own, which is cold")]
fn find<const IPV6: bool>(peer: &Peer, protocol: u8) -> Option<&'static FrontendValue> {
    // Most of what sockets do is not about Services; answers to clients never are.
    if !peer.is_known_as::<IPV6>(Role::Frontend, protocol) {
        return None;
    }
    match peer.mapped::<IPV6>() {
        Some(address) => {
            let frontend = V4::frontend(address, peer.port, protocol);
            keep_apart();
            frontend
        }
        None => V6::frontend(peer.address, peer.port, protocol),
    }
}

/// Keeps the compiler from making one look-up of both families' with a choice of map: the kernel calls what a map has for
/// look-ups directly only where it sees which map it is.
#[inline]
fn keep_apart() {
    // SAFETY: the instruction writes one register that nobody reads. (It has to be one: the kernel refuses information on
    // lines without.)
    unsafe { core::arch::asm!("{0} = 0", lateout(reg) _, options(nomem, nostack)) };
}

/// Whether sockets of the process's network namespace are to be connected to backends of `frontend`.
#[inline]
fn concerns<const IPV6: bool>(
    call: Call<IPV6>,
    peer: &Peer,
    frontend: &FrontendValue,
    config: &Config,
) -> bool {
    let flags = frontend.flags;
    let host_only = flags & SOCKET_ONLY != 0;
    let by_client = flags & (RANGES | MASQUERADE_ALL) != 0 || frontend.affinity_seconds != 0;
    if by_client && !host_only {
        return false;
    }
    // Where nothing tells pods from others, they are outside, which the packets of theirs then are too.
    let pods_are_outside = flags & SPLIT != 0 && !are_pods_known::<IPV6>(peer, config);
    if !host_only && !pods_are_outside && config.flags & SOCKETS_HOST_ONLY == 0 {
        return true;
    }
    // SAFETY: the helper takes the program's own context.
    let cookie = unsafe { bpf_get_netns_cookie(call.raw().cast()) };
    cookie == config.host_netns_cookie
}

/// Whether something tells pods from others, in the peer's family.
#[inline]
fn are_pods_known<const IPV6: bool>(peer: &Peer, config: &Config) -> bool {
    let ([range4, ..], [range6, ..]) = (&config.pods4, &config.pods6);
    let is_any_range = match peer.mapped::<IPV6>() {
        Some(_) => *range4 != Range4::NONE,
        None => *range6 != Range6::NONE,
    };
    config.flags & PODS_BY_INTERFACE != 0 || config.flags & PODS_BY_RANGE != 0 && is_any_range
}

#[inline]
fn refuse() -> i32 {
    // SAFETY: a static of this object; volatile because the agent sets it where the compiler cannot see.
    if unsafe { core::ptr::read_volatile(&raw const HAS_SET_RETVAL) } == 0 {
        return ALLOW;
    }
    count::count(Counter::SocketRefused);
    // SAFETY: the helper takes a plain number.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    REFUSE
}
