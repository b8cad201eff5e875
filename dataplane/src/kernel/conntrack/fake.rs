//! A conntrack table of memory, for tests of everything above.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::index::FrontendIndex;
use super::{Conntrack, ConntrackError, Flow, UdpFrontend};
use crate::domain::IpFamily;
use crate::plan::{Globals, PerFamily};

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleaning {
    /// [`Conntrack::clean`] with these.
    Changed(Vec<UdpFrontend>),
    /// [`Conntrack::clean_all`] with these.
    All(Vec<UdpFrontend>),
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Cleaning>,
    flows: Vec<Flow>,
    failures: u32,
}

/// Holds flows, deletes the stale ones by the same rules as the real one, records the calls and fails when told to.
/// Clones share their state, so that a test keeps one while the code under test owns the other.
#[derive(Clone, Debug, Default)]
pub struct FakeConntrack {
    state: Arc<Mutex<State>>,
}

impl FakeConntrack {
    /// Makes the next `count` calls fail.
    pub fn fail_next(&self, count: u32) {
        self.state().failures = count;
    }

    /// The calls so far, failed ones included.
    pub fn calls(&self) -> Vec<Cleaning> {
        self.state().calls.clone()
    }

    /// The flows that are left.
    pub fn flows(&self) -> Vec<Flow> {
        self.state().flows.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, call: Cleaning, index: &FrontendIndex<'_>) -> Result<PerFamily<u64>, ConntrackError> {
        let mut state = self.state();
        state.calls.push(call);
        if state.failures > 0 {
            state.failures -= 1;
            let source = std::io::Error::from_raw_os_error(libc::ENOBUFS);
            return Err(ConntrackError::new("list conntrack entries", source));
        }
        let mut deleted = PerFamily::default();
        state.flows.retain(|flow| {
            let is_stale = index.is_stale(flow);
            *deleted.get_mut(IpFamily::of(flow.original.destination.ip())) += u64::from(is_stale);
            !is_stale
        });
        Ok(deleted)
    }
}

impl Conntrack for FakeConntrack {
    fn clean(
        &mut self,
        changed: &[UdpFrontend],
        node_port_addresses: &BTreeSet<IpAddr>,
    ) -> Result<PerFamily<u64>, ConntrackError> {
        self.run(Cleaning::Changed(changed.to_vec()), &FrontendIndex::new(changed, node_port_addresses))
    }

    fn clean_all(
        &mut self,
        all: &[UdpFrontend],
        globals: &Globals,
    ) -> Result<PerFamily<u64>, ConntrackError> {
        self.run(Cleaning::All(all.to_vec()), &FrontendIndex::of_all(all, globals))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fails_as_often_as_told_and_records_each_call() {
        let fake = FakeConntrack::default();
        let mut conntrack: Box<dyn Conntrack> = Box::new(fake.clone());
        fake.fail_next(1);
        assert!(conntrack.clean(&[], &BTreeSet::new()).is_err());
        assert_eq!(conntrack.clean_all(&[], &Globals::default()).unwrap(), PerFamily::default());
        assert_eq!(fake.calls(), [Cleaning::Changed(vec![]), Cleaning::All(vec![])]);
    }
}
