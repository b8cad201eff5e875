//! Translated flows: one element each, from the first packet to the end, found from both directions by what the packets
//! of both have in common: the client's address and port.
//!
//! **Slots.** Flows of one client port, through several frontends or to several backends, are in slots 0, 1, 2 and so on.
//! An element has [`MORE`] if there may be one in the next slot; where slot n is empty, all that follow are. So
//! an element that others follow is never deleted, but becomes [`VACANT`], to be replaced.
//!
//! **Which it is** the value says: a client's packet is of the element whose frontend it goes to
//! ([`FlowValue4::is_to`]), a backend's of the one whose backend it comes from ([`FlowValue4::is_from`]).
//!
//! **Aliases.** Where another flow of the client port has the same backend, that sees the client with another port than
//! its own ([`REMAPPED`]). Replies name that one: so the flow has a second element, with [`ALIAS`], in slot 0 of the port that
//! the backend sees. It is like the first one, but that [`FlowValue4::client_port`] is the client's own: each leads to the other
//! ([`FlowKey4::twin`]). So it is where the backend sees another address, too ([`FlowValue4::client`]): the alias is at that
//! address. [`FlowValue4::by_backend`] counts in the alias, [`FlowValue4::by_client`] in the first one.
//!
//! **Half-open flows** are in the *ring* ([`crate::name::HALF_OPEN4`]), in a place each, until they are established. A
//! flow that begins takes the next place of its CPU's part; whoever is there, and is half-open still, goes. A TCP flow
//! is established by the client's first segment without SYN; others by the client's second packet, or the backend's. No
//! program removes an established one that is not over; the agent collects those that are over or idle.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{address::Words, assert_layout};

/// Slots of a client port at most.
pub const SLOTS: u8 = 32;

/// Where the flows of an IPv4 client's port are. In the ring, all zeroes stands for nobody.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowKey4 {
    /// The client's own address (also of a backend that is its own client: replies to [`crate::config::Config::hairpin4`]
    /// come from it), network order.
    pub client: u32,
    /// Its port, network order: its own one, or in an alias the one that the backend sees.
    pub client_port: u16,
    /// IANA number.
    pub protocol: u8,
    /// Less than [`SLOTS`].
    pub slot: u8,
}

assert_layout!(FlowKey4, size 8, client @ 0, client_port @ 4, protocol @ 6, slot @ 7);

/// Where the flows of an IPv6 client's port are, likewise.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowKey6 {
    /// As of [`FlowKey4`].
    pub client: Words,
    /// As of [`FlowKey4`].
    pub client_port: u16,
    /// IANA number.
    pub protocol: u8,
    /// Less than [`SLOTS`].
    pub slot: u8,
}

assert_layout!(FlowKey6, size 20, client @ 0, client_port @ 16, protocol @ 18, slot @ 19);

/// An IPv4 flow. What packets need comes first: in the kernel's element of an IPv4 flow it shares a cache line with all else,
/// in that of an IPv6 flow with nothing else.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowValue4 {
    /// The address that the client talks to, network order.
    pub frontend: u32,
    /// The address of the backend, network order.
    pub backend: u32,
    /// The port that the client talks to, network order.
    pub frontend_port: u16,
    /// The port of the backend, network order.
    pub backend_port: u16,
    /// Bits [`MASQUERADED`] to [`ALIAS`], which stay as they are, and [`ACCELERATED`].
    pub flags: u16,
    /// [`REMAPPED`]: the port that the backend sees; with [`ALIAS`] the client's own. Network order; else 0.
    pub client_port: u16,
    /// Bits [`FINISHED`] to [`ANSWERED`], written by packets of the client only (both directions may be on different
    /// CPUs at once).
    pub by_client: u8,
    /// The same, written by packets of the backend only.
    pub by_backend: u8,
    /// Bits [`MORE`] and [`VACANT`].
    pub chain: u8,
    /// Zero.
    pub pad: u8,
    /// Tick of the last packet of either direction ([`crate::clock`]).
    pub last_seen: u32,
    /// Id of the backend ([`crate::name::BACKENDS`]).
    pub id: u32,
    /// Its generation when it was chosen.
    pub generation: u32,
    /// The Service port.
    pub service: u32,
    /// Interface by which the client's packets come; [`HOST_CLIENT`]: by which they would have left.
    pub interface: u32,
    /// Place in the ring, its index and one; 0: none. (Who is in that place now may be another.)
    pub place: u32,
    /// [`REMAPPED`]: the address that the backend sees; with [`ALIAS`] the client's own. Network order; 0: they are the same.
    pub client: u32,
    /// [`ACCELERATED`]: interface by which packets of the backend come; a bridge until one came, then its port. 0: it is not
    /// decided yet, and so with an alias.
    pub backend_interface: u32,
}

