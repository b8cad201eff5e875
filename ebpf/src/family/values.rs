//! Flows and fragments in their maps: what is alike in both families.

use shunt_abi::flow;

/// Where the flows of a client's port are.
pub(crate) trait FlowKey: Copy + PartialEq {
    /// Nobody's.
    fn nobody() -> Self;
    fn protocol(&self) -> u8;
    fn slot(&self) -> u8;
    fn set_slot(&mut self, slot: u8);
    /// Whether it is of the same client's port.
    fn is_port_of(&self, other: &Self) -> bool;
}

/// A flow in its map.
pub(crate) trait FlowValue<A> {
    fn frontend(&self) -> A;
    fn backend(&self) -> A;
    fn frontend_port(&self) -> u16;
    fn backend_port(&self) -> u16;
    fn flags(&self) -> u16;
    fn client_port(&self) -> u16;
    fn by_client(&self) -> u8;
    fn by_backend(&self) -> u8;
    fn id(&self) -> u32;
    fn generation(&self) -> u32;
    fn service(&self) -> u32;
    fn last_seen(&self) -> u32;
    fn interface(&self) -> u32;
    fn place(&self) -> u32;
    /// As of [`flow::FlowValue4`]: zeroes if the backend sees the client's own address.
    fn client(&self) -> A;
    /// Whether the backend sees another address than the client's own.
    fn is_readdressed(&self) -> bool;
    fn backend_interface(&self) -> u32;
    fn is_to(&self, address: A, port: u16) -> bool;
    fn is_from(&self, address: A, port: u16) -> bool;
    /// One bit of 64, the same for all flows of one backend.
    fn way_back(&self) -> u64;
    fn is_established(&self) -> bool;
    fn is_vacant(&self) -> bool;
    fn has_more(&self) -> bool;
    /// Notes the tick of a packet.
    fn touch(&mut self, tick: u32);
    /// Notes what the client's packet says of the flow.
    fn note_client(&mut self, bits: u8);
    /// Notes what the backend's packet says of the flow.
    fn note_backend(&mut self, bits: u8);
    /// Notes that there is an element in the next slot.
    fn note_more(&mut self);
    /// Notes that there is none.
    fn end_chain(&mut self);
    /// Makes the element nobody's.
    fn vacate(&mut self);
    fn set_place(&mut self, place: u32);
    /// Notes by which interface the packets of an accelerated flow's backend come.
    fn set_backend_interface(&mut self, interface: u32);
    /// Has the flow's packets take the way through the host's stack from now on.
    fn slow_down(&mut self);
    /// Gives the backend another client port to see, network order.
    fn remap(&mut self, port: u16);
    /// Gives the backend another client address to see.
    fn readdress(&mut self, client: A);
    /// Makes of a remapped flow what translates its replies, for a client with this address and port of its own.
    fn make_alias(&mut self, client: A, client_port: u16);
}

/// What became of a first fragment, in its map.
pub(crate) trait FragmentValue<A> {
    fn source(&self) -> A;
    fn destination(&self) -> A;
    fn flags(&self) -> u32;
    fn service(&self) -> u32;
    fn last_seen(&self) -> u32;
    fn interface(&self) -> u32;
}

#[inline]
const fn fold([first, second, third, fourth]: [u32; 4]) -> u32 {
    first ^ second ^ third ^ fourth
}

#[inline]
const fn filled(word: u32) -> [u32; 4] {
    [word; 4]
}

/// Methods that tell what a field holds.
macro_rules! fields {
    ($($name:ident: $type:ty),+) => {
        $(#[inline]
        fn $name(&self) -> $type {
            self.$name
        })+
    };
}

