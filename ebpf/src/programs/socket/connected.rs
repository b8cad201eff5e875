//! The peers of connected sockets: in an array by the socket's cookie, which takes no look-up, and nothing has to be
//! evicted from.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use shunt_abi::{
    address::UDP,
    name::capacity,
    socket::{PeerValue, moment},
};

use super::{
    address::{Call, Peer},
    origin::{self, Origin},
};
use crate::maps::PEERS;

/// Elements of [`PEERS`]. Set by the agent before the programs are loaded, so that it costs the programs nothing.
#[unsafe(no_mangle)]
static PEERS_ELEMENTS: u32 = capacity::PEERS;

#[inline]
fn place(cookie: u64) -> Option<*mut PeerValue> {
    // SAFETY: a static of this object; volatile because the agent sets it where the compiler cannot see.
    let elements = unsafe { core::ptr::read_volatile(&raw const PEERS_ELEMENTS) };
    PEERS.get_ptr_mut(PeerValue::index(cookie, elements))
}

/// Notes which frontend the socket's backend stands for; whether that is new.
#[inline]
pub(super) fn remember<const IPV6: bool>(call: Call<IPV6>, origin: &Origin<'_>) -> bool {
    let cookie = call.cookie();
    // Every place of an array is there, but the verifier wants it asked.
    let Some(place) = place(cookie) else { return true };
    let now = now();
    let new = origin.peer(cookie, now);
    // SAFETY: the pointer comes from a map look-up. What others write there meanwhile shows in the sum.
    let old = unsafe { &*place };
    if old.cookie == cookie && old.sum == new.sum {
        return false;
    }
    // Datagrams of this socket's last peer may wait in it; and who keeps asking is to be told the same as before.
    if old.is_in_use(now) || old.cookie == cookie && old.protocol == UDP {
        keep(place);
    }
    // SAFETY: as above.
    unsafe { place.write(new) };
    true
}

#[inline]
fn now() -> u32 {
    // SAFETY: the helper takes nothing.
    moment(unsafe { bpf_jiffies64() })
}

/// Moves an element to where it stays as long as it is used.
#[inline(never)]
fn keep(place: *const PeerValue) {
    let old = read(place);
    if old.is_whole() {
        let (key, value) = old.origin();
        origin::keep(&key, &value);
    }
}

/// A copy, so that what is found whole is what is used.
#[inline]
fn read(place: *const PeerValue) -> PeerValue {
    // SAFETY: the pointer comes from a map look-up. Volatile, since others may write there.
    unsafe { core::ptr::read_volatile(place) }
}

/// The frontend that a connected socket's backend stands for.
#[inline]
pub(super) fn frontend(cookie: u64, backend: &Peer) -> Option<Peer> {
    let place = place(cookie)?;
    let found = read(place);
    let is_of_backend = found.backend_address == backend.address && found.backend_port == backend.port;
    if found.cookie != cookie || !is_of_backend || !found.is_whole() {
        return None;
    }
    let elapsed = found.elapsed(now());
    if elapsed > found.asked_after {
        // SAFETY: the pointer comes from a map look-up. In another socket's element it is only a reason to keep that.
        unsafe { (*place).asked_after = elapsed };
    }
    Some(Peer { address: found.address, port: found.port })
}