assert_layout!(FlowValue4, size 52,
    frontend @ 0, backend @ 4, frontend_port @ 8, backend_port @ 10, flags @ 12, client_port @ 14, by_client @ 16,
    by_backend @ 17, chain @ 18, pad @ 19, last_seen @ 20, id @ 24, generation @ 28, service @ 32, interface @ 36,
    place @ 40, client @ 44, backend_interface @ 48,
);

/// An IPv6 flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowValue6 {
    /// As of [`FlowValue4`].
    pub frontend: Words,
    /// As of [`FlowValue4`].
    pub backend: Words,
    /// As of [`FlowValue4`].
    pub frontend_port: u16,
    /// As of [`FlowValue4`].
    pub backend_port: u16,
    /// As of [`FlowValue4`].
    pub flags: u16,
    /// As of [`FlowValue4`].
    pub client_port: u16,
    /// As of [`FlowValue4`].
    pub by_client: u8,
    /// As of [`FlowValue4`].
    pub by_backend: u8,
    /// As of [`FlowValue4`].
    pub chain: u8,
    /// As of [`FlowValue4`].
    pub pad: u8,
    /// As of [`FlowValue4`].
    pub last_seen: u32,
    /// As of [`FlowValue4`].
    pub id: u32,
    /// As of [`FlowValue4`].
    pub generation: u32,
    /// As of [`FlowValue4`].
    pub service: u32,
    /// As of [`FlowValue4`].
    pub interface: u32,
    /// As of [`FlowValue4`].
    pub place: u32,
    /// As of [`FlowValue4`].
    pub client: Words,
    /// As of [`FlowValue4`].
    pub backend_interface: u32,
}

assert_layout!(FlowValue6, size 88,
    frontend @ 0, backend @ 16, frontend_port @ 32, backend_port @ 34, flags @ 36, client_port @ 38, by_client @ 40,
    by_backend @ 41, chain @ 42, pad @ 43, last_seen @ 44, id @ 48, generation @ 52, service @ 56, interface @ 60,
    place @ 64, client @ 68, backend_interface @ 84,
);

/// Of the flags: packets to the backend carry the masquerade mark.
pub const MASQUERADED: u16 = 1 << 2;
/// The client is a process in this node's own network namespace.
pub const HOST_CLIENT: u16 = 1 << 3;
/// The backend is its own client: both addresses are replaced, and packets go out where they came in. Replies go to the
/// hairpin address ([`crate::config::Config::hairpin4`]).
pub const HAIRPIN: u16 = 1 << 4;
/// The backend is an address of this node itself.
pub const HOST_BACKEND: u16 = 1 << 6;
/// The backend sees another client port, or another client address, than the client's own.
pub const REMAPPED: u16 = 1 << 7;
/// The element translates replies of a flow whose first element is elsewhere. With [`REMAPPED`] always.
pub const ALIAS: u16 = 1 << 8;
/// Packets of both sides leave the host's stack out. Of the flags, the only one that changes: it goes when the first packet finds
/// that they cannot, or a fragment comes.
pub const ACCELERATED: u16 = 1 << 10;

/// Of one direction: a FIN (SCTP: SHUTDOWN) was seen. Closed when both directions have it.
pub const FINISHED: u8 = 1 << 0;
/// A RST (SCTP: ABORT) was seen: over.
pub const RESET: u8 = 1 << 1;
/// Of either direction: the flow is established, and counted ([`crate::name::ESTABLISHED`]). (In both only if both
/// established it at once.) An alias never has it.
pub const ESTABLISHED: u8 = 1 << 2;
/// Of the backend's direction: a datagram was seen.
pub const ANSWERED: u8 = 1 << 3;

/// Of the chain: there may be an element in the next slot.
pub const MORE: u8 = 1 << 0;
/// The element matches no packet, and may be replaced.
pub const VACANT: u8 = 1 << 1;

