//! Which (address, port, protocol) may be a frontend or a backend: a bitmap that spares all other packets the hash maps.
//!
//! A set bit means "perhaps". The agent sets a bit before it writes the frontend or backend, and need never clear it.
//! In the map: for every frontend (address, port, protocol) as [`Role::Frontend`], and its (address, 0, 0) likewise; for
//! every backend (address, port, protocol) as [`Role::Backend`]; for every address of this node (address, 0, 0) as
//! [`Role::Node`].

use crate::address::Words;

/// log2 of the bits.
pub const BITS_SHIFT: u32 = 20;

/// `u64` elements of the array map.
pub const WORDS: u32 = 1 << (BITS_SHIFT - 6);

/// What something in the bitmap may be. (Direct traffic to backends is common: it must not look like that to frontends.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What clients address.
    Frontend,
    /// An endpoint.
    Backend,
    /// This node itself.
    Node,
}

/// A position in the bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bit {
    /// Element of the array.
    pub word: u32,
    /// The bit within it.
    pub mask: u64,
}

/// Odd constants without structure (fractions of the golden ratio and of square roots).
const FIRST: u64 = 0x9e37_79b9_7f4a_7c15;
const SECOND: u64 = 0xbf58_476d_1ce4_e5b9;

/// Where an IPv4 address (network order), port (network order) and protocol are in a role.
#[inline]
#[must_use]
pub const fn bit4(role: Role, address: u32, port: u16, protocol: u8) -> Bit {
    position(((address as u64) << 32 | tail(role, port, protocol)).wrapping_mul(FIRST))
}

/// Where an IPv6 address, port and protocol are in a role.
#[inline]
#[must_use]
pub const fn bit6(role: Role, address: Words, port: u16, protocol: u8) -> Bit {
    let [a, b, c, d] = address;
    let high = ((a as u64) << 32 | b as u64).wrapping_mul(SECOND);
    let low = (c as u64) << 32 | d as u64;
    position((high ^ (high >> 32) ^ low).wrapping_add(tail(role, port, protocol)).wrapping_mul(FIRST))
}

const fn tail(role: Role, port: u16, protocol: u8) -> u64 {
    (role as u64) << 24 | (port as u64) << 8 | protocol as u64
}

const fn position(hash: u64) -> Bit {
    let mixed = hash ^ (hash >> 29);
    let index = (mixed.wrapping_mul(SECOND) >> (64 - BITS_SHIFT)) as u32;
    Bit { word: index >> 6, mask: 1 << (index & 63) }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neighbours_are_spread_over_the_bitmap() {
        let mut seen = HashSet::new();
        for host in 0..250_u8 {
            for port in 0..40_u16 {
                let address = u32::from_ne_bytes([10, 96, 0, host]);
                let bit = bit4(Role::Frontend, address, (8000 + port).to_be(), 6);
                assert!(bit.word < WORDS);
                seen.insert((bit.word, bit.mask));
                let bit = bit6(Role::Backend, [0xfd00_u32.to_be(), 0, 0, address], (8000 + port).to_be(), 6);
                assert!(bit.word < WORDS);
                seen.insert((bit.word, bit.mask));
            }
        }
        // 20,000 of a million: about 190 collisions are expected.
        assert!(seen.len() > 19_500, "{}", seen.len());
    }
}
