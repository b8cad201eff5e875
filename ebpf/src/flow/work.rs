//! Notes on the packet in hand, in memory of each CPU's own.
//!
//! All but the hot path works on these notes: the stack is too small for them, and verifiers, which know nothing of
//! what is in a map, look at such code once instead of once for every kind of packet.

use super::{Decision, Hook, Slots, pick::Pool};
use crate::{family::Family, packet::Packet};

/// Who sends a packet to a frontend, as far as policies care.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// Neither of the others.
    Outside,
    /// A pod of this node.
    Pod,
    /// This node itself.
    Host,
}

/// The notes. What the first packet of a flow takes comes first.
#[repr(C)]
pub(crate) struct Work<F: Family> {
    pub(crate) packet: Packet<F>,
    pub(crate) hook: Hook,
    /// 0 if the client's port is known to have no flow.
    pub(crate) may_be_present: u8,
    /// Half-open flows that this CPU has begun. Not of one packet: kept.
    pub(super) cursor: u32,
    /// The packet that the one in hand, an ICMP error, quotes.
    pub(crate) quoted: Packet<F>,
    /// The packet's flow.
    pub(super) key: F::FlowKey,
    pub(crate) flow: F::FlowValue,
    /// Another element.
    pub(super) other_key: F::FlowKey,
    pub(super) other: F::FlowValue,
    pub(super) slots: Slots,
    pub(super) client: Client,
    pub(super) pool: Pool,
    /// What is to be done with the packet, for the program that does it.
    pub(super) decision: Decision,
    /// 1: the packet left the flow of its own ports that was there.
    pub(super) is_left: u8,
    /// 1: the client comes back to the backend (affinity).
    pub(super) is_sticky: u8,
}

/// Copies what is in a map, or to there. (Of an assignment, compilers, who do not know that both are apart, make a call of
/// `memmove`, which goes byte by byte.)
#[inline(always)]
#[expect(clippy::inline_always, reason = "a few instructions")]
pub(super) fn copy<T: Copy>(from: &T, to: &mut T) {
    // SAFETY: nobody else has what `to` refers to, so it is not where `from` is.
    unsafe { core::ptr::copy_nonoverlapping(from, to, 1) };
}

/// This CPU's notes, with `packet` in them; `None` never happens, but the verifier wants it asked.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the packet is in registers")]
pub(crate) fn on<F: Family>(packet: &Packet<F>) -> Option<&'static mut Work<F>> {
    let work = get::<F>()?;
    work.packet = *packet;
    Some(work)
}

/// This CPU's notes.
#[inline]
pub(crate) fn get<F: Family>() -> Option<&'static mut Work<F>> {
    let work = F::work().get_ptr_mut(0)?;
    // SAFETY: the pointer comes from a map look-up, the memory is this CPU's own, and tc programs do not interrupt each
    // other.
    Some(unsafe { &mut *work })
}
