//! One of our tables: what is known about it, and the way to change it.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::compare::{self, Desired};
use super::model::{Difference, Model, parts};
use super::operation::{Operation, Transaction, Work};
use super::read::{Actual, Reader};
use super::set::StaticSet;
use super::settings::FamilySettings;
use super::unit::{Parts, Unit};
use super::withdrawn::withdrawn;
use crate::kernel::netlink::Socket;
use crate::kernel::{Applied, DataplaneError};
use crate::plan::{Changes, Frontend, Table};

/// A change that is refused says that the table is not what it was thought to be. Only when it has been read, and the
/// refusal stays, is the frontend to blame.
fn to_be_restored(error: DataplaneError) -> DataplaneError {
    match error {
        DataplaneError::FrontendRefused { frontend, operation, source } => {
            DataplaneError::Transaction { operation: format!("{operation}, for {frontend}"), source }
        }
        other => other,
    }
}

/// How many differences an audit logs.
const LOGGED: usize = 20;

/// The table of one family.
#[derive(Debug)]
pub(super) struct FamilyTable {
    settings: FamilySettings,
    /// What is programmed; `None` until it is known, and again after a failure.
    model: Option<Model>,
    /// Deletions that the kernel was not ready for.
    leftovers: Vec<Operation>,
    rules: usize,
    /// Frontends that a restore removed and nobody asked for yet.
    withdrawn: BTreeSet<Frontend>,
}

impl FamilyTable {
    pub(super) const fn new(settings: FamilySettings) -> Self {
        Self { settings, model: None, leftovers: Vec::new(), rules: 0, withdrawn: BTreeSet::new() }
    }

    /// The table is gone.
    pub(super) fn forget(&mut self) {
        self.model = None;
        self.leftovers.clear();
    }

    /// Frontends that were programmed and that restores have removed; each is told once.
    pub(super) fn take_withdrawn(&mut self) -> BTreeSet<Frontend> {
        std::mem::take(&mut self.withdrawn)
    }

    /// Chains, rules and elements.
    pub(super) fn programmed(&self) -> [u64; 3] {
        let Some(model) = &self.model else { return [0; 3] };
        let chains = super::layout::chains(&self.settings).len() + model.units();
        [chains as u64, self.rules as u64, model.elements()]
    }

    pub(super) fn restore(&mut self, socket: &mut Socket, table: &Table) -> Result<Applied, DataplaneError> {
        self.model = None;
        self.leftovers.clear();
        let (model, desired) = self.desired(table);
        let rules = desired.rules();
        let actual = self.actual(socket, &desired)?;
        let gone = actual.as_ref().map(|actual| withdrawn(actual, self.settings.family, table));
        self.withdrawn.extend(gone.unwrap_or_default());
        let work = work(desired, actual);
        let applied = self.commit(socket, &work)?;
        self.model = Some(model);
        self.rules = rules;
        Ok(applied)
    }

    /// Objects that differ from what they should be.
    pub(super) fn audit(&mut self, socket: &mut Socket, table: &Table) -> Result<usize, DataplaneError> {
        let (_, desired) = self.desired(table);
        let actual = self.actual(socket, &desired)?;
        let work = work(desired, actual);
        for operation in work.required.iter().chain(&work.cleanup).take(LOGGED) {
            tracing::info!(family = %self.settings.family, repair = operation.describe(), "nftables differ");
        }
        let (added, removed) = work.sizes();
        // An object with another value is removed and added again.
        Ok(usize::try_from(added.max(removed)).unwrap_or(usize::MAX))
    }

    fn desired(&self, table: &Table) -> (Model, Desired) {
        let mut model = Model::new(self.settings.family);
        let frontends = table.frontends.iter().map(|(frontend, spec)| (frontend, None, Some(&**spec)));
        let filling = model.change(frontends, Some(&table.globals));
        (model, Desired::new(&self.settings, filling))
    }

    fn actual(&self, socket: &mut Socket, desired: &Desired) -> Result<Option<Actual>, DataplaneError> {
        self.read(socket, desired).map_err(|source| self.failure("read the table", source))
    }

    fn read(&self, socket: &mut Socket, desired: &Desired) -> io::Result<Option<Actual>> {
        let mut reader = Reader { socket, family: self.settings.family };
        let Some(mut actual) = reader.structure()? else { return Ok(None) };
        for name in desired.filled_sets().filter(|name| actual.sets.contains_key(*name)) {
            actual.elements.insert(Arc::clone(name), reader.elements(name)?);
        }
        Ok(Some(actual))
    }

