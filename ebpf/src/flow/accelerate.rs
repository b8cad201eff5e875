//! Flows whose packets leave the host's stack out (`abi/src/flow.rs`, `ACCELERATED`).
//!
//! Whether they do is decided once, with the first packet, and for both directions: connection tracking sees all packets
//! of a flow or none. What cannot go this way then (what is too long, at its last hop, or in fragments) ends there, or is
//! of no connection. Where to, the routing table is asked about each packet, so no route that has changed is followed.

use aya_ebpf::bindings::tcx_action_base::TCX_NEXT;
use shunt_abi::{
    address::{TCP, UDP},
    backend,
    config::ACCELERATE,
    flow::{ACCELERATED, REMAPPED},
    interface::BEGINS,
    known::Role,
};

use super::{Way, Work, find, half_open, redirect, segment, send, slots, way::described};
use crate::{
    family::{self, Family, FlowValue},
    maps,
    packet::{Packet, Position, Side, Skb, Tuple},
};

/// So long are all packets. (The routing table tells its MTU if it is asked with a length.)
const ANY_LENGTH: u16 = 20;

/// Flags of a new flow that has these, to a backend with those: whether it may be accelerated, its first packet will show.
#[inline]
pub(super) fn offer(flags: u16, backend: u16) -> u16 {
    let is_wanted = || maps::config().is_some_and(|config| config.flags & ACCELERATE != 0);
    if flags == 0 && backend & backend::LOCAL != 0 && is_wanted() { ACCELERATED } else { flags }
}

/// Whether packets of the flow are known to go past the stack, and need nothing else.
#[inline]
pub(super) fn is_decided<A>(flow: &impl FlowValue<A>) -> bool {
    flow.flags() & (ACCELERATED | REMAPPED) == ACCELERATED && flow.backend_interface() != 0
}

/// A client's packet of a flow that is decided, translated; `packet` is as it came.
#[inline]
pub(super) fn follow<F: Family>(skb: Skb, packet: &Packet<F>, flow: &F::FlowValue) -> i32 {
    let mut way = Way::none();
    let mut packet = *packet;
    F::readdress(&mut packet, Side::Destination, flow.backend());
    // Nobody else may send in the client's name.
    if skb.interface() == flow.interface()
        && find(skb, &packet, flow.backend_interface(), &mut way)
        && !way.is_bridged
    {
        send(skb, &packet, &way)
    } else {
        TCX_NEXT
    }
}

/// A client's packet that was translated, as the notes have it; they hold its flow.
#[inline(never)]
pub(super) fn request<F: Family>(skb: Skb, work: &mut Work<F>) -> i32 {
    let mut way = Way::none();
    // Nobody else may send in the client's name.
    let is_from_client = skb.interface() == work.flow.interface();
    let is_found =
        is_from_client && find(skb, &work.packet, work.flow.backend_interface(), &mut way) && !way.is_bridged;
    let is_decided = work.flow.backend_interface() != 0;
    let goes = is_found && (is_decided || may_begin(skb, work, &way));
    if !is_decided {
        decide(work, if goes { way.query.ifindex } else { 0 });
    } else if work.packet.position != Position::Whole {
        decide(work, 0);
    }
    if goes { send(skb, &work.packet, &way) } else { TCX_NEXT }
}

/// Notes by which interface packets of the backend will come; 0: the flow is like others.
#[inline(never)]
fn decide<F: Family>(work: &mut Work<F>, interface: u32) {
    let tuple = &work.packet.tuple;
    work.other_key = F::flow_key(tuple.source, tuple.source_port, tuple.protocol);
    let Some(flow) = slots::to::<F>(&mut work.other_key, &work.flow.frontend(), work.flow.frontend_port())
    else {
        return;
    };
    if interface == 0 {
        flow.slow_down();
    } else {
        flow.set_backend_interface(interface);
    }
}

/// Whether a flow may be accelerated whose first packet has this way.
#[inline]
fn may_begin<F: Family>(skb: Skb, work: &Work<F>, way: &Way) -> bool {
    let packet = &work.packet;
    let tuple = &packet.tuple;
    let is_first = tuple.protocol == UDP || (tuple.protocol == TCP && segment::begins(packet));
    is_first
        && way.is_known
        && work.flow.flags() & REMAPPED == 0
        && skb.has_no_marks()
        && !looks_like_frontend(tuple)
        && returns(skb, packet, way)
}

/// Replies to such a client would be taken for requests.
#[inline]
fn looks_like_frontend<F: Family>(tuple: &Tuple<F>) -> bool {
    family::known::<F>(Role::Frontend, tuple.source, tuple.source_port, tuple.protocol)
        || maps::config().is_some_and(|config| F::is_service_address(config, tuple.source))
}

/// Whether replies go where the request came from: what strict `rp_filter` asks of its source, and more.
#[inline(never)]
fn returns<F: Family>(skb: Skb, packet: &Packet<F>, way: &Way) -> bool {
    let Some(entrance) = described(skb.interface()) else { return false };
    let Some(exit) = described(way.query.ifindex) else { return false };
    if entrance.flags & exit.flags & BEGINS == 0 {
        return false;
    }
    let mut back = Way::none();
    F::fill_route_query(&mut back.query, &packet.tuple.turned());
    back.query.l4_protocol = packet.tuple.protocol;
    back.query.sport = packet.tuple.destination_port;
    back.query.dport = packet.tuple.source_port;
    back.query.__bindgen_anon_1.tot_len = ANY_LENGTH;
    back.query.ifindex = way.query.ifindex;
    let is_known = match redirect::ask(skb, &mut back.query) {
        redirect::ROUTE_FOUND => true,
        redirect::ROUTE_NO_NEIGHBOUR => false,
        _ => return false,
    };
    // Routers cut up datagrams of IPv4, and connection tracking would see those alone: so none may be too long.
    // SAFETY: any number is a value of either field.
    let [mtu, mtu_back] = [way, &back].map(|way| unsafe { way.query.__bindgen_anon_1.mtu_result });
    let is_even = F::VERSION == 6 || packet.tuple.protocol == TCP || (is_known && mtu == mtu_back);
    back.query.ifindex == entrance.upper && is_even
}

/// The flow of a backend's packet that enters here, if it is accelerated.
#[inline]
pub(crate) fn of_backend<F: Family>(skb: Skb, tuple: &Tuple<F>) -> Option<&'static mut F::FlowValue> {
    let mut key = F::flow_key(tuple.destination, tuple.destination_port, tuple.protocol);
    let mut flow = slots::get::<F>(&key)?;
    if !flow.is_from(tuple.source, tuple.source_port) {
        if !flow.has_more() {
            return None;
        }
        flow = slots::from::<F>(&mut key, &tuple.source, tuple.source_port)?;
    }
    let comes = flow.backend_interface();
    if !is_decided(flow) {
        return None;
    }
    if comes != skb.interface() {
        // Of a bridge, the first reply shows the port.
        if described(skb.interface())?.upper != comes {
            return None;
        }
        flow.set_backend_interface(skb.interface());
    }
    Some(flow)
}

/// Notes a backend's packet in its flow.
#[inline]
pub(crate) fn note_reply<F: Family>(packet: &Packet<F>, flow: &mut F::FlowValue) {
    segment::touch_by_backend(packet, flow);
    if segment::is_datagram(packet) && !flow.is_established() {
        half_open::answer::<F>(flow);
    }
}
