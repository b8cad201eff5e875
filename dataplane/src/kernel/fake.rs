//! A dataplane without a kernel: for tests of whoever drives one.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Applied, Dataplane, DataplaneError};
use crate::kernel::{Inspected, Inspection};
use crate::plan::{Changes, Frontend, FrontendSpec, Globals, Table};

/// Keeps a table in memory, and fails as often as it is told to. Clones share the table, so that a test can look at what
/// the owner of another clone has programmed.
///
/// It knows two rules of the real one: nothing of a failed call takes effect, and after a failure `apply` is refused
/// until a `restore` succeeds.
#[derive(Clone, Debug, Default)]
pub struct FakeDataplane {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    table: Table,
    known: bool,
    refused: Option<Frontend>,
    left_out: Option<Vec<(Frontend, String)>>,
    translates_itself: bool,
    faults: Faults,
    calls: Calls,
}

/// How often each call was made, failed ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls of `restore`.
    pub restore: u64,
    /// Calls of `apply`.
    pub apply: u64,
    /// Calls of `audit`.
    pub audit: u64,
    /// Calls of `cleanup`.
    pub cleanup: u64,
}

/// A share of the writing calls that fails, the same ones for the same seed.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    percent: u64,
    random: u64,
}

impl FakeDataplane {
    /// One that never fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that fails `percent` of all `restore` and `apply` calls, chosen by `seed`.
    pub fn failing(percent: u8, seed: u64) -> Self {
        let fake = Self::default();
        fake.locked(|state| state.faults = Faults { percent: percent.into(), random: seed });
        fake
    }

    /// Refuses this frontend from now on, as a kernel would that cannot do what it asks for; `None`: refuse nothing.
    pub fn refuse(&self, frontend: Option<Frontend>) {
        self.locked(|state| state.refused = frontend);
    }

    /// Says that there is no room for these, when it is asked next.
    pub fn leave_out(&self, frontends: impl IntoIterator<Item = Frontend>) {
        let words = "map FAKE is full".to_owned();
        let found = frontends.into_iter().map(|frontend| (frontend, words.clone())).collect();
        self.locked(|state| state.left_out = Some(found));
    }

    /// Does without connection tracking from now on.
    pub fn translate_itself(&self) {
        self.locked(|state| state.translates_itself = true);
    }

    /// What is programmed.
    pub fn table(&self) -> Table {
        self.locked(|state| state.table.clone())
    }

    /// How often it was called.
    pub fn calls(&self) -> Calls {
        self.locked(|state| state.calls)
    }

    /// Somebody else removes everything, as `nft flush ruleset` does.
    pub fn flush(&self) {
        self.locked(|state| state.table = Table::default());
    }

    fn locked<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        action(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Faults {
    fn strikes(&mut self) -> bool {
        // SplitMix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % 100 < self.percent
    }
}

impl State {
    fn fault(&mut self, operation: &str) -> Result<(), DataplaneError> {
        if self.faults.strikes() {
            self.known = false;
            return Err(failure(operation, "injected"));
        }
        Ok(())
    }

    fn check<'a>(&mut self, mut frontends: impl Iterator<Item = &'a Frontend>) -> Result<(), DataplaneError> {
        let Some(refused) = self.refused else { return Ok(()) };
        if !frontends.any(|frontend| *frontend == refused) {
            return Ok(());
        }
        self.known = false;
        Err(DataplaneError::FrontendRefused {
            frontend: refused,
            operation: "add elements".to_owned(),
            source: io::Error::other("injected"),
        })
    }

    fn restore(&mut self, table: &Table) -> Result<Applied, DataplaneError> {
        self.calls.restore += 1;
        self.fault("restore")?;
        self.check(table.frontends.keys())?;
        let applied = difference(&self.table.frontends, &table.frontends);
        self.table = table.clone();
        self.known = true;
        Ok(applied)
    }

    fn apply(&mut self, changes: &Changes) -> Result<Applied, DataplaneError> {
        self.calls.apply += 1;
        if !self.known {
            return Err(failure("apply", "the table was not restored"));
        }
        self.fault("apply")?;
        self.check(
            changes.frontends.iter().filter(|change| change.new.is_some()).map(|change| &change.frontend),
        )?;
        let mut applied = Applied::default();
        for change in &changes.frontends {
            applied.removed += u64::from(change.old.is_some());
            applied.written += u64::from(change.new.is_some());
            match &change.new {
                Some(spec) => self.table.frontends.insert(change.frontend, Arc::clone(spec)),
                None => self.table.frontends.remove(&change.frontend),
            };
        }
        if let Some(globals) = &changes.globals {
            self.table.globals = globals.clone();
        }
        Ok(applied)
    }
}

fn failure(operation: &str, reason: &'static str) -> DataplaneError {
    DataplaneError::Transaction { operation: operation.to_owned(), source: io::Error::other(reason) }
}

type Frontends = BTreeMap<Frontend, Arc<FrontendSpec>>;

fn difference(old: &Frontends, new: &Frontends) -> Applied {
    let only_in =
        |a: &Frontends, b: &Frontends| a.iter().filter(|(key, spec)| b.get(*key) != Some(spec)).count();
    Applied { written: only_in(new, old) as u64, removed: only_in(old, new) as u64 }
}

impl Dataplane for FakeDataplane {
    fn inspect(&mut self, inspection: &Inspection) -> Result<Inspected, DataplaneError> {
        let question = &inspection.question;
        let held = self.locked(|state| {
            let names = state.table.frontends.keys().map(ToString::to_string);
            names.filter(|name| name.starts_with(&question.to.to_string())).collect::<Vec<_>>()
        });
        let mut inspected = Inspected::default();
        inspected.note("table", if held.is_empty() { "nothing".to_owned() } else { held.join(", ") });
        if inspection.probe {
            inspected.note("probe", "not possible: no packets pass here");
        }
        Ok(inspected)
    }

