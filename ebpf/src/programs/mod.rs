//! The body of each program; `main.rs` holds the entry points.

pub(crate) mod clock;
pub(crate) mod egress;
pub(crate) mod fragment;
mod icmp;
pub(crate) mod ingress;
pub(crate) mod reject;
mod reverse;
pub(crate) mod socket;
pub(crate) mod unusual;

pub(crate) use reverse::{to_host_or_itself, unusual_reply};

use shunt_abi::tail::Tail;

use crate::{family::Family, maps::TAILS, packet::Skb};

/// Continues in another program, whose verdict is the packet's. Comes back only if that is not there. To be called from
/// a program's own body: not every architecture lets functions do it.
#[inline(always)]
#[expect(clippy::inline_always, reason = "see above")]
pub(crate) fn continue_in<F: Family>(skb: Skb, tail: Tail) {
    // SAFETY: the array holds programs of the same type only, or the kernel would have refused them.
    unsafe { TAILS.tail_call(&skb, tail.index(F::VERSION)) };
}
