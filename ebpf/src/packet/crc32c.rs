//! SCTP's checksum, CRC32c over the whole packet, after a change of its first four bytes.
//!
//! A CRC is linear: the checksum changes by that of a packet of zeroes with the changed bits in their place. Moving
//! bits further to the front by one bit multiplies by x modulo the polynomial, so it takes a multiplication for each
//! byte of the number of bytes behind them, not a look at the payload.

use super::{Fault, Skb, rewrite::ensure};

/// CRC32c's polynomial, bits reversed as in the checksum.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Offset of the checksum in the SCTP header.
const CHECKSUM: u32 = 8;

/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// x^8: the highest bit stands for x^0.
const BYTE: u32 = 1 << (31 - 8);

/// Values of a byte.
const VALUES: usize = 256;

/// x^(8 * n) modulo the polynomial, for each number of bytes n that fits into a byte.
static FEW: [u32; VALUES] = powers(BYTE);
/// The same for 256 times that number.
static MANY: [u32; VALUES] = powers(power(BYTE, VALUES));

/// `base`^n for each n.
const fn powers(base: u32) -> [u32; VALUES] {
    let mut all = [ONE; VALUES];
    let (mut power, mut rest): (u32, &mut [u32]) = (ONE, &mut all);
    while let [first, others @ ..] = rest {
        *first = power;
        power = multiply(power, base);
        rest = others;
    }
    all
}

const fn power(base: u32, exponent: usize) -> u32 {
    let (mut power, mut left) = (ONE, exponent);
    while left > 0 {
        power = multiply(power, base);
        left -= 1;
    }
    power
}

/// Product of two polynomials modulo CRC32c's.
const fn multiply(a: u32, b: u32) -> u32 {
    let (mut product, mut shifted, mut rest, mut bit) = (0_u32, b, a, 0);
    while bit < 32 {
        // Without branches, of which verifiers would try every combination.
        product ^= shifted & 0_u32.wrapping_sub(rest >> 31);
        shifted = (shifted >> 1) ^ (POLYNOMIAL & 0_u32.wrapping_sub(shifted & 1));
        rest <<= 1;
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

/// What a CRC changes by when the four bytes `bits` change, with `bytes` (16 bits) from the first of them to the end.
fn shift(bits: u32, bytes: u32) -> u32 {
    // The register holds the message's bits first one lowest, and takes one step for each bit from there to the end.
    let [few, many, ..] = bytes.to_le_bytes();
    multiply(multiply(bits, of(&FEW, few)), of(&MANY, many))
}

#[inline]
fn of(powers: &[u32; VALUES], number: u8) -> u32 {
    powers.get(usize::from(number)).copied().unwrap_or(ONE)
}
