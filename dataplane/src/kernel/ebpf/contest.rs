//! Programs that the order names and that came to the wrong side of ours. Ours are placed anew for each of them once: two
//! that do not want to be where the other wants them would never come to rest.

use std::collections::BTreeMap;

use super::sys::Attached;

/// A hook, by its name, and the index of an interface.
pub(super) type Spot = (&'static str, u32);

/// The programs on the wrong side.
pub(super) type Misplaced = BTreeMap<Spot, Attached>;

/// For whom ours were placed anew.
#[derive(Debug, Default)]
pub(super) struct Contest {
    last: BTreeMap<Spot, Attached>,
}

impl Contest {
    /// Those of them that ours were not placed anew for.
    pub(super) fn news(&self, found: &Misplaced) -> usize {
        found.iter().filter(|(spot, other)| self.last.get(*spot) != Some(*other)).count()
    }

    /// Whether ours are to be placed anew; that is noted as done.
    pub(super) fn begin(&mut self, mut found: Misplaced) -> bool {
        let begins = self.news(&found) > 0;
        self.last.append(&mut found);
        begins
    }

    /// An interface is gone.
    pub(super) fn forget(&mut self, interface: u32) {
        self.last.retain(|(_, index), _| *index != interface);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOT: Spot = ("ingress", 7);

    #[test]
    fn ours_are_placed_anew_for_each_program_once() {
        let mut contest = Contest::default();
        let found = |program| Misplaced::from([(SPOT, Attached { program, link: 70 })]);
        assert!(!contest.begin(Misplaced::new()));
        assert_eq!((contest.news(&found(1)), contest.begin(found(1))), (1, true));
        assert_eq!((contest.news(&found(1)), contest.begin(found(1))), (0, false));
        assert_eq!((contest.news(&found(2)), contest.begin(found(2))), (1, true));
        contest.forget(8);
        assert_eq!(contest.news(&found(2)), 0);
        contest.forget(7);
        assert_eq!(contest.news(&found(2)), 1);
    }
}
