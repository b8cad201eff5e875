//! The bitmaps that tell what an address, and an address and port, may be: what they hold, and how more is added.

use std::collections::BTreeSet;
use std::net::IpAddr;

use shunt_abi::address::{word, words};
use shunt_abi::known::{self, Bits, Role};
use shunt_abi::name;
use shunt_abi::roles::{self, Place};

use super::map::{MapError, TypedMap};
use super::maps::Maps;
use super::write::Destination;

/// Words of both bitmaps.
#[derive(Debug, Default)]
pub(super) struct Known {
    ports: Vec<u64>,
    addresses: Vec<u64>,
}

impl Known {
    /// Of maps that were just made.
    pub(super) fn nothing(maps: &Maps) -> Self {
        let zeroes = |map: &TypedMap<u32, u64>| vec![0; usize::try_from(map.capacity()).unwrap_or(0)];
        Self { ports: zeroes(&maps.known), addresses: zeroes(&maps.roles) }
    }

    /// What the maps hold.
    pub(super) fn read(maps: &Maps) -> Result<Self, MapError> {
        let words = |map: &TypedMap<u32, u64>| {
            Ok::<_, MapError>(map.entries()?.into_iter().map(|(_, word)| word).collect())
        };
        Ok(Self { ports: words(&maps.known)?, addresses: words(&maps.roles)? })
    }

    /// Notes destinations in their roles, here and in the maps; a whole address of this node by that alone.
    pub(super) fn add(&mut self, maps: &Maps, destinations: &[(Role, Destination)]) -> Result<(), MapError> {
        let (mut ports, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for (role, destination) in destinations {
            if !destination.is_whole() || *role == Role::Frontend {
                let Bits { word, mask } = bits(*role, *destination);
                set(&mut self.ports, &mut ports, word, mask);
            }
            let place = place(destination.address);
            set(&mut self.addresses, &mut addresses, place.word, place.mask(*role));
        }
        write(&maps.known, &self.ports, &ports)?;
        write(&maps.roles, &self.addresses, &addresses)
    }

    /// Words, by their map and index, that lack bits in `found`.
    pub(super) fn lost<'a>(&'a self, found: &'a Self) -> impl Iterator<Item = (&'static str, usize)> + 'a {
        let maps =
            [(name::KNOWN, &self.ports, &found.ports), (name::ROLES, &self.addresses, &found.addresses)];
        maps.into_iter().flat_map(|(map, set, found)| {
            let lost = set.iter().zip(found).enumerate().filter(|(_, (set, found))| *set & !*found != 0);
            lost.map(move |(index, _)| (map, index))
        })
    }
}

/// Sets bits of one word, and notes the word if it had not all of them.
fn set(words: &mut [u64], changed: &mut BTreeSet<u32>, index: u32, mask: u64) {
    let word = usize::try_from(index).ok().and_then(|index| words.get_mut(index));
    if let Some(word) = word.filter(|word| **word & mask != mask) {
        *word |= mask;
        changed.insert(index);
    }
}

fn write(map: &TypedMap<u32, u64>, words: &[u64], changed: &BTreeSet<u32>) -> Result<(), MapError> {
    let pairs = changed.iter().filter_map(|index| Some((*index, *words.get(usize::try_from(*index).ok()?)?)));
    let (indexes, words): (Vec<u32>, Vec<u64>) = pairs.unzip();
    map.set_all(&indexes, &words)
}

/// Where the bitmap of ports has a destination.
pub(super) fn bits(role: Role, Destination { address, port, protocol }: Destination) -> Bits {
    match address {
        IpAddr::V4(address) => known::bits4(role, word(address), port.to_be(), protocol),
        IpAddr::V6(address) => known::bits6(role, words(address), port.to_be(), protocol),
    }
}

/// Where the maps by address have one.
pub(super) fn place(address: IpAddr) -> Place {
    match address {
        IpAddr::V4(address) => roles::place4(word(address)),
        IpAddr::V6(address) => roles::place6(words(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_written_once_however_many_bits_are_added_and_not_at_all_if_it_has_them() {
        let (mut words, mut changed) = (vec![0b0001, 0], BTreeSet::new());
        for (index, mask) in [(0, 0b0001), (1, 0b0010), (1, 0b0100), (7, 1)] {
            set(&mut words, &mut changed, index, mask);
        }
        assert_eq!((words, changed), (vec![0b0001, 0b0110], BTreeSet::from([1])));
    }

    #[test]
    fn lost_bits_are_told_by_map_and_word() {
        let of =
            |ports: &[u64], addresses: &[u64]| Known { ports: ports.into(), addresses: addresses.into() };
        let (set, found) = (of(&[0, 3, 1], &[4, 5]), of(&[8, 2, 1], &[4, 1]));
        assert_eq!(set.lost(&found).collect::<Vec<_>>(), [(name::KNOWN, 1), (name::ROLES, 1)]);
        assert_eq!(set.lost(&set).count(), 0);
    }
}