/// Implements what is alike in both families for their types.
macro_rules! values {
    ($address:ty, $filled:expr, $fold:expr, $key:ty, $flow:ty, $fragment:ty) => {
        impl FlowKey for $key {
            #[inline]
            fn nobody() -> Self {
                let zero = super::zero();
                let [first, second, protocol, slot] = zero.to_ne_bytes();
                let client_port = u16::from_ne_bytes([first, second]);
                Self { client: $filled(zero), client_port, protocol, slot }
            }

            fields! { protocol: u8, slot: u8 }
            #[inline]
            fn set_slot(&mut self, slot: u8) {
                self.slot = slot;
            }
            #[inline]
            fn is_port_of(&self, other: &Self) -> bool {
                self.client == other.client
                    && self.client_port == other.client_port
                    && self.protocol == other.protocol
            }
        }

        impl FlowValue<$address> for $flow {
            fields! {
                frontend: $address, backend: $address, frontend_port: u16, backend_port: u16,
                flags: u16, client_port: u16, by_client: u8, by_backend: u8,
                id: u32, generation: u32, service: u32, last_seen: u32, interface: u32, place: u32,
                client: $address, backend_interface: u32
            }
            #[inline]
            fn is_to(&self, address: $address, port: u16) -> bool {
                self.is_to(address, port)
            }
            #[inline]
            fn is_from(&self, address: $address, port: u16) -> bool {
                self.is_from(address, port)
            }
            #[inline]
            fn is_readdressed(&self) -> bool {
                self.is_readdressed()
            }
            #[inline]
            fn is_established(&self) -> bool {
                self.is_established()
            }
            #[inline]
            fn is_vacant(&self) -> bool {
                self.is_vacant()
            }
            #[inline]
            fn has_more(&self) -> bool {
                self.has_more()
            }
            #[inline]
            fn way_back(&self) -> u64 {
                let backend: $address = self.backend;
                let port = u32::from(self.backend_port);
                let spread = ($fold(backend) ^ (port << 16 | port)).wrapping_mul(0x9e37_79b1);
                1 << (spread >> 26)
            }
            #[inline]
            fn touch(&mut self, tick: u32) {
                // Written only when it changes: both ends of a busy flow may be on different CPUs.
                if self.last_seen != tick {
                    self.last_seen = tick;
                }
            }
            #[inline]
            fn note_client(&mut self, bits: u8) {
                if self.by_client & bits != bits {
                    self.by_client |= bits;
                }
            }
            #[inline]
            fn note_backend(&mut self, bits: u8) {
                if self.by_backend & bits != bits {
                    self.by_backend |= bits;
                }
            }
            #[inline]
            fn note_more(&mut self) {
                self.chain |= flow::MORE;
            }
            #[inline]
            fn end_chain(&mut self) {
                self.chain &= !flow::MORE;
            }
            #[inline]
            fn vacate(&mut self) {
                self.chain |= flow::VACANT;
                self.flags = 0;
                self.by_client = 0;
                self.by_backend = 0;
                self.place = 0;
            }
            #[inline]
            fn set_place(&mut self, place: u32) {
                self.place = place;
            }
            #[inline]
            fn set_backend_interface(&mut self, interface: u32) {
                self.backend_interface = interface;
            }
            #[inline]
            fn slow_down(&mut self) {
                self.flags &= !flow::ACCELERATED;
            }
            #[inline]
            fn remap(&mut self, port: u16) {
                self.flags |= flow::REMAPPED;
                self.client_port = port;
            }
            #[inline]
            fn readdress(&mut self, client: $address) {
                self.flags |= flow::REMAPPED;
                self.client = client;
            }
            #[inline]
            fn make_alias(&mut self, client: $address, client_port: u16) {
                if self.is_readdressed() {
                    self.client = client;
                }
                self.flags |= flow::ALIAS;
                self.client_port = client_port;
                self.chain = 0;
            }
        }

        impl FragmentValue<$address> for $fragment {
            fields! {
                source: $address, destination: $address, flags: u32, service: u32, last_seen: u32, interface: u32
            }
        }
    };
}

values!(
    u32,
    core::convert::identity,
    core::convert::identity,
    flow::FlowKey4,
    flow::FlowValue4,
    shunt_abi::fragment::FragmentValue4
);
values!([u32; 4], filled, fold, flow::FlowKey6, flow::FlowValue6, shunt_abi::fragment::FragmentValue6);
