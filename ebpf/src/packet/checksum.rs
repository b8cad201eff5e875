//! Ones' complement sums (RFC 1071, RFC 1624). Byte order does not matter as long as it is one.

/// A 64-bit sum of 32-bit words, folded to 32 bits: what the kernel calls a partial checksum.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "two folds leave at most 32 bits")]
fn fold_wide(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// A partial checksum, folded to 16 bits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "two folds leave at most 16 bits")]
pub(crate) const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// What a sum grows by when the words `old` become `new`.
#[inline]
pub(crate) fn difference(old: &[u32], new: &[u32]) -> u32 {
    let mut sum = 0_u64;
    for word in old {
        sum += u64::from(!word);
    }
    for word in new {
        sum += u64::from(*word);
    }
    fold_wide(sum)
}

/// The checksum field that follows from `checksum` when the sum grows by `difference`.
#[inline]
pub(crate) const fn replace(checksum: u16, difference: u32) -> u16 {
    !fold((!checksum) as u32 + fold(difference) as u32)
}
