//! Small numbers for things, with a generation that tells the holders of a number apart.
//!
//! A number that was given back rests for a grace period, as programs may still look at its element, and comes back with
//! another generation, by which flow entries of the former holder are recognised. Generations begin anywhere, so that an
//! agent that starts does not repeat what its predecessor gave: of numbers that are not in use nobody knows any more.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::ranges::GRACE;

/// A number and which holder of it this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id {
    /// From 1: 0 means none.
    pub(super) index: u32,
    /// Never 0.
    pub(super) generation: u32,
}

/// Hands out the numbers from 1 to one below `capacity`.
#[derive(Debug)]
pub(super) struct Ids {
    capacity: u32,
    next_generation: u32,
    /// Neither this number nor a higher one was ever in use.
    fresh: u32,
    taken: BTreeSet<u32>,
    resting: VecDeque<(Instant, u32)>,
    free: BTreeSet<u32>,
}

impl Ids {
    /// For an array of `capacity` elements; `generation` is the first to be given.
    pub(super) const fn new(capacity: u32, generation: u32) -> Self {
        Self {
            capacity,
            next_generation: generation,
            fresh: 1,
            taken: BTreeSet::new(),
            resting: VecDeque::new(),
            free: BTreeSet::new(),
        }
    }

    /// Numbers in use.
    pub(super) fn used(&self) -> usize {
        self.taken.len()
    }

    /// Neither this number nor a higher one was ever in use.
    pub(super) const fn end(&self) -> u32 {
        self.fresh
    }

    /// Whether [`Self::take`] would find one.
    pub(super) fn is_left(&self, now: Instant) -> bool {
        self.fresh < self.capacity
            || !self.free.is_empty()
            || self.resting.front().is_some_and(|(at, _)| *at <= now)
    }

    /// A number that nobody has; `None` when all are in use or resting.
    pub(super) fn take(&mut self, now: Instant) -> Option<Id> {
        while let Some((_, index)) = self.resting.pop_front_if(|(at, _)| *at <= now) {
            self.free.insert(index);
        }
        let index = match self.free.pop_first() {
            Some(index) => index,
            None => self.take_fresh()?,
        };
        self.taken.insert(index);
        let generation = self.next_generation.max(1);
        self.next_generation = generation.wrapping_add(1);
        Some(Id { index, generation })
    }

    fn take_fresh(&mut self) -> Option<u32> {
        let index = Some(self.fresh).filter(|index| *index < self.capacity)?;
        self.fresh += 1;
        Some(index)
    }

    /// Takes exactly this number, found in use in the kernel, before any other was taken; false if it is taken already,
    /// or out of range.
    pub(super) fn claim(&mut self, id: Id) -> bool {
        if id.index == 0 || id.index >= self.capacity || !self.taken.insert(id.index) {
            return false;
        }
        self.free.extend(self.fresh..id.index);
        self.fresh = self.fresh.max(id.index + 1);
        self.free.remove(&id.index);
        true
    }

    /// Takes a number back.
    pub(super) fn give(&mut self, index: u32, now: Instant) {
        if self.taken.remove(&index) {
            self.resting.push_back((now + GRACE, index));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_after_its_rest_with_another_generation() {
        let now = Instant::now();
        let mut ids = Ids::new(2, 100);
        let first = ids.take(now).unwrap();
        assert_eq!((first.index, first.generation), (1, 100));
        assert_eq!(ids.take(now), None, "full");
        ids.give(first.index, now);
        assert_eq!(ids.take(now), None, "resting");
        let second = ids.take(now + GRACE).unwrap();
        assert_eq!((second.index, second.generation), (1, 101));
    }

    #[test]
    fn giving_back_twice_counts_once() {
        let now = Instant::now();
        let mut ids = Ids::new(4, 1);
        let id = ids.take(now).unwrap();
        ids.give(id.index, now);
        ids.give(id.index, now);
        assert_eq!(ids.used(), 0);
        let later = now + GRACE;
        assert_ne!(ids.take(later).unwrap().index, ids.take(later).unwrap().index);
    }

    #[test]
    fn numbers_found_in_the_kernel_are_kept_with_their_generations() {
        let now = Instant::now();
        let mut ids = Ids::new(5, 3);
        let found = Id { index: 3, generation: 7 };
        assert!(ids.claim(found) && !ids.claim(found));
        assert!(!ids.claim(Id { index: 5, generation: 1 }), "out of range");
        let others: Vec<_> = (0..3).map(|_| ids.take(now).unwrap()).collect();
        assert_eq!(others.iter().map(|id| id.index).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(others[0].generation, 3);
        assert_eq!(ids.take(now), None);
        ids.give(3, now);
        assert_eq!(ids.take(now + GRACE), Some(Id { index: 3, generation: 6 }));
    }

    #[test]
    fn a_number_found_and_given_back_rests_too() {
        let now = Instant::now();
        let mut ids = Ids::new(5, 3);
        assert!(ids.claim(Id { index: 2, generation: 1 }));
        ids.give(2, now);
        let taken: Vec<_> = (0..3).map(|_| ids.take(now).unwrap().index).collect();
        assert_eq!(taken, [1, 3, 4]);
    }

    #[test]
    fn no_generation_is_zero() {
        let mut ids = Ids::new(5, u32::MAX);
        let now = Instant::now();
        assert_eq!(ids.take(now).unwrap().generation, u32::MAX);
        assert_eq!(ids.take(now).unwrap().generation, 1);
    }
}
