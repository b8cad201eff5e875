//! What the bitmaps tell of addresses and ports. They may err, by telling of something that is not there.

use shunt_abi::{
    flow::{HAIRPIN, HOST_CLIENT},
    known::Role,
    reached::{ReachedValue, element},
    roles::Place,
};

use super::{Family, FlowValue};
use crate::{
    maps::{KNOWN, REACHED, REACHED_HOSTS, ROLES},
    packet::Tuple,
};

/// What an address may be.
#[derive(Clone, Copy)]
pub(crate) struct Roles {
    place: Place,
    element: u64,
}

impl Roles {
    #[inline]
    pub(crate) fn of<F: Family>(address: F::Address) -> Self {
        let place = F::place(address);
        let element = ROLES.get(place.word).map_or(u64::MAX, |element| *element);
        Self { place, element }
    }

    #[inline]
    pub(crate) fn has(&self, role: Role) -> bool {
        self.place.is_in(role, self.element)
    }

    /// Whether it may be the address of a backend that anybody has flows to.
    #[inline]
    pub(crate) fn has_reached_backend(&self) -> bool {
        self.has(Role::Backend) && is_reached_at(self.place)
    }
}

/// Whether a backend at the address may be one that anybody has flows to.
#[inline]
pub(crate) fn is_reached<F: Family>(address: F::Address) -> bool {
    is_reached_at(F::place(address))
}

#[inline]
fn is_reached_at(place: Place) -> bool {
    REACHED_HOSTS.get(place.word).is_some_and(|bytes| bytes >> (place.byte() * 8) & 0xff != 0)
}

/// Whether an address and port (network order) may be in a role.
#[inline]
pub(crate) fn known<F: Family>(role: Role, address: F::Address, port: u16, protocol: u8) -> bool {
    Roles::of::<F>(address).has(role) && is_known::<F>(role, address, port, protocol)
}

/// The same of an address that may be.
#[inline]
fn is_known<F: Family>(role: Role, address: F::Address, port: u16, protocol: u8) -> bool {
    let bits = F::bits(role, address, port, protocol);
    KNOWN.get(bits.word).is_some_and(|element| bits.is_in(*element))
}

/// Whether the packet, whose destination may be these, may be to a frontend.
#[inline]
pub(crate) fn to_frontend<F: Family>(roles: &Roles, tuple: &Tuple<F>) -> bool {
    roles.has(Role::Frontend)
        && is_known::<F>(Role::Frontend, tuple.destination, tuple.destination_port, tuple.protocol)
}

/// Whether the address, which may be these, may be a cluster IP, and is none of this node's own: all of its ports are.
#[inline]
pub(crate) fn is_whole_frontend<F: Family>(roles: &Roles, address: F::Address) -> bool {
    roles.has(Role::Frontend) && !roles.has(Role::Node) && is_known::<F>(Role::Frontend, address, 0, 0)
}

/// Whether the packet, whose destination may be these, may be to a backend that other clients than this node have flows
/// to.
#[inline]
pub(crate) fn to_reached<F: Family>(roles: &Roles, tuple: &Tuple<F>) -> bool {
    roles.has_reached_backend()
        && reached::<F>(tuple.destination, tuple.destination_port, tuple.protocol)
            .is_some_and(|reached| reached.by_others != 0)
}

/// Whether the packet may be from a backend that anybody has flows to.
#[inline]
pub(crate) fn from_reached<F: Family>(tuple: &Tuple<F>) -> bool {
    is_reached::<F>(tuple.source)
        && reached::<F>(tuple.source, tuple.source_port, tuple.protocol)
            .is_some_and(|reached| reached.by_others | reached.by_node != 0)
}

/// Whether the packet may be from a backend that this node, or the backend itself, has flows to.
#[inline]
pub(crate) fn from_reached_by_node<F: Family>(tuple: &Tuple<F>) -> bool {
    is_reached::<F>(tuple.source)
        && reached::<F>(tuple.source, tuple.source_port, tuple.protocol)
            .is_some_and(|reached| reached.by_node != 0)
}

#[inline]
fn reached<F: Family>(address: F::Address, port: u16, protocol: u8) -> Option<&'static ReachedValue> {
    REACHED.get(element(F::bits(Role::Backend, address, port, protocol)))
}

/// Has packets of the flow's backend looked up among the flows from now on. To be called before the flow is stored.
#[inline]
pub(crate) fn reach<F: Family>(flow: &F::FlowValue, protocol: u8) {
    let place = element(F::bits(Role::Backend, flow.backend(), flow.backend_port(), protocol));
    if let Some(reached) = REACHED.get_ptr_mut(place) {
        // SAFETY: the pointer comes from a map look-up.
        let reached = unsafe { &mut *reached };
        let by_node = flow.flags() & (HAIRPIN | HOST_CLIENT) != 0;
        set_once(if by_node { &mut reached.by_node } else { &mut reached.by_others });
    }
    let place = F::place(flow.backend());
    if let Some(bytes) = REACHED_HOSTS.get_ptr_mut(place.word) {
        // SAFETY: the pointer comes from a map look-up, to eight bytes of which this is one.
        set_once(unsafe { &mut *bytes.cast::<u8>().add(place.byte() as usize) });
    }
}

/// Into a byte of its own, into which all write the same: but not again and again, since other CPUs read it with every
/// packet.
#[inline]
fn set_once(byte: &mut u8) {
    if *byte == 0 {
        *byte = 1;
    }
}
