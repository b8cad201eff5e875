//! Which backends flows were begun to: of others, nothing is to be found among the flows.
//!
//! An array, each of whose elements stands for many backends. Its fields are set before the first flow is stored, and never
//! cleared: those who set them need not know of each other. A smaller array goes by the backends' addresses alone.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{assert_layout, known::Bits, roles};

/// log2 of the elements.
const SHIFT: u32 = 15;

/// Elements of the array.
pub const ELEMENTS: u32 = 1 << SHIFT;

/// Who has flows to a backend; not 0 for "perhaps".
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ReachedValue {
    /// Clients whose packets come by an interface.
    pub by_others: u8,
    /// This node itself, or the backend itself.
    pub by_node: u8,
    /// Zero.
    pub pad: [u8; 6],
}

assert_layout!(ReachedValue, size 8, by_others @ 0, by_node @ 1, pad @ 2);

impl ReachedValue {
    /// Nothing is known of the clients.
    pub const ANYBODY: Self = Self { by_others: 1, by_node: 1, pad: [0; 6] };
}

/// The element of a backend, whose bit it is ([`crate::known::Role::Backend`]).
#[inline]
#[must_use]
pub const fn element(backend: Bits) -> u32 {
    backend.group(SHIFT)
}

/// Elements of the array by address, of eight bytes: [`roles::Place`] tells which is an address's; not 0 for "perhaps".
pub const HOSTS: u32 = roles::WORDS;

/// An element of the array by address, in which all addresses are reached. For those who can only write it whole: a byte
/// of it that is another's must not be lost.
pub const ALL_HOSTS: u64 = 0x0101_0101_0101_0101;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known::{Role, bits4};

    #[test]
    fn backends_are_spread_over_all_elements() {
        let of = |host: u8, port: u16| {
            element(bits4(Role::Backend, u32::from_ne_bytes([10, 244, 1, host]), port, 6))
        };
        let mut seen = [0_u8; 4];
        for host in 0..250 {
            for port in [80_u16, 8080, 5353] {
                let element = of(host, port.to_be());
                assert!(element < ELEMENTS);
                seen[(element >> (SHIFT - 2)) as usize] += 1;
            }
        }
        assert!(seen.iter().all(|&quarter| quarter > 140), "{seen:?}");
    }
}
