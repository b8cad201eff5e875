//! Two processors, for conversations whose ends are apart.

use std::fs;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread.
const OWN: Pid = Pid::from_raw(0);

/// One processor for each end of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Processors {
    pub(super) client: Processor,
    pub(super) server: Processor,
}

/// A processor by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Processor(usize);

impl Processors {
    /// Two of those that this process may run on; `None` if there is but one.
    pub(super) fn choose() -> Result<Option<Self>> {
        let allowed = sched_getaffinity(OWN).context("asking which processors there are")?;
        let numbers = (0..CpuSet::count()).filter(|number| allowed.is_set(*number).unwrap_or(false));
        Ok(pick(&numbers.map(|number| (number, core(number))).collect::<Vec<_>>()))
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
    let ((client, core), others) = usable.split_first()?;
    let (server, _) = others.iter().find(|(_, other)| other != core).or(others.first())?;
    Some(Processors { client: Processor(*client), server: Processor(*server) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(usable: &[(usize, &str)]) -> Option<(usize, usize)> {
        let usable: Vec<_> = usable.iter().map(|(number, core)| (*number, (*core).to_owned())).collect();
        pick(&usable).map(|both| (both.client.0, both.server.0))
    }

    #[test]
    fn the_ends_are_on_different_cores_where_there_are_some() {
        assert_eq!(picked(&[(0, "0"), (1, "1")]), Some((0, 1)));
        assert_eq!(picked(&[(2, "2-3"), (3, "2-3"), (4, "4-5")]), Some((2, 4)));
        assert_eq!(picked(&[(0, "0-1"), (1, "0-1")]), Some((0, 1)));
        assert_eq!(picked(&[(0, ""), (1, "")]), Some((0, 1)));
    }

    #[test]
    fn one_processor_is_not_enough() {
        assert_eq!(picked(&[(3, "3")]), None);
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
