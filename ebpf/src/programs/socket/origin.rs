//! What a process believes that its peer is.

use aya_ebpf::bindings::BPF_ANY;
use shunt_abi::{
    counter::Counter,
    known::Role,
    socket::{OriginKey, OriginValue},
};

use super::{
    ALLOW,
    address::{Call, Peer},
};
use crate::{count, flow::Picked, maps::ORIGINS};

#[inline]
fn key<const IPV6: bool>(call: Call<IPV6>, protocol: u8, peer: &Peer) -> OriginKey {
    OriginKey { cookie: call.cookie(), address: peer.address, port: peer.port, protocol, pad: [0; 5] }
}

/// Notes which frontend the socket's backend stands for; whether that is new.
#[inline]
pub(super) fn remember<const IPV6: bool>(
    call: Call<IPV6>,
    protocol: u8,
    frontend: &Peer,
    picked: &Picked,
) -> bool {
    let backend = Peer { address: picked.backend.address, port: picked.backend.port };
    let value = OriginValue {
        address: frontend.address,
        port: frontend.port,
        pad: 0,
        backend: picked.id,
        generation: picked.backend.generation,
    };
    let key = key(call, protocol, &backend);
    // SAFETY: the element may be given to another socket, but only once it is the least recently used of all.
    if unsafe { ORIGINS.get(&key) } == Some(&value) {
        return false;
    }
    // A map that evicts is never full.
    let _full = ORIGINS.insert(&key, value, u64::from(BPF_ANY));
    true
}

/// `recvmsg()` and `getpeername()`: shows the process the frontend that it named.
pub(crate) fn show_frontend<const IPV6: bool>(call: Call<IPV6>, counter: Option<Counter>) -> i32 {
    let Some(protocol) = call.protocol() else { return ALLOW };
    let peer = call.peer();
    // The peers of servers are clients.
    if !peer.is_known_as(Role::Backend, protocol) {
        return ALLOW;
    }
    // SAFETY: the element may be given to another socket, but only once it is the least recently used of all.
    let origin = unsafe { ORIGINS.get(key(call, protocol, &peer)) };
    if let Some(origin) = origin {
        call.replace(&Peer { address: origin.address, port: origin.port });
        if let Some(counter) = counter {
            count::count(counter);
        }
    }
    ALLOW
}