/// What both families have alike.
macro_rules! alike {
    ($key:ident, $value:ident, $address:ty) => {
        impl $key {
            /// The key of another slot.
            #[inline]
            #[must_use]
            pub const fn in_slot(self, slot: u8) -> Self {
                Self { slot, ..self }
            }

            /// The key of the other element of a remapped flow, of which this is one: of its alias; of an alias, the flow's
            /// own, whose slot is to be found.
            #[inline]
            #[must_use]
            pub fn twin(self, value: &$value) -> Option<Self> {
                if value.flags & REMAPPED == 0 {
                    return None;
                }
                let client = if value.is_readdressed() { value.client } else { self.client };
                Some(Self { client, client_port: value.client_port, slot: 0, ..self })
            }
        }

        impl $value {
            /// Whether a packet of the client that goes there (network order) is of this flow.
            #[inline]
            #[must_use]
            pub fn is_to(&self, address: $address, port: u16) -> bool {
                self.frontend == address
                    && self.frontend_port == port
                    && self.chain & VACANT == 0
                    && self.flags & ALIAS == 0
            }

            /// Whether a packet to the client that comes from there (network order) is of this flow.
            #[inline]
            #[must_use]
            pub fn is_from(&self, address: $address, port: u16) -> bool {
                self.backend == address
                    && self.backend_port == port
                    && self.chain & VACANT == 0
                    && self.flags & (REMAPPED | ALIAS) != REMAPPED
            }

            /// Whether the backend sees another address than the client's own.
            #[inline]
            #[must_use]
            pub fn is_readdressed(&self) -> bool {
                self.client != <$address>::default()
            }

            /// Whether the flow is established.
            #[inline]
            #[must_use]
            pub const fn is_established(&self) -> bool {
                (self.by_client | self.by_backend) & ESTABLISHED != 0
            }

            /// Whether there may be an element in the next slot.
            #[inline]
            #[must_use]
            pub const fn has_more(&self) -> bool {
                self.chain & MORE != 0
            }

            /// Whether the element is nobody's.
            #[inline]
            #[must_use]
            pub const fn is_vacant(&self) -> bool {
                self.chain & VACANT != 0
            }
        }
    };
}
alike!(FlowKey4, FlowValue4, u32);
alike!(FlowKey6, FlowValue6, Words);

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: FlowValue4 = FlowValue4 {
        frontend: 1,
        backend: 2,
        frontend_port: 3,
        backend_port: 4,
        flags: 0,
        client_port: 0,
        by_client: 0,
        by_backend: 0,
        chain: 0,
        pad: 0,
        last_seen: 0,
        id: 0,
        generation: 0,
        service: 0,
        interface: 0,
        place: 0,
        client: 0,
        backend_interface: 0,
    };

    #[test]
    fn an_element_is_found_from_both_directions() {
        assert!(VALUE.is_to(1, 3) && VALUE.is_from(2, 4));
        assert!(!VALUE.is_to(2, 3) && !VALUE.is_to(1, 4) && !VALUE.is_from(1, 4) && !VALUE.is_from(2, 3));
        let vacant = FlowValue4 { chain: VACANT | MORE, ..VALUE };
        assert!(vacant.is_vacant() && vacant.has_more());
        assert!(!vacant.is_to(1, 3) && !vacant.is_from(2, 4));
    }

    #[test]
    fn replies_of_a_remapped_flow_are_the_alias_s_and_requests_its_own() {
        let remapped = FlowValue4 { flags: REMAPPED, client_port: 9, ..VALUE };
        assert!(remapped.is_to(1, 3) && !remapped.is_from(2, 4));
        let alias = FlowValue4 { flags: REMAPPED | ALIAS, client_port: 8, ..VALUE };
        assert!(!alias.is_to(1, 3) && alias.is_from(2, 4));
    }

    #[test]
    fn each_element_of_a_remapped_flow_leads_to_the_other() {
        let key = FlowKey4 { client: 7, client_port: 8, protocol: 6, slot: 1 };
        assert_eq!(key.twin(&VALUE), None);
        let remapped = FlowValue4 { flags: REMAPPED, client_port: 9, ..VALUE };
        let alias = FlowValue4 { flags: REMAPPED | ALIAS, client_port: 8, ..VALUE };
        let twin = key.twin(&remapped).unwrap();
        assert_eq!(twin, FlowKey4 { client_port: 9, slot: 0, ..key });
        assert_eq!(twin.twin(&alias), Some(key.in_slot(0)));
    }

    #[test]
    fn the_alias_is_at_the_address_that_the_backend_sees() {
        let key = FlowKey4 { client: 7, client_port: 8, protocol: 6, slot: 1 };
        let remapped = FlowValue4 { flags: REMAPPED, client_port: 8, client: 5, ..VALUE };
        let alias = FlowValue4 { flags: REMAPPED | ALIAS, client_port: 8, client: 7, ..VALUE };
        let twin = key.twin(&remapped).unwrap();
        assert_eq!(twin, FlowKey4 { client: 5, slot: 0, ..key });
        assert_eq!(twin.twin(&alias), Some(key.in_slot(0)));
        assert!(remapped.is_readdressed() && !VALUE.is_readdressed());
    }

    #[test]
    fn either_direction_establishes_a_flow() {
        assert!(!VALUE.is_established());
        assert!(FlowValue4 { by_client: ESTABLISHED, ..VALUE }.is_established());
        assert!(FlowValue4 { by_backend: ESTABLISHED | ANSWERED, ..VALUE }.is_established());
    }
}
