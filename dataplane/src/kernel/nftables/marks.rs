//! Finding out whether a rule of somebody else reads or writes certain bits of the packet mark.

use super::expression::number::META_MARK;
use crate::kernel::netlink::{Attributes, find, find_text, find_u32};

/// Whether a rule (its list of expressions, as dumped) sets, clears or tests any of these bits. A guess in favour of
/// "yes" where a rule does more than one thing with marks.
pub(super) fn uses(rule: &[u8], bits: u32) -> bool {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    let mut touches_mark = false;
    let mut touches_bits = false;
    for expression in Attributes::new(rule) {
        let Some(name) = find_text(expression.payload, NAME) else { continue };
        let data = find(expression.payload, DATA).unwrap_or_default();
        match name {
            "meta" => touches_mark |= find_u32(data, 2) == Some(META_MARK),
            "bitwise" => touches_bits |= bitwise(data, bits),
            "cmp" => touches_bits |= touches_mark && value(data, 3).is_some_and(|value| value & bits != 0),
            "immediate" => touches_bits |= value(data, 2).is_some_and(|value| value & bits != 0),
            "match" | "target" if extension(data, bits) => return true,
            _ => {}
        }
    }
    touches_mark && touches_bits
}

/// Writing: bits that do not survive the mask or are flipped. Reading: bits that the mask lets through, if it lets few.
fn bitwise(data: &[u8], bits: u32) -> bool {
    const MASK: u16 = 4;
    const XOR: u16 = 5;
    let (Some(mask), Some(xor)) = (value(data, MASK), value(data, XOR)) else { return false };
    let reads = xor == 0 && mask & bits != 0 && mask.count_ones() <= 16;
    reads || !mask & bits != 0 && mask.count_ones() > 16 || xor & bits != 0
}

/// A 4-byte value in host order: marks are never anything else.
fn value(data: &[u8], kind: u16) -> Option<u32> {
    const VALUE: u16 = 1;
    find(find(data, kind)?, VALUE)?.try_into().ok().map(u32::from_ne_bytes)
}

/// iptables' `mark` match and `MARK` target: value, mask.
fn extension(data: &[u8], bits: u32) -> bool {
    const NAME: u16 = 1;
    const INFO: u16 = 3;
    if !matches!(find_text(data, NAME), Some("mark" | "MARK")) {
        return false;
    }
    let info = find(data, INFO).unwrap_or_default();
    let word = |at: usize| info.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    word(0).is_some_and(|value| value & bits != 0) || word(4).is_some_and(|mask| mask & bits != 0)
}
