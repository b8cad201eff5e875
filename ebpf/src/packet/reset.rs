//! Turning a TCP segment into the reset that answers it (RFC 9293, section 3.10.7.1), in place: whether the checksum is
//! left to the device (`CHECKSUM_PARTIAL`) does not matter then.

use super::{Fault, Packet, Skb, difference, rewrite::ensure};
use crate::family::Family;

const SYN: u8 = 1 << 1;
const FIN: u8 = 1 << 0;
const RST: u8 = 1 << 2;
const ACK: u8 = 1 << 4;

const CHECKSUM: u32 = 16;

/// What of the header changes besides the ports, which change places, and the checksum.
#[repr(C)]
#[derive(Clone, Copy)]
struct State {
    sequence: u32,
    acknowledged: u32,
    offset: u8,
    flags: u8,
    window: u16,
}

/// Turns the packet into the reset. One that is a reset itself is not answered.
#[inline(never)]
pub(crate) fn answer<F: Family>(skb: Skb, packet: &Packet<F>) -> Result<(), Fault> {
    if packet.flags & RST != 0 {
        return Err(Fault);
    }
    let transport = packet.transport;
    let [old, new] = states(skb, packet)?;
    ensure(skb.add_to_checksum(transport + CHECKSUM, difference(&words(&old), &words(&new)), 0))?;
    ensure(skb.store(transport + 4, &new, false))?;
    let ports = [packet.tuple.destination_port, packet.tuple.source_port];
    ensure(skb.store(transport, &ports, false))?;
    F::swap_addresses(skb, packet)
}

#[inline]
fn states<F: Family>(skb: Skb, packet: &Packet<F>) -> Result<[State; 2], Fault> {
    let old: State = skb.load(packet.transport + 4).ok_or(Fault)?;
    let acknowledges = old.flags & ACK != 0;
    let header = u32::from(old.offset >> 4) * 4;
    let payload = F::end(skb, packet).ok_or(Fault)?.wrapping_sub(packet.transport + header);
    let phantom = u32::from(old.flags & SYN != 0) + u32::from(old.flags & FIN != 0);
    let received = u32::from_be(old.sequence).wrapping_add(payload).wrapping_add(phantom);
    let new = State {
        sequence: if acknowledges { old.acknowledged } else { 0 },
        acknowledged: if acknowledges { 0 } else { received.to_be() },
        offset: old.offset,
        flags: if acknowledges { RST } else { RST | ACK },
        window: 0,
    };
    Ok([old, new])
}

#[inline]
const fn words(state: &State) -> [u32; 3] {
    let [window_low, window_high] = state.window.to_ne_bytes();
    let last = u32::from_ne_bytes([state.offset, state.flags, window_low, window_high]);
    [state.sequence, state.acknowledged, last]
}
