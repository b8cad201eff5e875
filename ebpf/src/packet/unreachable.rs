//! Turning a packet into the ICMP error that answers it: port unreachable, from the address that it was sent to.
//!
//! The error quotes the IP header and the first eight bytes behind it. If those are a UDP header whose checksum is left
//! to the device (`CHECKSUM_PARTIAL`, which programs cannot see), the device will write it within the quotation, after
//! the checksum of the error was computed. So the quoted checksum is made the one that it would write.

use shunt_abi::address::UDP;

use super::{Fault, Skb, checksum::fold, rewrite::ensure};

/// Bytes quoted behind the IP header.
const QUOTED: u32 = 8;

/// Puts room for the headers of an error in front of the IP header of `header` bytes at `network`, cuts the packet off
/// behind the quotation, and returns what is quoted behind the IP header.
#[inline]
pub(super) fn quote(skb: Skb, network: u32, header: u32, room: u32, protocol: u8) -> Result<[u16; 4], Fault> {
    let mut quoted: [u16; 4] = skb.load(network + header).ok_or(Fault)?;
    if protocol == UDP {
        quoted[3] = settled_checksum(quoted);
        ensure(skb.store(network + header, &quoted, false))?;
    }
    ensure(skb.resize(network + header + QUOTED))?;
    ensure(skb.make_room(room))?;
    Ok(quoted)
}

/// The checksum that a UDP header of no payload must have to stay the same when the sum over the header is written into
/// it: half of what is missing (modulo 65535, where everything has a half).
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "half of 17 bits")]
const fn settled_checksum([source, destination, length, _]: [u16; 4]) -> u16 {
    let missing = 0xffff - fold(source as u32 + destination as u32 + length as u32) as u32;
    if missing & 1 == 0 { (missing / 2) as u16 } else { missing.midpoint(0xffff) as u16 }
}

/// Sum of 16-bit words, not folded.
#[inline]
pub(super) fn sum(words: &[u16]) -> u32 {
    let mut sum = 0;
    for word in words {
        sum += u32::from(*word);
    }
    sum
}
