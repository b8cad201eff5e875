//! Sockets that talk to a backend in place of a frontend: what they believe their peer is.
//!
//! A connected socket has one peer, and an element of an array; one that sends datagrams here and there, or has had other
//! peers before, has elements of a hash.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{address::Words, assert_layout};

/// A socket and a backend it talks to. Evicts the least recently used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OriginKey {
    /// Cookie of the socket (`SO_COOKIE`, and in sock_diag's answers).
    pub cookie: u64,
    /// The backend's address, network order, IPv4 mapped.
    pub address: Words,
    /// Its port, network order.
    pub port: u16,
    /// IANA number.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 5],
}

assert_layout!(OriginKey, size 32, cookie @ 0, address @ 8, port @ 24, protocol @ 26, pad @ 27);

/// The frontend that the process named.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OriginValue {
    /// Its address, network order, IPv4 mapped.
    pub address: Words,
    /// Its port, network order.
    pub port: u16,
    /// Zero.
    pub pad: u16,
    /// Id of the backend.
    pub backend: u32,
    /// Its generation.
    pub generation: u32,
}

assert_layout!(OriginValue, size 28, address @ 0, port @ 16, pad @ 18, backend @ 20, generation @ 24);

/// A connected socket. An array has these by the lowest bits of the cookie ([`PeerValue::index`]). The kernel gives
/// cookies out in order, so that a place is taken by another socket when so many others have been given theirs. Two
/// processors may write to a place, or one write what another reads: [`PeerValue::sum`] tells what is whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PeerValue {
    /// Cookie of the socket; 0 where there is none.
    pub cookie: u64,
    /// Address of the backend it talks to, network order, IPv4 mapped.
    pub backend_address: Words,
    /// Address of the frontend that the process named, network order, IPv4 mapped.
    pub address: Words,
    /// The backend's port, network order.
    pub backend_port: u16,
    /// The frontend's port, network order.
    pub port: u16,
    /// Id of the backend.
    pub backend: u32,
    /// Its generation.
    pub generation: u32,
    /// IANA number.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
    /// When the process last asked for its peer, or who sent a datagram, in moments since it was connected. Not part of the
    /// sum.
    pub asked_after: u16,
    /// When it was connected ([`moment`]). Not part of the sum.
    pub since: u32,
    /// [`PeerValue::computed_sum`] when it was written.
    pub sum: u32,
}

assert_layout!(
    PeerValue, size 64,
    cookie @ 0, backend_address @ 8, address @ 24, backend_port @ 40, port @ 42, backend @ 44, generation @ 48,
    protocol @ 52, pad @ 53, asked_after @ 54, since @ 56, sum @ 60,
);

/// A moment is 16 jiffies: 16 ms to 160 ms, by the kernel's `CONFIG_HZ`. Counted in 32 bits that wrap.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "moments wrap, and differences of them are taken so")]
pub const fn moment(jiffies: u64) -> u32 {
    (jiffies >> 4) as u32
}

/// Odd, and of no pattern.
const FACTORS: [u64; 7] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
    0x8ebc_6af0_9c88_c6e3,
];

impl PeerValue {
    /// The place of a socket in an array of so many elements, a power of two.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are wanted")]
    pub const fn index(cookie: u64, elements: u32) -> u32 {
        cookie as u32 & elements.wrapping_sub(1)
    }

    /// What the sum should be.
    #[inline]
    pub const fn computed_sum(&self) -> u32 {
        let [b0, b1, b2, b3] = self.backend_address;
        let [f0, f1, f2, f3] = self.address;
        let ports = (self.backend_port as u32) << 16 | self.port as u32;
        let [k0, k1, k2, k3, k4, k5, k6] = FACTORS;
        // Not zero for an element of zeros. Each word counts by itself, so that no product waits for another.
        let sum = (1_u64 << 32)
            .wrapping_add(self.cookie.wrapping_mul(k0))
            .wrapping_add(pair(b0, b1).wrapping_mul(k1))
            .wrapping_add(pair(b2, b3).wrapping_mul(k2))
            .wrapping_add(pair(f0, f1).wrapping_mul(k3))
            .wrapping_add(pair(f2, f3).wrapping_mul(k4))
            .wrapping_add(pair(ports, self.backend).wrapping_mul(k5))
            .wrapping_add(pair(self.generation, self.protocol as u32).wrapping_mul(k6));
        (sum >> 32) as u32
    }

