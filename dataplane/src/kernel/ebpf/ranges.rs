//! Who has which part of an array: contiguous ranges, handed out and taken back.
//!
//! A range that is given back may still be read by a program that found it a moment ago, so it is not handed out again
//! before a grace period is over. Neighbouring free ranges become one.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

/// A program that has found a range is done with it long before.
pub(super) const GRACE: Duration = Duration::from_millis(250);

/// The free parts of an array of `capacity` elements.
#[derive(Debug)]
pub(super) struct Ranges {
    /// Start to length; neighbours are merged.
    free: BTreeMap<u32, u32>,
    /// Given back, with the time from which they are free.
    resting: VecDeque<(Instant, Range<u32>)>,
    used: u32,
}

impl Ranges {
    pub(super) fn new(capacity: u32) -> Self {
        let free = if capacity == 0 { BTreeMap::new() } else { BTreeMap::from([(0, capacity)]) };
        Self { free, resting: VecDeque::new(), used: 0 }
    }

    /// Elements handed out now.
    pub(super) const fn used(&self) -> u32 {
        self.used
    }

    /// Whether any element is free.
    pub(super) fn is_left(&self, now: Instant) -> bool {
        !self.free.is_empty() || self.resting.front().is_some_and(|(at, _)| *at <= now)
    }

    /// The first free range of that length. `None` if there is no such.
    pub(super) fn take(&mut self, length: u32, now: Instant) -> Option<Range<u32>> {
        self.settle(now);
        if length == 0 {
            return Some(0..0);
        }
        let start = self.free.iter().find(|(_, free)| **free >= length).map(|(start, _)| *start)?;
        let rest = self.free.remove(&start)? - length;
        if rest > 0 {
            self.free.insert(start + length, rest);
        }
        self.used += length;
        Some(start..start + length)
    }

    /// Takes exactly this range, found in use in the kernel; false if it is not free.
    pub(super) fn claim(&mut self, range: &Range<u32>) -> bool {
        if range.is_empty() {
            return true;
        }
        let Some((&start, &length)) = self.free.range(..=range.start).next_back() else { return false };
        if start + length < range.end {
            return false;
        }
        self.free.remove(&start);
        if start < range.start {
            self.free.insert(start, range.start - start);
        }
        if range.end < start + length {
            self.free.insert(range.end, start + length - range.end);
        }
        self.used += range.end - range.start;
        true
    }

    /// Takes back a range; it rests for the grace period.
    pub(super) fn give(&mut self, range: Range<u32>, now: Instant) {
        if !range.is_empty() {
            self.used -= (range.end - range.start).min(self.used);
            self.resting.push_back((now + GRACE, range));
        }
    }

    fn settle(&mut self, now: Instant) {
        while let Some((_, range)) = self.resting.pop_front_if(|(at, _)| *at <= now) {
            self.release(range);
        }
    }

    fn release(&mut self, range: Range<u32>) {
        let (mut start, mut length) = (range.start, range.end - range.start);
        if let Some((&before, &size)) = self.free.range(..start).next_back()
            && before + size == start
        {
            self.free.remove(&before);
            (start, length) = (before, length + size);
        }
        if let Some(size) = self.free.remove(&(start + length)) {
            length += size;
        }
        self.free.insert(start, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_rests_before_it_is_handed_out_again() {
        let start = Instant::now();
        let mut ranges = Ranges::new(4);
        let all = ranges.take(4, start).unwrap();
        ranges.give(all, start);
        assert_eq!(ranges.take(1, start), None);
        assert_eq!(ranges.take(4, start + GRACE), Some(0..4));
    }

    #[test]
    fn neighbours_become_one_range_in_any_order() {
        let start = Instant::now();
        for order in [[0, 1, 2], [0, 2, 1], [2, 0, 1], [1, 0, 2], [1, 2, 0], [2, 1, 0]] {
            let mut ranges = Ranges::new(6);
            let taken: Vec<_> = (0..3).map(|_| ranges.take(2, start).unwrap()).collect();
            assert_eq!(ranges.used(), 6);
            for index in order {
                ranges.give(taken[index].clone(), start);
            }
            assert_eq!(ranges.take(6, start + GRACE), Some(0..6), "{order:?}");
        }
    }

    #[test]
    fn ranges_found_in_the_kernel_are_kept_out_of_circulation() {
        let now = Instant::now();
        let mut ranges = Ranges::new(10);
        assert!(ranges.claim(&(3..5)));
        assert!(!ranges.claim(&(4..6)), "overlaps");
        assert!(!ranges.claim(&(8..11)), "beyond the end");
        assert_eq!(ranges.take(3, now), Some(0..3));
        assert_eq!(ranges.take(5, now), Some(5..10));
        assert_eq!(ranges.take(1, now), None);
        assert_eq!(ranges.used(), 10);
    }

    #[test]
    fn an_empty_range_costs_nothing() {
        let now = Instant::now();
        let mut ranges = Ranges::new(0);
        let empty = ranges.take(0, now).unwrap();
        ranges.give(empty, now);
        assert_eq!(ranges.used(), 0);
    }
}