    fn restore(&mut self, table: &Table) -> Result<Applied, DataplaneError> {
        self.locked(|state| state.restore(table))
    }

    fn apply(&mut self, changes: &Changes) -> Result<Applied, DataplaneError> {
        self.locked(|state| state.apply(changes))
    }

    fn audit(&mut self, table: &Table) -> Result<usize, DataplaneError> {
        self.locked(|state| {
            state.calls.audit += 1;
            let Applied { written, removed } = difference(&state.table.frontends, &table.frontends);
            let globals = usize::from(state.table.globals != table.globals);
            Ok(usize::try_from(written.max(removed)).unwrap_or(usize::MAX) + globals)
        })
    }

    fn cleanup(&mut self) -> Result<(), DataplaneError> {
        self.locked(|state| {
            state.calls.cleanup += 1;
            state.table = Table { frontends: BTreeMap::new(), globals: Globals::default() };
            state.known = false;
        });
        Ok(())
    }

    fn left_out(&mut self) -> Option<Vec<(Frontend, String)>> {
        self.locked(|state| state.left_out.take())
    }

    fn needs_clean_conntrack(&self) -> bool {
        self.locked(|state| !state.translates_itself)
    }

    fn programmed(&self) -> Vec<(&'static str, u64)> {
        self.locked(|state| vec![("frontends", state.table.frontends.len() as u64)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{IpFamily, Protocol};
    use crate::plan::FrontendAddress;

    fn frontend(port: u16) -> Frontend {
        Frontend { address: FrontendAddress::NodePort(IpFamily::V4), port, protocol: Protocol::Tcp }
    }

    #[test]
    fn apply_is_refused_before_a_restore_and_after_a_failure() {
        let mut fake = FakeDataplane::failing(50, 1);
        assert!(fake.apply(&Changes::default()).is_err());
        for _ in 0..100 {
            if fake.restore(&Table::default()).is_err() {
                assert!(fake.apply(&Changes::default()).is_err());
            }
        }
    }

    #[test]
    fn about_as_many_calls_fail_as_asked_for() {
        let mut fake = FakeDataplane::failing(10, 7);
        let failed = (0..1000).filter(|_| fake.restore(&Table::default()).is_err()).count();
        assert!((50..150).contains(&failed), "{failed}");
        assert_eq!(fake.calls().restore, 1000);
    }

    #[test]
    fn a_refused_frontend_is_named() {
        let mut fake = FakeDataplane::new();
        fake.restore(&Table::default()).unwrap();
        fake.refuse(Some(frontend(1)));
        let change = |new| Changes {
            frontends: vec![crate::plan::Change { frontend: frontend(1), old: None, new }],
            globals: None,
        };
        assert!(fake.apply(&change(None)).is_ok());
        let globals = Globals::default();
        assert_eq!(fake.table().globals, globals);
    }
}
