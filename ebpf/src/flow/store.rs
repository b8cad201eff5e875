//! Storing a flow that begins.

use aya_ebpf::bindings::{BPF_NOEXIST, tcx_action_base::TCX_NEXT};
use shunt_abi::{
    config::{Config, MASQUERADES4, MASQUERADES6},
    counter::Counter,
    flow::{ALIAS, MASQUERADED, REMAPPED, SLOTS},
};

use super::{
    Decision, Work, conclude::conclude, decide, ended, half_open, pick, segment, slots, source, work,
};
use crate::{
    count,
    family::{self, Family, FlowKey, FlowValue, V4},
    log, maps,
    packet::Skb,
};

/// What the kernel says if there is an element already.
const EXISTS: i32 = -17;

/// Does with the packet in hand what was decided, after its flow was stored, if it begins one.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
pub(crate) fn settle<F: Family>(skb: Skb) -> i32 {
    let Some(work) = work::get::<F>() else { return TCX_NEXT };
    let mut decision = work.decision;
    if decision == Decision::Begin {
        decision = store(work);
        if work.is_sticky != 0 {
            pick::remember(work);
        }
    }
    if work.is_left != 0 && decision != Decision::Translate {
        forget_own(work);
    }
    conclude(skb, work, decision)
}

/// Forgets the flow that the packet left, for none.
#[inline(never)]
fn forget_own<F: Family>(work: &mut Work<F>) {
    work.key.set_slot(work.slots.own);
    work.other_key = work.key;
    work.key = F::FlowKey::nobody();
    ended::forget(work);
}

/// Stores the flow in the notes in the slot that the survey found.
#[inline]
fn store<F: Family>(work: &mut Work<F>) -> Decision {
    let Some(config) = maps::config() else { return Decision::Leave };
    if work.flow.flags() & MASQUERADED != 0
        && let Some(reason) = unmasqueraded::<F>(config)
    {
        count::count(reason);
        return Decision::Drop;
    }
    family::reach::<F>(&work.flow, work.packet.tuple.protocol);
    let is_replaced = work.slots.is_replaced();
    if is_replaced && !work.slots.is_somewhere() && !find_dispensable(work) {
        count::count(Counter::DropConflict);
        return Decision::Drop;
    }
    work.key.set_slot(work.slots.taken());
    half_open::enter(work, config);
    let decision = if is_replaced { replace(work) } else { insert(work, config) };
    if decision == Decision::Translate && work.flow.flags() & REMAPPED != 0 {
        return store_alias(work, config);
    }
    decision
}

/// Why a flow that has to be masqueraded cannot be: the rule is not there that masquerades what is marked. (The agent, who
/// sees what is dropped without it, installs it.)
#[inline]
pub(super) fn unmasqueraded<F: Family>(config: &Config) -> Option<Counter> {
    let (bit, reason) = if F::VERSION == V4::VERSION {
        (MASQUERADES4, Counter::DropUnmasqueraded4)
    } else {
        (MASQUERADES6, Counter::DropUnmasqueraded6)
    };
    if config.flags & bit != 0 { None } else { Some(reason) }
}

/// Stores the flow in an empty slot. (That it is empty still, storing it tells.)
#[inline]
fn insert<F: Family>(work: &mut Work<F>, config: &Config) -> Decision {
    if work.slots.free != 0 {
        link(work);
    }
    match F::flows().insert(&work.key, &work.flow, u64::from(BPF_NOEXIST)) {
        Ok(()) => begun(work),
        Err(EXISTS) => raced(work),
        Err(_) => crowded(work, config),
    }
}

/// Notes in the slot before that there is one more.
#[inline(never)]
fn link<F: Family>(work: &mut Work<F>) {
    work.key.set_slot(work.slots.free.wrapping_sub(1));
    if let Some(before) = slots::get::<F>(&work.key) {
        before.note_more();
    }
    work.key.set_slot(work.slots.free);
}

