//! The address that this node's own clients have for a backend.
//!
//! The kernel chose one for the way to the Service. A backend on another node may be behind another interface, a tunnel between the
//! nodes: there the kernel would have chosen another address, to which replies come back through the tunnel. With the first one they
//! would take another way, and strict reverse path filters at either end of the tunnel would drop what passes. So the backend sees the
//! other address, and an alias there translates its replies ([`REMAPPED`](shunt_abi::flow::REMAPPED)).

use shunt_abi::{
    backend::LOCAL,
    interface::{InterfaceValue, TUNNEL},
};

use super::{Client, Work, conflict, redirect};
use crate::{
    family::{Family, FlowValue},
    maps::{self, INTERFACES},
    packet::{Fault, Packet, Side, Skb, Tuple},
};

/// Gives the flow in the notes, about to be stored, the address that its backend is to see. Whether there is a port for it.
#[inline(never)]
pub(super) fn settle<F: Family>(skb: Skb, work: &mut Work<F>, hash: u32) -> bool {
    let Some(address) = choose(skb, work) else { return true };
    work.flow.readdress(address);
    let own_port = work.packet.tuple.source_port;
    conflict::is_port_free(work, own_port) || conflict::find_port(work, hash)
}

/// The address, if the client's own will not do. (Backends of this node know the way to each of its addresses.)
#[inline]
fn choose<F: Family>(skb: Skb, work: &Work<F>) -> Option<F::Address> {
    if work.client != Client::Host || maps::backend(work.flow.id())?.flags & LOCAL != 0 {
        return None;
    }
    let way_out = redirect::way_out(skb, &Tuple { destination: work.flow.backend(), ..work.packet.tuple })?;
    if way_out == skb.interface() {
        return None;
    }
    let (own, interface) = (work.packet.tuple.source, get(way_out)?);
    let address = F::source(interface).filter(|address| *address != own)?;
    let is_wrong = interface.flags & TUNNEL != 0 || is_of_interface::<F>(skb, own);
    is_wrong.then_some(address)
}

/// Whether the client has the address because of the interface that the packet is leaving by. (Else a route or the client itself
/// says so, and means it.)
#[inline]
fn is_of_interface<F: Family>(skb: Skb, own: F::Address) -> bool {
    get(skb.interface()).is_some_and(|interface| F::source(interface) == Some(own))
}

#[inline]
fn get(interface: u32) -> Option<&'static InterfaceValue> {
    // SAFETY: the map frees its elements after a grace period, which the program's run is within.
    unsafe { INTERFACES.get(interface) }
}

/// The client's address at the other end of the translation: for a flow the one that the backend sees, for an alias the client's
/// own. `known` is the one on this side.
#[inline]
pub(crate) fn seen<F: Family>(flow: &F::FlowValue, known: F::Address) -> F::Address {
    if flow.is_readdressed() { flow.client() } else { known }
}

/// Gives a packet the client's address at the other end of the translation.
#[inline]
pub(crate) fn replace<F: Family>(
    skb: Skb,
    packet: &mut Packet<F>,
    side: Side,
    flow: &F::FlowValue,
) -> Result<(), Fault> {
    if !flow.is_readdressed() {
        return Ok(());
    }
    F::rewrite_address(skb, packet, side, flow.client())?;
    F::readdress(packet, side, flow.client());
    Ok(())
}
