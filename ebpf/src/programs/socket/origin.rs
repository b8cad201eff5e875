//! What a process believes that its peer is.

use aya_ebpf::bindings::BPF_ANY;
use shunt_abi::{
    counter::Counter,
    known::Role,
    socket::{OriginKey, OriginValue, PeerValue},
};

use super::{
    ALLOW,
    address::{Call, Peer},
    connected,
};
use crate::{count, flow::Picked, maps::ORIGINS};

/// A backend that a socket gets in place of a frontend.
pub(super) struct Origin<'a> {
    pub(super) protocol: u8,
    pub(super) frontend: &'a Peer,
    pub(super) picked: &'a Picked,
}

impl Origin<'_> {
    fn backend(&self) -> Peer {
        Peer { address: self.picked.backend.address, port: self.picked.backend.port }
    }

    fn value(&self) -> OriginValue {
        OriginValue {
            address: self.frontend.address,
            port: self.frontend.port,
            pad: 0,
            backend: self.picked.id,
            generation: self.picked.backend.generation,
        }
    }

    /// The same for a connected socket.
    #[inline]
    pub(super) fn peer(&self, cookie: u64, since: u32) -> PeerValue {
        let backend = self.picked.backend;
        PeerValue {
            cookie,
            backend_address: backend.address,
            address: self.frontend.address,
            backend_port: backend.port,
            port: self.frontend.port,
            backend: self.picked.id,
            generation: backend.generation,
            protocol: self.protocol,
            pad: 0,
            asked_after: 0,
            since,
            sum: 0,
        }
        .summed()
    }
}

#[inline]
const fn key(cookie: u64, protocol: u8, peer: &Peer) -> OriginKey {
    OriginKey { cookie, address: peer.address, port: peer.port, protocol, pad: [0; 5] }
}

/// Notes which frontend one of the socket's backends stands for; whether that is new.
#[inline]
pub(super) fn remember<const IPV6: bool>(call: Call<IPV6>, origin: &Origin<'_>) -> bool {
    let value = origin.value();
    let key = key(call.cookie(), origin.protocol, &origin.backend());
    // SAFETY: the element may be given to another socket, but only once it is the least recently used of all.
    if unsafe { ORIGINS.get(&key) } == Some(&value) {
        return false;
    }
    keep(&key, &value);
    true
}

#[inline]
pub(super) fn keep(key: &OriginKey, value: &OriginValue) {
    // A map that evicts is never full.
    let _full = ORIGINS.insert(key, value, u64::from(BPF_ANY));
}

/// `recvmsg()` and `getpeername()`: shows the process the frontend that it named.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a function of its own lies in memory of its own, which is cold")]
pub(crate) fn show_frontend<const IPV6: bool>(call: Call<IPV6>, counter: Option<Counter>) -> i32 {
    let Some(protocol) = call.protocol() else { return ALLOW };
    let peer = call.peer();
    // The peers of servers are clients.
    if !peer.is_known_as::<IPV6>(Role::Backend, protocol) {
        return ALLOW;
    }
    let Some(frontend) = frontend(call.cookie(), protocol, &peer) else { return ALLOW };
    call.replace(&frontend);
    if let Some(counter) = counter {
        count::count(counter);
    }
    ALLOW
}

#[inline]
fn frontend(cookie: u64, protocol: u8, peer: &Peer) -> Option<Peer> {
    if let Some(frontend) = connected::frontend(cookie, peer) {
        return Some(frontend);
    }
    // SAFETY: the element may be given to another socket, but only once it is the least recently used of all.
    let origin = unsafe { ORIGINS.get(key(cookie, protocol, peer)) }?;
    Some(Peer { address: origin.address, port: origin.port })
}