    pub(super) fn apply(
        &mut self,
        socket: &mut Socket,
        changes: &Changes,
    ) -> Result<Applied, DataplaneError> {
        // Put back only after success: a failure leaves it unknown what is programmed.
        let Some(mut model) = self.model.take() else {
            return Err(self.failure("apply changes", io::Error::other("the table was not restored")));
        };
        let difference = model.change(changes.frontends.iter().map(parts), changes.globals.as_ref());
        self.sweep(socket);
        let applied = if difference.is_empty() {
            Applied::default()
        } else {
            let work = self.steps(difference);
            self.commit(socket, &work).map_err(to_be_restored)?
        };
        self.model = Some(model);
        Ok(applied)
    }

    /// Operations for a difference, in the order in which they are possible.
    pub(super) fn steps(&mut self, difference: Difference) -> Work {
        let name = |set: StaticSet| Arc::<str>::from(set.name().as_ref());
        let mut work = Work::default();
        let gone = difference.remove.into_iter();
        work.required.extend(gone.map(|(set, elements)| Operation::DeleteElements(name(set), elements)));
        for unit in difference.create {
            self.create(&unit, &mut work.required);
        }
        let new = difference.add.into_iter();
        work.required.extend(new.map(|(set, elements)| Operation::AddElements(name(set), elements)));
        for unit in difference.delete {
            self.delete(&unit, &mut work.cleanup);
        }
        work
    }

    fn create(&mut self, unit: &Unit, operations: &mut Vec<Operation>) {
        let Parts { chain, set } = unit.parts(&self.settings);
        self.rules += chain.rules.len();
        operations.extend(self.revive(&Operation::DeleteChain(Arc::clone(&chain.name))));
        let mut filling = None;
        if let Some((definition, elements)) = set {
            let name = Arc::clone(&definition.name);
            operations.extend(self.revive(&Operation::DeleteSet(Arc::clone(&name))));
            operations.push(Operation::AddSet(definition));
            filling = Some(Operation::AddElements(name, elements));
        }
        operations.extend(Operation::add_chain(chain));
        operations.extend(filling);
    }

    /// If the deletion of this object is still to come: calls it off, and empties the object instead.
    fn revive(&mut self, deletion: &Operation) -> Option<Operation> {
        let index = self.leftovers.iter().position(|leftover| leftover == deletion)?;
        match self.leftovers.remove(index) {
            Operation::DeleteChain(name) => Some(Operation::ClearChain(name)),
            Operation::DeleteSet(name) => Some(Operation::ClearSet(name)),
            _ => None,
        }
    }

    fn delete(&mut self, unit: &Unit, operations: &mut Vec<Operation>) {
        self.rules -= unit.parts(&self.settings).chain.rules.len().min(self.rules);
        operations.push(Operation::DeleteChain(unit.name().into()));
        if let Some(set) = unit.set_name() {
            let set: Arc<str> = set.into();
            operations.push(Operation::ClearSet(Arc::clone(&set)));
            operations.push(Operation::DeleteSet(set));
        }
    }

    /// Tries again to delete what was still in use. If it still is, that is no reason to hold up changes.
    fn sweep(&mut self, socket: &mut Socket) {
        if self.leftovers.is_empty() {
            return;
        }
        let result = Transaction::new(self.settings.family, &self.leftovers).batch.commit(socket);
        match result {
            Ok(()) => self.leftovers.clear(),
            Err(error) => tracing::debug!(%error, "unused chains cannot be deleted yet"),
        }
    }

    fn commit(&mut self, socket: &mut Socket, work: &Work) -> Result<Applied, DataplaneError> {
        if work.is_empty() {
            return Ok(Applied::default());
        }
        let family = self.settings.family;
        let mut transaction = Transaction::new(family, work.required.iter().chain(&work.cleanup));
        if let Err(error) = transaction.batch.commit(socket) {
            let busy = error.source.kind() == io::ErrorKind::ResourceBusy
                && transaction.refused(&error).is_some_and(|index| index >= work.required.len());
            if !busy {
                return Err(transaction.explain(family, error));
            }
            return self.commit_without_cleanup(socket, work);
        }
        let (written, removed) = work.sizes();
        Ok(Applied { written, removed })
    }

    fn commit_without_cleanup(
        &mut self,
        socket: &mut Socket,
        work: &Work,
    ) -> Result<Applied, DataplaneError> {
        let family = self.settings.family;
        let mut transaction = Transaction::new(family, &work.required);
        if let Err(error) = transaction.batch.commit(socket) {
            return Err(transaction.explain(family, error));
        }
        self.leftovers.extend(work.cleanup.iter().cloned());
        let (written, removed) = work.sizes();
        Ok(Applied { written, removed: removed - work.cleanup.len() as u64 })
    }

    fn failure(&self, operation: &str, source: io::Error) -> DataplaneError {
        DataplaneError::Transaction { operation: format!("{operation} ({})", self.settings.family), source }
    }
}

fn work(desired: Desired, actual: Option<Actual>) -> Work {
    match actual {
        Some(actual) => compare::operations(desired, actual),
        None => Work { required: desired.create(), cleanup: Vec::new() },
    }
}