/// The flow is stored.
#[inline]
fn begun<F: Family>(work: &Work<F>) -> Decision {
    count::count(if segment::is_midstream(&work.packet) { Counter::FlowAdopted } else { Counter::FlowNew });
    count::flow(work.flow.service());
    log::begun(&work.packet, &work.flow);
    Decision::Translate
}

/// Another packet of the same client port was stored at this moment: if it was of this flow, it decided for both. Else
/// the client is to try again.
#[inline(never)]
fn raced<F: Family>(work: &mut Work<F>) -> Decision {
    slots::survey(work);
    let Some(present) = decide::own(work) else {
        count::count(Counter::DropConflict);
        return Decision::Drop;
    };
    again(work, present)
}

/// A request that is repeated stays with its backend.
#[inline]
pub(super) fn again<F: Family>(work: &mut Work<F>, present: &mut F::FlowValue) -> Decision {
    segment::touch_by_client(&work.packet, present);
    work::copy(present, &mut work.flow);
    Decision::Translate
}

/// The map has no room: a half-open flow makes it.
#[inline(never)]
fn crowded<F: Family>(work: &mut Work<F>, config: &Config) -> Decision {
    if half_open::make_room(work, config)
        && F::flows().insert(&work.key, &work.flow, u64::from(BPF_NOEXIST)).is_ok()
    {
        return begun(work);
    }
    full()
}

fn full() -> Decision {
    count::count(Counter::FlowsFull);
    count::count(Counter::DropFlowsFull);
    Decision::Drop
}

/// Stores the flow in the place of one that is over, or of nobody: nothing is allocated, and nothing removed. (Packets of
/// the old one, which may be under way still, may be translated half like the new one.)
#[inline(never)]
fn replace<F: Family>(work: &mut Work<F>) -> Decision {
    let Some(present) = slots::get::<F>(&work.key) else {
        count::count(Counter::DropConflict);
        return Decision::Drop;
    };
    if present.flags() & REMAPPED != 0 {
        let key = work.key;
        ended::forget_alias(work, key, present);
    }
    if present.is_established() {
        half_open::subtract::<F>();
    }
    if present.has_more() {
        work.flow.note_more();
    }
    work::copy(&work.flow, present);
    begun(work)
}

/// Finds a slot of any flow that is over, or of datagrams that nobody sent for a while: that one is free.
#[inline(never)]
fn find_dispensable<F: Family>(work: &mut Work<F>) -> bool {
    for slot in 0..SLOTS {
        work.key.set_slot(slot);
        if let Some(present) = slots::get::<F>(&work.key)
            && is_dispensable(work, present)
        {
            work.slots.free = slot;
            return true;
        }
    }
    false
}

#[inline]
fn is_dispensable<F: Family>(work: &mut Work<F>, present: &F::FlowValue) -> bool {
    // Its other element could be in use.
    if present.flags() & ALIAS != 0 {
        return false;
    }
    let key = work.key;
    (segment::is_datagram(&work.packet) && present.last_seen() != segment::now())
        || ended::is_over(work, key, present)
}

/// Stores what translates the replies of a remapped flow, or forgets it.
#[inline(never)]
fn store_alias<F: Family>(work: &mut Work<F>, config: &Config) -> Decision {
    let stored = match insert_alias(work) {
        Err(error) if error != EXISTS && half_open::make_room(work, config) => insert_alias(work),
        stored => stored,
    };
    if stored.is_ok() {
        count::count(Counter::FlowRemapped);
        return Decision::Translate;
    }
    work.other_key = work.key;
    ended::forget(work);
    full()
}

#[inline(never)]
fn insert_alias<F: Family>(work: &mut Work<F>) -> Result<(), i32> {
    let tuple = &work.packet.tuple;
    let client = source::seen::<F>(&work.flow, tuple.source);
    work.other_key = F::flow_key(client, work.flow.client_port(), tuple.protocol);
    work::copy(&work.flow, &mut work.other);
    work.other.make_alias(tuple.source, tuple.source_port);
    F::flows().insert(&work.other_key, &work.other, u64::from(BPF_NOEXIST))
}