    /// With its sum.
    #[inline]
    #[must_use]
    pub const fn summed(self) -> Self {
        Self { sum: self.computed_sum(), ..self }
    }

    /// Whether it is what one writer has written.
    #[inline]
    pub const fn is_whole(&self) -> bool {
        self.sum == self.computed_sum()
    }

    /// What [`PeerValue::asked_after`] is to be for one who asks now.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "at most 16 bits")]
    pub const fn elapsed(&self, now: u32) -> u16 {
        let moments = now.wrapping_sub(self.since);
        if moments > u16::MAX as u32 { u16::MAX } else { moments as u16 }
    }

    /// Whether the process has asked in the later half of the time that the element was here, or ever after long: it may
    /// ask again. (Most ask once, as soon as they are connected, and are gone.)
    #[inline]
    pub const fn is_in_use(&self, now: u32) -> bool {
        self.asked_after == u16::MAX || self.asked_after as u32 > now.wrapping_sub(self.since) / 2
    }

    /// The same as an element of the hash.
    #[inline]
    pub const fn origin(&self) -> (OriginKey, OriginValue) {
        let key = OriginKey {
            cookie: self.cookie,
            address: self.backend_address,
            port: self.backend_port,
            protocol: self.protocol,
            pad: [0; 5],
        };
        let Self { address, port, backend, generation, .. } = *self;
        (key, OriginValue { address, port, pad: 0, backend, generation })
    }
}

#[inline]
const fn pair(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromBytes as _, IntoBytes as _};

    use super::*;

    fn peer(number: u32) -> PeerValue {
        PeerValue {
            cookie: number.into(),
            backend_address: [0, 0, 0xffff_0000, 0x0a00_0001 + number],
            address: [0, 0, 0xffff_0000, 0x0a60_0001 + number],
            backend_port: 8080,
            port: 80,
            backend: number,
            generation: number,
            protocol: 6,
            ..PeerValue::default()
        }
        .summed()
    }

    #[test]
    fn what_two_writers_made_together_is_not_whole() {
        let [old, new] = [peer(1), peer(1 + (1 << 16))];
        assert!(old.is_whole() && new.is_whole());
        // Any of the eight words from either.
        for from_new in 1..255_u32 {
            let mut mixed = [0; 64];
            for (index, word) in mixed.chunks_exact_mut(8).enumerate() {
                let source = if from_new >> index & 1 == 1 { &new } else { &old };
                word.copy_from_slice(&source.as_bytes()[index * 8..][..8]);
            }
            let mixed = PeerValue::read_from_bytes(&mixed).unwrap();
            assert!(!mixed.is_whole() || mixed == old || mixed == new, "{from_new:b}");
        }
    }

    #[test]
    fn nothing_is_not_a_peer_and_when_somebody_asked_makes_no_difference() {
        assert!(!PeerValue::default().is_whole());
        assert!(PeerValue { asked_after: 1, since: 2, ..peer(5) }.is_whole());
    }

    #[test]
    fn who_asks_late_is_taken_to_ask_again() {
        let since = u32::MAX - 10;
        let asked = |after: u32| {
            let new = PeerValue { since, ..peer(1) };
            PeerValue { asked_after: new.elapsed(since.wrapping_add(after)), ..new }
        };
        let in_use = |asked_after, now| asked(asked_after).is_in_use(since.wrapping_add(now));
        assert!(!in_use(0, 0) && !in_use(0, 100) && !in_use(50, 100));
        assert!(in_use(51, 100) && in_use(100, 100) && in_use(1, 1));
        assert!(in_use(70_000, 100_000) && !in_use(60_000, 1_000_000));
    }

    #[test]
    fn sockets_one_after_the_other_have_places_one_after_the_other() {
        assert_eq!([7, 8, 9, 17].map(|cookie| PeerValue::index(cookie, 8)), [7, 0, 1, 1]);
    }
}
