//! The dataplane: both tables behind the trait that `reconcile` knows.

use std::io;

use super::inspect;
use super::operation::{Operation, Transaction};
use super::probe;
use super::read::Reader;
use super::settings::Settings;
use super::table::FamilyTable;
use crate::domain::IpFamily;
use crate::kernel::netlink::Socket;
use crate::kernel::{Applied, Dataplane, DataplaneError, Inspected, Inspection};
use crate::plan::{Changes, Frontend, Table};

/// Services as nftables rules, in one table a family.
#[derive(Debug)]
pub struct Nftables {
    socket: Socket,
    tables: Vec<FamilyTable>,
    warnings: Vec<String>,
}

impl Nftables {
    /// Opens the way to the kernel (of the calling thread's network namespace) and checks that it can do all that is
    /// needed, without changing anything.
    pub fn new(settings: &Settings) -> Result<Self, DataplaneError> {
        let mut socket = Socket::netfilter().map_err(|source| DataplaneError::Unsupported {
            feature: "netfilter netlink sockets".into(),
            source,
        })?;
        let families = settings.families.iter().map(|(family, detector)| settings.family(*family, detector));
        let families: Vec<_> = families.collect();
        for family in &families {
            probe::requirements(&mut socket, family)?;
        }
        let warnings = probe::mark_users(&mut socket, settings.masquerade_mark).unwrap_or_default();
        Ok(Self { socket, tables: families.into_iter().map(FamilyTable::new).collect(), warnings })
    }

    /// What the operator should know: rules of others that use the masquerade mark.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The netlink port through which this dataplane writes, for [`super::Monitor`].
    pub fn port(&self) -> io::Result<u32> {
        self.socket.port()
    }

    fn on_all(
        &mut self,
        mut each: impl FnMut(&mut FamilyTable, &mut Socket) -> Result<Applied, DataplaneError>,
    ) -> Result<Applied, DataplaneError> {
        let mut total = Applied::default();
        for table in &mut self.tables {
            let applied = each(table, &mut self.socket)?;
            total.written += applied.written;
            total.removed += applied.removed;
        }
        Ok(total)
    }
}

impl Dataplane for Nftables {
    fn restore(&mut self, table: &Table) -> Result<Applied, DataplaneError> {
        self.on_all(|family, socket| family.restore(socket, table))
    }

    fn apply(&mut self, changes: &Changes) -> Result<Applied, DataplaneError> {
        self.on_all(|family, socket| family.apply(socket, changes))
    }

    fn audit(&mut self, table: &Table) -> Result<usize, DataplaneError> {
        self.tables
            .iter_mut()
            .try_fold(0, |differing, family| Ok(differing + family.audit(&mut self.socket, table)?))
    }

    fn cleanup(&mut self) -> Result<(), DataplaneError> {
        IpFamily::ALL.into_iter().try_for_each(|family| remove_table(&mut self.socket, family))?;
        self.tables.iter_mut().for_each(FamilyTable::forget);
        Ok(())
    }

    fn withdrawn(&mut self) -> Vec<Frontend> {
        self.tables.iter_mut().flat_map(FamilyTable::take_withdrawn).collect()
    }

    fn inspect(&mut self, inspection: &Inspection) -> Result<Inspected, DataplaneError> {
        let mut inspected = Inspected::default();
        let family = IpFamily::of(inspection.question.to.ip());
        let mut reader = Reader { socket: &mut self.socket, family };
        inspect::table(&mut reader, &inspection.question, &mut inspected).map_err(|source| {
            DataplaneError::Transaction { operation: format!("read elements ({family})"), source }
        })?;
        if inspection.probe {
            inspected.note("probe", "not possible: nftables rules cannot be run on a packet of one's own");
        }
        Ok(inspected)
    }

    fn programmed(&self) -> Vec<(&'static str, u64)> {
        let sum = self
            .tables
            .iter()
            .map(FamilyTable::programmed)
            .fold([0; 3], |[a, b, c], [x, y, z]| [a + x, b + y, c + z]);
        ["chains", "rules", "elements"].into_iter().zip(sum).collect()
    }
}

/// Removes both tables, whoever made them; for `shunt cleanup`. Nothing there is not an error.
pub fn cleanup() -> Result<(), DataplaneError> {
    let mut socket = Socket::netfilter().map_err(|source| DataplaneError::Unsupported {
        feature: "netfilter netlink sockets".into(),
        source,
    })?;
    IpFamily::ALL.into_iter().try_for_each(|family| remove_table(&mut socket, family))
}

/// Adding the table first makes it exist, so that deleting it cannot fail for want of it.
fn remove_table(socket: &mut Socket, family: IpFamily) -> Result<(), DataplaneError> {
    let operations = [Operation::AddTable, Operation::DeleteTable];
    let mut transaction = Transaction::new(family, &operations);
    match transaction.batch.commit(socket) {
        Ok(()) => Ok(()),
        Err(error) => Err(transaction.explain(family, error)),
    }
}
