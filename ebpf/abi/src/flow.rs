//! Translated flows: two entries each, of the packets in either direction as they arrive.
//!
//! *Forward*: client -> frontend, the value names the backend. *Reverse*: backend -> client, the value names the
//! frontend. From the key and value of one half follows the key of the other ([`FlowKey4::other_half`]).
//!
//! Where another flow of the client, through another frontend, has the way back already, backends see the client with
//! another port than its own ([`REMAPPED`]).
//!
//! New flows are in the *opening* maps, which evict the least recently used. A TCP flow moves to the *flows* maps,
//! which evict nothing, with the client's first segment without SYN; others with the client's second packet. The
//! agent collects what is over or idle, both halves together.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{address::Words, assert_layout};

/// [`FlowKey4::direction`] of packets from the client.
pub const FORWARD: u8 = 1;
/// [`FlowKey4::direction`] of packets from the backend.
pub const REVERSE: u8 = 2;

/// Key of an IPv4 flow: the packet before its translation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowKey4 {
    /// Source address, network order.
    pub source: u32,
    /// Destination address, network order.
    pub destination: u32,
    /// Source port, network order.
    pub source_port: u16,
    /// Destination port, network order.
    pub destination_port: u16,
    /// IANA number.
    pub protocol: u8,
    /// [`FORWARD`] or [`REVERSE`].
    pub direction: u8,
    /// Zero.
    pub pad: u16,
}

assert_layout!(FlowKey4, size 16,
    source @ 0, destination @ 4, source_port @ 8, destination_port @ 10, protocol @ 12, direction @ 13, pad @ 14,
);

/// Key of an IPv6 flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowKey6 {
    /// Source address, network order.
    pub source: Words,
    /// Destination address, network order.
    pub destination: Words,
    /// Source port, network order.
    pub source_port: u16,
    /// Destination port, network order.
    pub destination_port: u16,
    /// IANA number.
    pub protocol: u8,
    /// [`FORWARD`] or [`REVERSE`].
    pub direction: u8,
    /// Zero.
    pub pad: u16,
}

assert_layout!(FlowKey6, size 40,
    source @ 0, destination @ 16, source_port @ 32, destination_port @ 34, protocol @ 36, direction @ 37, pad @ 38,
);

/// What happens to packets of one direction of an IPv4 flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowValue4 {
    /// Forward: the backend's address; reverse: the frontend's. Network order.
    pub address: u32,
    /// Its port, network order.
    pub port: u16,
    /// Bits below.
    pub flags: u16,
    /// Id of the backend.
    pub backend: u32,
    /// Its generation when it was chosen.
    pub generation: u32,
    /// The Service port.
    pub service: u32,
    /// Tick of the last packet in this direction ([`crate::clock`]).
    pub last_seen: u32,
    /// [`HOST_CLIENT`]: interface by which the client's packets would have left.
    pub interface: u32,
    /// [`REMAPPED`]: forward: the client's port as the backend sees it; reverse: the client's own. Network order.
    pub client_port: u16,
    /// Zero.
    pub pad: u16,
}

assert_layout!(FlowValue4, size 32,
    address @ 0, port @ 4, flags @ 6, backend @ 8, generation @ 12, service @ 16, last_seen @ 20, interface @ 24,
    client_port @ 28, pad @ 30,
);

/// What happens to packets of one direction of an IPv6 flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowValue6 {
    /// Forward: the backend's address; reverse: the frontend's. Network order.
    pub address: Words,
    /// Its port, network order.
    pub port: u16,
    /// Bits below.
    pub flags: u16,
    /// Id of the backend.
    pub backend: u32,
    /// Its generation when it was chosen.
    pub generation: u32,
    /// The Service port.
    pub service: u32,
    /// Tick of the last packet in this direction ([`crate::clock`]).
    pub last_seen: u32,
    /// [`HOST_CLIENT`]: interface by which the client's packets would have left.
    pub interface: u32,
    /// [`REMAPPED`]: forward: the client's port as the backend sees it; reverse: the client's own. Network order.
    pub client_port: u16,
    /// Zero.
    pub pad: u16,
}

