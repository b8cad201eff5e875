//! What becomes of a packet once that is decided.

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use shunt_abi::{counter::Counter, tail::Tail};

use super::{Decision, Hook, Work, translate};
use crate::{
    count,
    family::{Family, FlowValue},
    packet::{Position, Skb, is_beyond_checksum, rewrite_sctp_checksum},
    programs::{self, fragment},
};

/// Carries out what was decided on the packet in hand; the verdict. To translate it, its flow has to be in the notes.
#[inline(always)]
#[expect(clippy::inline_always, reason = "only a program's own body may continue in another")]
pub(super) fn conclude<F: Family>(skb: Skb, work: &mut Work<F>, mut decision: Decision) -> i32 {
    if work.packet.position == Position::First {
        decision = note_first(skb, work, decision);
    }
    match decision {
        Decision::Translate => {}
        Decision::Begin | Decision::Leave => return TCX_NEXT,
        Decision::Absent => {
            match work.hook {
                Hook::Ingress => programs::ingress::to_no_frontend(skb, work),
                Hook::HostEgress => programs::egress::to_no_frontend(skb, work),
            }
            return TCX_NEXT;
        }
        Decision::Drop => return TCX_DROP,
        Decision::Reject => {
            count::count(Counter::Rejected);
            programs::continue_in::<F>(skb, Tail::Reject);
            return TCX_DROP;
        }
    }
    // SCTP comes this way always, so this is where its checksum follows all that becomes of the ports.
    let ports = translate::ports(&work.packet, &work.flow);
    if rewrite_sctp_checksum(skb, &work.packet, ports).is_err()
        || translate::to_backend(skb, &work.packet, &work.flow).is_err()
    {
        return count::drop(Counter::DropRewrite);
    }
    if translate::needs_more(work.flow.flags()) {
        programs::continue_in::<F>(skb, Tail::Special);
    }
    TCX_NEXT
}

/// Notes what becomes of the packet that the first fragment in hand belongs to.
#[inline(never)]
fn note_first<F: Family>(skb: Skb, work: &mut Work<F>, mut decision: Decision) -> Decision {
    if decision == Decision::Translate
        && is_beyond_checksum(&work.packet, translate::ports(&work.packet, &work.flow))
    {
        count::count(Counter::DropFragment);
        decision = Decision::Drop;
    }
    if !matches!(decision, Decision::Leave | Decision::Absent) {
        fragment::remember(skb, work, decision == Decision::Translate);
    }
    decision
}
