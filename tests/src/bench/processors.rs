//! The processors on which conversations of two threads take place.

use std::fs;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread.
const OWN: Pid = Pid::from_raw(0);

/// One or two of those that this process may run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Processors {
    pub(super) first: Processor,
    /// `None` if there is but one.
    pub(super) second: Option<Processor>,
}

/// A processor by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Processor(usize);

impl Processors {
    pub(super) fn choose() -> Result<Self> {
        let allowed = sched_getaffinity(OWN).context("asking which processors there are")?;
        let numbers = (0..CpuSet::count()).filter(|number| allowed.is_set(*number).unwrap_or(false));
        pick(&numbers.map(|number| (number, core(number))).collect::<Vec<_>>())
            .context("there is no processor to run on")
    }
}

impl Processor {
    /// Keeps the calling thread there.
    pub(super) fn enter(self) -> Result<()> {
        let named = || format!("keeping a thread on processor {}", self.0);
        let mut only = CpuSet::new();
        only.set(self.0).with_context(named)?;
        sched_setaffinity(OWN, &only).with_context(named)
    }
}

/// Which processors share a core with this one, as text; empty if that cannot be told.
fn core(number: usize) -> String {
    let path = format!("/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list");
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The first, and the next one of another core: two ends on one core would slow each other down. Where there is no other
/// core, the second.
fn pick(usable: &[(usize, String)]) -> Option<Processors> {
    let ((first, core), others) = usable.split_first()?;
    let second = others.iter().find(|(_, other)| other != core).or(others.first());
    Some(Processors { first: Processor(*first), second: second.map(|(second, _)| Processor(*second)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(usable: &[(usize, &str)]) -> Option<(usize, Option<usize>)> {
        let usable: Vec<_> = usable.iter().map(|(number, core)| (*number, (*core).to_owned())).collect();
        pick(&usable).map(|both| (both.first.0, both.second.map(|second| second.0)))
    }

    #[test]
    fn the_ends_are_on_different_cores_where_there_are_some() {
        assert_eq!(picked(&[(0, "0"), (1, "1")]), Some((0, Some(1))));
        assert_eq!(picked(&[(2, "2-3"), (3, "2-3"), (4, "4-5")]), Some((2, Some(4))));
        assert_eq!(picked(&[(0, "0-1"), (1, "0-1")]), Some((0, Some(1))));
        assert_eq!(picked(&[(0, ""), (1, "")]), Some((0, Some(1))));
    }

    #[test]
    fn a_machine_may_have_one_only() {
        assert_eq!(picked(&[(3, "3")]), Some((3, None)));
        assert_eq!(picked(&[]), None);
    }

    #[test]
    fn a_thread_stays_where_it_was_put() {
        let allowed = sched_getaffinity(OWN).unwrap();
        let number = (0..CpuSet::count()).rfind(|number| allowed.is_set(*number).unwrap()).unwrap();
        let inside = std::thread::spawn(move || {
            Processor(number).enter().unwrap();
            sched_getaffinity(OWN).unwrap()
        });
        let mut only = CpuSet::new();
        only.set(number).unwrap();
        assert_eq!(inside.join().unwrap(), only);
        assert_eq!(sched_getaffinity(OWN).unwrap(), allowed, "other threads stay as they are");
    }
}