assert_layout!(FlowValue6, size 44,
    address @ 0, port @ 16, flags @ 18, backend @ 20, generation @ 24, service @ 28, last_seen @ 32, interface @ 36,
    client_port @ 40, pad @ 42,
);

/// A FIN (SCTP: SHUTDOWN) was seen in this direction. Over when both halves have it.
pub const FINISHED: u16 = 1 << 0;
/// A RST (SCTP: ABORT) was seen in this direction: over.
pub const RESET: u16 = 1 << 1;
/// Packets to the backend carry the masquerade mark.
pub const MASQUERADED: u16 = 1 << 2;
/// The client is a process in this node's own network namespace.
pub const HOST_CLIENT: u16 = 1 << 3;
/// The backend is its own client: both addresses are replaced, and packets go out where they came in. The reverse
/// half's key has the hairpin address ([`crate::config::Config::hairpin4`]) as its destination, and so the forward
/// key follows with the backend's address in its place.
pub const HAIRPIN: u16 = 1 << 4;
/// A packet was seen in this direction after the one that made the entry.
pub const SEEN_AGAIN: u16 = 1 << 5;
/// The backend is an address of this node itself.
pub const HOST_BACKEND: u16 = 1 << 6;
/// The backend sees another client port than the client's own, which another flow has: the reverse half's key has it.
pub const REMAPPED: u16 = 1 << 7;

/// The half of a flow that both families describe alike.
macro_rules! halves {
    ($key:ident, $value:ident, $address:ty) => {
        impl $key {
            /// Key of the flow's other half. `hairpin` is the address that stands for a backend that is its own client.
            #[must_use]
            pub fn other_half(&self, value: &$value, hairpin: $address) -> Self {
                let hairpinned = value.flags & HAIRPIN != 0;
                let (client, own_port, direction) = match self.direction {
                    FORWARD => (if hairpinned { hairpin } else { self.source }, self.source_port, REVERSE),
                    _ => (
                        if hairpinned { self.source } else { self.destination },
                        self.destination_port,
                        FORWARD,
                    ),
                };
                let client_port = if value.flags & REMAPPED == 0 { own_port } else { value.client_port };
                let (source, source_port, destination, destination_port) = match self.direction {
                    FORWARD => (value.address, value.port, client, client_port),
                    _ => (client, client_port, value.address, value.port),
                };
                Self {
                    source,
                    destination,
                    source_port,
                    destination_port,
                    protocol: self.protocol,
                    direction,
                    pad: 0,
                }
            }
        }
    };
}
halves!(FlowKey4, FlowValue4, u32);
halves!(FlowKey6, FlowValue6, Words);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_half_leads_to_the_other() {
        for flags in [0, HAIRPIN, REMAPPED, HAIRPIN | REMAPPED] {
            let key = FlowKey4 {
                source: 1,
                destination: 2,
                source_port: 3,
                destination_port: 4,
                protocol: 6,
                direction: FORWARD,
                pad: 0,
            };
            // A backend that is its own client has the client's address.
            let is_itself = flags & HAIRPIN != 0;
            let backend = if is_itself { 1 } else { 5 };
            let remapped = if flags & REMAPPED == 0 { 0 } else { 7 };
            let value = FlowValue4 { flags, ..FlowValue4::default() };
            let forward = FlowValue4 { address: backend, port: 6, client_port: remapped, ..value };
            let other = key.other_half(&forward, 9);
            assert_eq!((other.source, other.source_port, other.direction), (backend, 6, REVERSE));
            assert_eq!(
                (other.destination, other.destination_port),
                (if is_itself { 9 } else { 1 }, if remapped == 0 { 3 } else { remapped })
            );
            let own = if remapped == 0 { 0 } else { 3 };
            let reverse = FlowValue4 { address: 2, port: 4, client_port: own, ..value };
            assert_eq!(other.other_half(&reverse, 9), key);
        }
    }
}
