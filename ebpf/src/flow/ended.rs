//! Forgetting flows.

use shunt_abi::flow::{ALIAS, FINISHED, RESET, SLOTS};

use super::{Work, half_open, slots};
use crate::family::{Family, FlowKey, FlowValue};

/// Whether either side has ended the connection whose first element has this key.
#[inline(never)]
pub(super) fn is_over<F: Family>(work: &mut Work<F>, key: F::FlowKey, flow: &F::FlowValue) -> bool {
    let alias = alias(work, key, flow).map_or(0, |alias| alias.by_backend());
    (flow.by_client() | flow.by_backend() | alias) & (FINISHED | RESET) != 0
}

/// The alias of a flow that has one; its key is noted as the other one.
#[inline]
fn alias<F: Family>(
    work: &mut Work<F>,
    key: F::FlowKey,
    flow: &F::FlowValue,
) -> Option<&'static mut F::FlowValue> {
    work.other_key = F::twin(&key, flow)?;
    let alias = slots::get::<F>(&work.other_key)?;
    let leads_back = |twin: F::FlowKey| alias.flags() & ALIAS != 0 && twin.is_port_of(&key);
    F::twin(&work.other_key, alias).is_some_and(leads_back).then_some(alias)
}

/// Forgets the flow whose first element has the key that is noted as the other one.
#[inline(never)]
pub(super) fn forget<F: Family>(work: &mut Work<F>) {
    let key = work.other_key;
    let Some(flow) = slots::get::<F>(&key) else { return };
    forget_alias(work, key, flow);
    work.other_key = key;
    erase(work);
}

/// Forgets the alias of a flow that has one.
#[inline(never)]
pub(super) fn forget_alias<F: Family>(work: &mut Work<F>, key: F::FlowKey, flow: &F::FlowValue) {
    if alias(work, key, flow).is_some() {
        erase(work);
    }
}

/// Removes the element with the key that is noted as the other one. One that others follow stays, and is nobody's. So
/// does one of the packet in hand: what is known of its slots stays true.
#[inline(never)]
fn erase<F: Family>(work: &mut Work<F>) {
    let key = work.other_key;
    let Some(flow) = slots::get::<F>(&key) else { return };
    if flow.is_established() {
        half_open::subtract::<F>();
    }
    if key.is_port_of(&work.key) || (flow.has_more() && is_followed(work, key)) {
        return flow.vacate();
    }
    let _absent = F::flows().remove(&work.other_key);
    if key.slot() != 0 {
        shorten(work, key.slot());
    }
}

#[inline]
fn is_followed<F: Family>(work: &mut Work<F>, key: F::FlowKey) -> bool {
    work.other_key.set_slot(key.slot() + 1);
    let is_followed = slots::get::<F>(&work.other_key).is_some();
    work.other_key = key;
    is_followed
}

/// Removes what is nobody's below a slot that was the last.
#[inline]
fn shorten<F: Family>(work: &mut Work<F>, mut slot: u8) {
    for _ in 0..SLOTS {
        if slot == 0 {
            return;
        }
        slot -= 1;
        work.other_key.set_slot(slot);
        let Some(last) = slots::get::<F>(&work.other_key) else { return };
        if !last.is_vacant() {
            return last.end_chain();
        }
        let _absent = F::flows().remove(&work.other_key);
    }
}
