//! What the agent looks at in an element of the flow maps, both families alike.

use std::hash::Hash;

use shunt_abi::address::{Words, from_word};
use shunt_abi::flow::{
    ALIAS, ESTABLISHED, FlowKey4, FlowKey6, FlowValue4, FlowValue6, MORE, REMAPPED, VACANT,
};

use super::map::Plain;
use super::maps::{destination, from_words6};
use super::write::Destination;

/// Where an element is.
pub(super) trait Key: Plain + Eq + Hash {
    /// Names of the key's and the value's layout.
    const RECORDS: [&'static str; 2];
    /// What is there.
    type Value: Plain;

    fn protocol(&self) -> u8;
    fn slot(&self) -> u8;
    /// Network order.
    fn client_port(&self) -> u16;
    /// Another slot of the same client port.
    fn in_slot(&self, slot: u8) -> Self;
    /// Where the other element is of a remapped flow, of which this is one: of its alias; of an alias, some slot of the flow's own
    /// port.
    fn twin(&self, state: &State) -> Option<Self>;

    fn state(value: &Self::Value) -> State;
    /// The value with another state.
    fn with_state(value: &Self::Value, state: State) -> Self::Value;
    /// Frontend and backend.
    fn ends(&self, value: &Self::Value) -> [Destination; 2];
    /// The value with other numbers: of the Service port, the backend and its generation.
    fn with_numbers(value: &Self::Value, service: u32, backend: u32, generation: u32) -> Self::Value;
}

/// What changes in an element, and what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) flags: u16,
    /// Of remapped flows: the port of the other element, network order.
    pub(super) client_port: u16,
    /// Of remapped flows: the client's address in the other element, network order (an IPv4 one is the last word); zeroes if
    /// it is the same.
    pub(super) client: Words,
    pub(super) by_client: u8,
    pub(super) by_backend: u8,
    pub(super) chain: u8,
    /// Tick of the last packet.
    pub(super) last_seen: u32,
    /// In the ring of half-open flows.
    pub(super) place: u32,
}

impl State {
    /// Whether the flow is established; of an alias its first element knows.
    pub(super) const fn is_established(&self) -> bool {
        !self.is_vacant() && (self.by_client | self.by_backend) & ESTABLISHED != 0
    }

    /// The element translates replies of a flow whose first element is elsewhere.
    pub(super) const fn is_alias(&self) -> bool {
        self.flags & ALIAS != 0
    }

    /// Replies of the flow have an element of their own.
    pub(super) const fn has_alias(&self) -> bool {
        self.flags & (REMAPPED | ALIAS) == REMAPPED
    }

    /// There may be an element in the next slot.
    pub(super) const fn has_more(&self) -> bool {
        self.chain & MORE != 0
    }

    /// The element is nobody's.
    pub(super) const fn is_vacant(&self) -> bool {
        self.chain & VACANT != 0
    }

    /// The state of an element that is nobody's any more, in front of others.
    pub(super) const fn vacated(self) -> Self {
        Self {
            flags: 0,
            client_port: 0,
            client: [0; 4],
            by_client: 0,
            by_backend: 0,
            chain: MORE | VACANT,
            place: 0,
            ..self
        }
    }
}

macro_rules! key {
    ($key:ident, $value:ident, $address:expr, $to_words:expr, $of_words:expr) => {
        impl Key for $key {
            const RECORDS: [&'static str; 2] = [stringify!($key), stringify!($value)];
            type Value = $value;

            fn protocol(&self) -> u8 {
                self.protocol
            }

            fn slot(&self) -> u8 {
                self.slot
            }

            fn client_port(&self) -> u16 {
                self.client_port
            }

            fn in_slot(&self, slot: u8) -> Self {
                Self { slot, ..*self }
            }

            fn twin(&self, state: &State) -> Option<Self> {
                let State { flags, client_port, client, .. } = *state;
                Self::twin(
                    *self,
                    &$value { flags, client_port, client: $of_words(client), ..$value::default() },
                )
            }

            fn state(value: &$value) -> State {
                let &$value {
                    flags,
                    client_port,
                    client,
                    by_client,
                    by_backend,
                    chain,
                    last_seen,
                    place,
                    ..
                } = value;
                let client = $to_words(client);
                State { flags, client_port, client, by_client, by_backend, chain, last_seen, place }
            }

            fn with_state(value: &$value, state: State) -> $value {
                let State { flags, client_port, client, by_client, by_backend, chain, last_seen, place } =
                    state;
                let client = $of_words(client);
                $value {
                    flags,
                    client_port,
                    client,
                    by_client,
                    by_backend,
                    chain,
                    last_seen,
                    place,
                    ..*value
                }
            }

            fn ends(&self, value: &$value) -> [Destination; 2] {
                let end = |address, port| destination(address, port, self.protocol);
                [
                    end($address(value.frontend), value.frontend_port),
                    end($address(value.backend), value.backend_port),
                ]
            }

            fn with_numbers(value: &$value, service: u32, id: u32, generation: u32) -> $value {
                $value { service, id, generation, ..*value }
            }
        }
    };
}
key!(
    FlowKey4,
    FlowValue4,
    |word| std::net::IpAddr::V4(from_word(word)),
    |word| [0, 0, 0, word],
    |[_, _, _, word]: Words| word
);
key!(FlowKey6, FlowValue6, from_words6, std::convert::identity, std::convert::identity);
