//! Which roles an address may have, whatever the port: what tells, with one word of a small map, most packets that are
//! none of ours.
//!
//! A packet's other end has another port with every connection, so a map that goes by ports is cold to it, and one that
//! goes by addresses is not. As in [`crate::known`], bits that are set mean "perhaps"; the agent sets them before it writes
//! what they tell of, and need never clear them. In the map: the address of every frontend as [`Role::Frontend`], of every
//! backend as [`Role::Backend`], and every address of this node, and that which stands for a backend itself, as
//! [`Role::Node`].

use crate::{
    address::Words,
    known::{Role, hash4, hash6},
};

/// `u64` elements of the array map: 30 KiB. With what the kernel adds this stays below the 32 KiB up to which it takes
/// memory that it has mapped in large pages.
pub const WORDS: u32 = 3840;

/// Where the map tells of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Element of the array.
    pub word: u32,
    /// Further bits of the hash, which choose those within the element.
    choice: u32,
}

impl Place {
    /// The bits of a role within the element. Each role has some of its own: frontends the lowest 24, the node 8, backends
    /// the upper half.
    #[inline]
    #[must_use]
    pub const fn mask(self, role: Role) -> u64 {
        let Self { choice, .. } = self;
        match role {
            Role::Frontend => 1 << (choice & 15) | 1 << (16 + (choice >> 4 & 7)),
            Role::Node => 1 << (24 + (choice >> 7 & 7)),
            Role::Backend => 1 << (32 + (choice >> 10 & 15)) | 1 << (48 + (choice >> 14 & 15)),
        }
    }

    /// Whether the element has the address in a role, perhaps.
    #[inline]
    #[must_use]
    pub const fn is_in(self, role: Role, element: u64) -> bool {
        let mask = self.mask(role);
        element & mask == mask
    }

    /// One of the eight bytes of an element with the same index in a map of bytes ([`crate::reached::HOSTS`]).
    #[inline]
    #[must_use]
    pub const fn byte(self) -> u32 {
        self.choice >> 18 & 7
    }
}

/// Where an IPv4 address (network order) is.
#[inline]
#[must_use]
pub const fn place4(address: u32) -> Place {
    place(hash4(address, 0))
}

/// Where an IPv6 address (network order) is.
#[inline]
#[must_use]
pub const fn place6(address: Words) -> Place {
    place(hash6(address, 0))
}

/// The word is taken from the upper half of the hash, all else from the middle.
#[inline]
const fn place(hash: u64) -> Place {
    let word = ((hash >> 32) * WORDS as u64) >> 32;
    Place { word: word as u32, choice: (hash >> 11 & 0x001f_ffff) as u32 }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use super::*;

    /// As many frontends' and backends' addresses of one family.
    fn map(of: fn(u32) -> Place, frontends: u32, backends: u32) -> Vec<u64> {
        let mut words = vec![0_u64; WORDS as usize];
        let mut set = |address, role| {
            let place = of(address);
            words[place.word as usize] |= place.mask(role);
        };
        (0..frontends).for_each(|number| set(0x0a60_0000 + number, Role::Frontend));
        (0..backends).for_each(|number| set(0x0af4_0000 + number, Role::Backend));
        (0..6).for_each(|number| set(0xc0a8_0002 + number, Role::Node));
        words
    }

    fn four(address: u32) -> Place {
        place4(address.to_be())
    }

    fn six(address: u32) -> Place {
        place6([0xfd00_0010_u32.to_be(), 0, 0, address.to_be()])
    }

    fn is_in(words: &[u64], place: Place, role: Role) -> bool {
        place.is_in(role, words[place.word as usize])
    }

    /// Of a thousand other addresses, pods and hosts outside, those that look like frontends, backends and this node.
    fn false_positives(of: fn(u32) -> Place, frontends: u32, backends: u32) -> [usize; 3] {
        let words = map(of, frontends, backends);
        let pods = (0..50_000).map(|number| 0x0af8_0000 + number);
        let others: Vec<u32> = pods.chain((0..50_000).map(|number| 0xcb00_7100 + number * 7)).collect();
        [Role::Frontend, Role::Backend, Role::Node].map(|role| {
            others.iter().filter(|address| is_in(&words, of(**address), role)).count() * 1_000 / others.len()
        })
    }

    #[test]
    fn few_addresses_of_others_look_like_those_of_services() {
        for of in [four, six] {
            let few = false_positives(of, 1_000, 4_000);
            assert!(few[0] <= 5 && few[1] <= 15 && few[2] == 0, "{few:?}");
            let many = false_positives(of, 10_000, 40_000);
            assert!(many[0] <= 60 && many[1] <= 280 && many[2] == 0, "{many:?}");
        }
    }

    #[test]
    fn what_is_set_is_found_in_its_role_only() {
        for of in [four, six] {
            let words = map(of, 1, 2);
            for (address, role) in
                [(0x0a60_0000, Role::Frontend), (0x0af4_0001, Role::Backend), (0xc0a8_0002, Role::Node)]
            {
                for other in [Role::Frontend, Role::Backend, Role::Node] {
                    assert_eq!(is_in(&words, of(address), other), other == role, "{address:x} as {other:?}");
                }
            }
        }
    }

    #[test]
    fn roles_have_bits_of_their_own_and_all_words_and_bytes_are_used() {
        let (mut words, mut bytes) = (vec![false; WORDS as usize], [0_u32; 8]);
        for number in 0..40_000 {
            let place = four(0x0af4_0000 + number);
            words[place.word as usize] = true;
            bytes[place.byte() as usize] += 1;
            let masks = [Role::Frontend, Role::Backend, Role::Node].map(|role| place.mask(role));
            assert_eq!(masks.map(u64::count_ones), [2, 2, 1]);
            assert_eq!(masks.iter().fold(0, |all, mask| all | mask).count_ones(), 5);
        }
        assert!(words.iter().filter(|used| **used).count() > 3_830, "elements that nobody has");
        assert!(bytes.iter().all(|count| (4_500..5_500).contains(count)), "{bytes:?}");
    }
}
