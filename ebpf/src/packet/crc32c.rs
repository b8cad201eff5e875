//! SCTP's checksum, CRC32c over the whole packet, after a change of its first four bytes.
//!
//! A CRC is linear: the checksum changes by that of a packet of zeroes with the changed bits in their place. Moving
//! bits further to the front by one bit multiplies by x modulo the polynomial, so it takes a multiplication for each
//! bit of the number of bytes behind them, not a look at the payload.

use super::{Fault, Skb, rewrite::ensure};

/// CRC32c's polynomial, bits reversed as in the checksum.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Offset of the checksum in the SCTP header.
const CHECKSUM: u32 = 8;

/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// Bits of a packet's length.
const LENGTH_BITS: usize = 16;

/// x^(8 * 2^n) modulo the polynomial, for each bit n of a number of bytes.
static POWERS: [u32; LENGTH_BITS] = powers();

const fn powers() -> [u32; LENGTH_BITS] {
    // x^8: the highest bit stands for x^0.
    let mut power = 1 << (31 - 8);
    let mut all = [0; LENGTH_BITS];
    let mut rest: &mut [u32] = &mut all;
    while let [first, others @ ..] = rest {
        *first = power;
        power = multiply(power, power);
        rest = others;
    }
    all
}

/// Product of two polynomials modulo CRC32c's.
const fn multiply(a: u32, b: u32) -> u32 {
    let (mut product, mut shifted, mut bit) = (0, b, 0);
    while bit < 32 {
        if a & (1 << (31 - bit)) != 0 {
            product ^= shifted;
        }
        shifted = (shifted >> 1) ^ (if shifted & 1 == 0 { 0 } else { POLYNOMIAL });
        bit += 1;
    }
    product
}

/// Follows a change of its first four bytes by `bits` in the checksum of the SCTP header at `header`; `bytes` from there to
/// the end of the packet. A checksum of 0 is left to the device (CHECKSUM_PARTIAL) and stays.
#[inline(never)]
pub(super) fn change(skb: Skb, header: u32, bits: u32, bytes: u32) -> Result<(), Fault> {
    let checksum: u32 = skb.load(header + CHECKSUM).ok_or(Fault)?;
    if checksum == 0 {
        return Ok(());
    }
    ensure(skb.store(header + CHECKSUM, &(checksum ^ shift(bits, bytes)), true))
}

/// What a CRC changes by when the four bytes `bits` change, with `bytes` from the first of them to the end.
fn shift(bits: u32, bytes: u32) -> u32 {
    // The register holds the message's bits first one lowest, and takes one step for each bit from there to the end.
    let (mut value, mut length) = (bits, bytes);
    for power in &POWERS {
        // Without a branch, of which verifiers would try every combination: times 1 where the bit is not set.
        let skip = (length & 1).wrapping_sub(1);
        value = multiply(value, power ^ ((power ^ ONE) & skip));
        length >>= 1;
    }
    value
}
