//! What the agent's task and the dataplane's own threads share.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use shunt_abi::config::Config;
use shunt_abi::known::Role;
use tokio::sync::Notify;

use super::attachments::Attachments;
use super::known::Known;
use super::maps::Maps;
use super::masquerade::{Masquerade, Signals};
use super::model::Model;
use super::node_config::HAIRPINS;
use super::words;
use super::worker::{Tally, unpoisoned};
use super::write::Destination;
use crate::domain::IpFamily;
use crate::kernel::monitor::current_addresses;

/// The maps, what they hold, and what is attached.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) maps: Maps,
    attachments: Mutex<Attachments>,
    masquerade: Mutex<Masquerade>,
    state: Mutex<State>,
    /// Held while the configuration is read and written back.
    config: Mutex<()>,
    /// Pods that opted out and have no cgroup.
    not_found: Mutex<Vec<Arc<str>>>,
    /// Programs are attached to sockets.
    sockets: AtomicBool,
    /// Signalled when what this dataplane owns was changed by others.
    drifted: OnceLock<Arc<Notify>>,
    pub(super) tally: Tally,
}

/// What the maps hold.
#[derive(Debug, Default)]
pub(super) struct State {
    /// `None` while nobody knows.
    pub(super) model: Option<Model>,
    /// The bitmaps of what may be a frontend or a backend.
    pub(super) known: Known,
    /// The maps were just made, and nothing was written to them.
    pub(super) pristine: bool,
}

impl Shared {
    /// `pristine`: the maps were just made.
    pub(super) fn new(maps: Maps, attachments: Attachments, masquerade: Masquerade, pristine: bool) -> Self {
        Self {
            maps,
            attachments: Mutex::new(attachments),
            masquerade: Mutex::new(masquerade),
            sockets: AtomicBool::new(false),
            drifted: OnceLock::new(),
            state: Mutex::new(State { pristine, ..State::default() }),
            config: Mutex::new(()),
            not_found: Mutex::default(),
            tally: Tally::default(),
        }
    }

    pub(super) fn attachments(&self) -> MutexGuard<'_, Attachments> {
        unpoisoned(self.attachments.lock())
    }

    pub(super) fn masquerade(&self) -> MutexGuard<'_, Masquerade> {
        unpoisoned(self.masquerade.lock())
    }

    /// What the masquerade rule and the programs tell each other by.
    pub(super) const fn signals(&self) -> Signals<'_> {
        Signals { config: &self.maps.config, held: &self.config, counters: &self.maps.counters }
    }

    /// Notes whether programs are attached to sockets, and so should stay there.
    pub(super) fn set_sockets(&self, attached: bool) {
        self.sockets.store(attached, Ordering::Relaxed);
    }

    /// Has `drifted` signalled from now on; only the first is.
    pub(super) fn tell_of_drift(&self, drifted: Arc<Notify>) {
        self.drifted.get_or_init(|| drifted);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        unpoisoned(self.state.lock())
    }

    /// Changes the configuration; what it is then.
    pub(super) fn configure<E: From<super::map::MapError>>(
        &self,
        change: impl FnOnce(&Config) -> Result<Config, E>,
    ) -> Result<Config, E> {
        let _held = unpoisoned(self.config.lock());
        let old = self.maps.config.get(&0)?.unwrap_or_default();
        let new = change(&old)?;
        if new != old {
            self.maps.config.set(&0, &new)?;
        }
        Ok(new)
    }

    /// Has programs leave sockets of these cgroups alone, and no others. `levels` are those of the hierarchy that they
    /// are on, as bits.
    pub(super) fn leave_alone(&self, ids: &BTreeSet<u64>, levels: u32) -> Result<(), super::map::MapError> {
        let map = &self.maps.opted_out;
        let present: BTreeSet<u64> = map.entries()?.into_iter().map(|(id, _)| id).collect();
        ids.difference(&present).try_for_each(|id| map.set(id, &1))?;
        self.configure(|old| Ok::<_, super::map::MapError>(Config { opted_out_levels: levels, ..*old }))?;
        present.difference(ids).try_for_each(|id| map.delete(id).map(drop))
    }

    /// Notes which pods that opted out have no cgroup.
    pub(super) fn set_not_found(&self, names: Vec<Arc<str>>) {
        *unpoisoned(self.not_found.lock()) = names;
    }

    /// Pods that opted out and have no cgroup.
    pub(super) fn not_found(&self) -> Vec<Arc<str>> {
        unpoisoned(self.not_found.lock()).clone()
    }

    /// Notes the addresses of this node in the bitmap, and those that stand for a pod itself: replies go to both.
    pub(super) fn know_addresses(
        &self,
        addresses: &BTreeSet<IpAddr>,
        known: &mut Known,
    ) -> Result<(), super::map::MapError> {
        let addresses = addresses.iter().copied().chain(HAIRPINS);
        let node = addresses.map(|address| (Role::Node, Destination::whole(address)));
        known.add(&self.maps, &node.collect::<Vec<_>>())
    }

    /// Links, filters and the masquerade rule that are not there any more.
    pub(super) fn missing(&self) -> std::io::Result<usize> {
        let masquerade = self.masquerade();
        let mut missing = 0;
        for family in IpFamily::ALL {
            missing += usize::from(masquerade.differs(family)?);
        }
        drop(masquerade);
        Ok(missing + self.attachments().missing(self.sockets.load(Ordering::Relaxed)))
    }

    /// Tells the agent if something was taken away.
    pub(super) fn check(&self) {
        let mut attachments = self.attachments();
        if attachments.is_accelerated()
            && let Err(error) = attachments.sync(&self.maps.interfaces)
        {
            tracing::warn!("looking for what others have attached: {}", words(&error));
        }
        drop(attachments);
        match self.missing() {
            Ok(0) => {}
            Ok(_) => {
                if let Some(drifted) = self.drifted.get() {
                    drifted.notify_one();
                }
            }
            Err(error) => tracing::warn!("looking for what others have removed: {error}"),
        }
    }

    /// Begins to masquerade if there are clients who need it.
    pub(super) fn look_for_masquerading(&self) {
        if let Err(error) = self.masquerade().look(self.signals()) {
            tracing::warn!("beginning to masquerade: {}", words(&error));
        }
    }

    /// Ends masquerading that began with a client, if there are no such connections any more.
    pub(super) fn end_masquerading(&self, family: IpFamily, connections: u64) {
        let ended = self.masquerade().idle(family, connections, Instant::now(), self.signals());
        if let Err(error) = ended {
            tracing::warn!("ending to masquerade: {}", words(&error));
        }
    }

    /// Takes in what became of interfaces and addresses.
    pub(super) fn look(&self) {
        if let Err(error) = self.attachments().sync(&self.maps.interfaces) {
            tracing::warn!("attaching to interfaces: {}", words(&error));
        }
        if let Err(error) = self.look_at_addresses() {
            tracing::warn!("taking in the node's addresses: {error}");
        }
    }

    fn look_at_addresses(&self) -> Result<(), String> {
        let addresses = current_addresses().map_err(|error| error.to_string())?;
        let mut state = self.state();
        let State { model, known, .. } = &mut *state;
        let Some(current) = model.as_mut().filter(|model| model.around.host_addresses != addresses) else {
            return Ok(());
        };
        self.know_addresses(&addresses, known).map_err(|error| words(&error))?;
        let writes = current.set_host_addresses(addresses, Instant::now());
        let outcome = self.maps.write(&writes, known).map_err(|error| words(&error));
        if outcome.is_err() {
            // The next audit or change finds nothing known, and restores.
            *model = None;
        }
        outcome
    }
}
