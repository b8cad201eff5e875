//! Which (address, port, protocol) may be a frontend or a backend: a bitmap that spares all other packets the hash maps.
//!
//! Each has three bits in one word (a Bloom filter in blocks): one read tells, and few others have all of them set.
//! That they are means "perhaps". The agent sets bits before it writes the frontend or backend, and need never clear them.
//! In the map: for every frontend (address, port, protocol) as [`Role::Frontend`], a cluster IP as such with port and
//! protocol 0; for every backend (address, port, protocol) as [`Role::Backend`]. It is asked about addresses that may have such a role at all ([`crate::roles`]).

use crate::address::Words;

/// log2 of the words: 512 KiB. With 10,000 Services in it, two in a thousand packets of others are looked up for nothing,
/// with 30,000 two in a hundred. (Of its memory, a node's packets touch as much as they have addresses and ports.)
const WORDS_SHIFT: u32 = 16;

/// `u64` elements of the array map.
pub const WORDS: u32 = 1 << WORDS_SHIFT;

/// Bits of each, at the most: they may coincide.
const EACH: u32 = 3;

/// What something in the bitmap may be. (Direct traffic to backends is common: it must not look like that to frontends.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What clients address.
    Frontend,
    /// An endpoint.
    Backend,
    /// This node itself, whatever the port.
    Node,
}

/// Where the bitmap tells of something: bits of one word, all set or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// Element of the array.
    pub word: u32,
    /// The bits within it.
    pub mask: u64,
}

impl Bits {
    /// Whether all of them are set in the element.
    #[inline]
    #[must_use]
    pub const fn is_in(&self, element: u64) -> bool {
        element & self.mask == self.mask
    }

    /// The number of one of `1 << shift` groups of words, this one's.
    #[inline]
    #[must_use]
    pub const fn group(self, shift: u32) -> u32 {
        self.word >> (WORDS_SHIFT - shift)
    }
}

/// Odd constants without structure (fractions of the golden ratio and of square roots).
const FIRST: u64 = 0x9e37_79b9_7f4a_7c15;
const SECOND: u64 = 0xbf58_476d_1ce4_e5b9;

/// Where an IPv4 address (network order), port (network order) and protocol are in a role.
#[inline]
#[must_use]
pub const fn bits4(role: Role, address: u32, port: u16, protocol: u8) -> Bits {
    position(hash4(address, tail(role, port, protocol)))
}

/// Where an IPv6 address, port and protocol are in a role.
#[inline]
#[must_use]
pub const fn bits6(role: Role, address: Words, port: u16, protocol: u8) -> Bits {
    position(hash6(address, tail(role, port, protocol)))
}

/// A number whose upper bits depend on all of an IPv4 address and of 32 bits more.
#[inline]
pub(crate) const fn hash4(address: u32, tail: u64) -> u64 {
    mix(((address as u64) << 32 | tail).wrapping_mul(FIRST))
}

/// The same of an IPv6 address.
#[inline]
pub(crate) const fn hash6(address: Words, tail: u64) -> u64 {
    let [a, b, c, d] = address;
    let high = ((a as u64) << 32 | b as u64).wrapping_mul(SECOND);
    let low = (c as u64) << 32 | d as u64;
    mix((high ^ (high >> 32) ^ low).wrapping_add(tail).wrapping_mul(FIRST))
}

#[inline]
const fn mix(product: u64) -> u64 {
    (product ^ (product >> 29)).wrapping_mul(SECOND)
}

const fn tail(role: Role, port: u16, protocol: u8) -> u64 {
    (role as u64) << 24 | (port as u64) << 8 | protocol as u64
}

/// The word and its bits are all taken from the upper bits of a product, which depend on the most of its factors.
const fn position(mut hash: u64) -> Bits {
    let word = (hash >> (64 - WORDS_SHIFT)) as u32;
    hash <<= WORDS_SHIFT;
    let mut mask = 0;
    let mut left = EACH;
    while left > 0 {
        mask |= 1 << (hash >> 58);
        hash <<= 6;
        left -= 1;
    }
    Bits { word, mask }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use super::*;

    /// As many Services with two ports and four endpoints each: their bits, and no others.
    fn bitmap(services: u32) -> Vec<u64> {
        let mut words = vec![0_u64; WORDS as usize];
        let mut set = |bits: Bits| words[bits.word as usize] |= bits.mask;
        for number in 0..services {
            let address = (0x0a60_0000 + number).to_be();
            for port in [80_u16, 443] {
                set(bits4(Role::Frontend, address, port.to_be(), 6));
                let node_port = 30_000 + u16::try_from(number % 1_384).unwrap() * 2 + u16::from(port == 443);
                set(bits4(Role::Frontend, (0xc0a8_0002 + number / 1_384).to_be(), node_port.to_be(), 6));
                for endpoint in 0..4 {
                    let pod = 0x0af4_0000 + (number * 4 + endpoint) % 100_000;
                    set(bits4(Role::Backend, pod.to_be(), (8_000 + port).to_be(), 6));
                }
            }
        }
        words
    }

    fn is_set(words: &[u64], bits: Bits) -> bool {
        bits.is_in(words[bits.word as usize])
    }

    /// Of packets between pods and clients outside, on ports that clients have: those, in ten thousand, that look like
    /// ones to a frontend, or from a backend.
    fn false_positives(words: &[u64]) -> [usize; 4] {
        let ports = || (0..1_000_000_u32).zip((32_768..60_768_u16).cycle());
        let count = |of: &dyn Fn(u32, u16) -> Bits| {
            ports().filter(|(number, port)| is_set(words, of(*number, port.to_be()))).count() / 100
        };
        let six = |address: u32| [0xfd00_0010_u32.to_be(), 0, 0, address.to_be()];
        [
            count(&|number, port| bits4(Role::Frontend, (0x0af4_0000 + number % 5_000).to_be(), port, 6)),
            count(&|number, port| bits4(Role::Backend, (0xcb00_7100 + number / 7).to_be(), port, 6)),
            count(&|number, port| bits6(Role::Frontend, six(number % 5_000), port, 17)),
            count(&|number, port| bits6(Role::Backend, six(number / 7), port, 6)),
        ]
    }

    #[test]
    fn few_packets_of_others_look_like_those_of_services() {
        for (services, most) in [(1_000, 1), (10_000, 20), (30_000, 250)] {
            let found = false_positives(&bitmap(services));
            assert!(found.iter().all(|found| *found <= most), "{services}: {found:?}");
        }
    }

    #[test]
    fn what_is_set_is_found_in_its_role_only() {
        let words = bitmap(1);
        let address = 0x0a60_0000_u32.to_be();
        assert!(is_set(&words, bits4(Role::Frontend, address, 80_u16.to_be(), 6)));
        assert!(!is_set(&words, bits4(Role::Backend, address, 80_u16.to_be(), 6)));
        assert!(!is_set(&words, bits4(Role::Frontend, address, 80_u16.to_be(), 17)));
    }
}
