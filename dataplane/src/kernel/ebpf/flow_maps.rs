//! A family's flows as one agent changes them beside the programs: flows that another agent knew, and single ones.
//!
//! The programs may change an element at the same moment, and what they note in it then is lost: of one that is put in
//! front of another, or forgotten, that may be that a packet was seen.

use shunt_abi::flow::{ALIAS, MORE, REMAPPED, SLOTS};
use shunt_abi::known::Role;
use shunt_abi::reached::{self, ReachedValue};

use super::chains::Deed;
use super::collector;
use super::established::Established;
use super::flows::{Key, State};
use super::known::{bits, place};
use super::map::{MapError, TypedMap};
use crate::domain::IpFamily;

/// The flows of one family.
#[derive(Debug)]
pub(super) struct FlowMaps<'a, K: Key> {
    pub(super) family: IpFamily,
    pub(super) flows: &'a TypedMap<K, K::Value>,
    pub(super) established: &'a Established,
    /// Established flows that there is room for.
    pub(super) limit: u32,
    pub(super) reached: &'a TypedMap<u32, ReachedValue>,
    pub(super) reached_hosts: &'a TypedMap<u32, u64>,
    pub(super) roles: &'a TypedMap<u32, u64>,
}

impl<K: Key> FlowMaps<'_, K> {
    /// Takes in an element of a flow (nobody else may write the roles of addresses meanwhile), into whatever slot, unless what is
    /// known of it is newer; whether it was taken in.
    pub(super) fn take(&self, key: &K, value: &K::Value) -> Result<bool, MapError> {
        let chain = self.chain(key)?;
        let mut free = chain.last().map_or(0, |(last, _)| last.slot() + 1);
        for (at, own) in chain.iter().rev() {
            if K::state(own).is_vacant() {
                free = at.slot();
            } else if is_same(at, own, value) {
                return self.renew(at, &K::state(own), value);
            }
        }
        // Others would have no room to begin.
        if self.established.read(self.family) >= i64::from(self.limit) {
            return Err(MapError::Full { name: self.flows.name(), capacity: self.limit });
        }
        self.add(&key.in_slot(free), value)
    }

    /// The element at `at` becomes the other agent's, if a packet was seen later there.
    fn renew(&self, at: &K, own: &State, value: &K::Value) -> Result<bool, MapError> {
        let new = State { chain: own.chain, place: own.place, ..K::state(value) };
        if (1..u32::MAX / 2).contains(&own.last_seen.wrapping_sub(new.last_seen)) {
            return Ok(false);
        }
        self.flows.set(at, &K::with_state(value, new))?;
        self.established.add(self.family, i64::from(new.is_established()) - i64::from(own.is_established()));
        Ok(true)
    }

    /// In a slot that is empty or vacant.
    fn add(&self, at: &K, value: &K::Value) -> Result<bool, MapError> {
        if at.slot() >= SLOTS {
            return Ok(false);
        }
        // Or nobody would look for it.
        let [_, backend] = at.ends(value);
        self.reached.set(&reached::element(bits(Role::Backend, backend)), &ReachedValue::ANYBODY)?;
        let host = place(backend.address);
        self.reached_hosts.set(&host.word, &reached::ALL_HOSTS)?;
        // The plan may have no such backend any more.
        let roles = self.roles.get(&host.word)?.unwrap_or_default();
        self.roles.set(&host.word, &(roles | host.mask(Role::Backend)))?;
        // In no place of our ring: the agent collects it if it stays half-open.
        let chain = self.flows.get(at)?.map_or(0, |vacant| K::state(&vacant).chain & MORE);
        let state = State { chain, place: 0, ..K::state(value) };
        self.flows.set(at, &K::with_state(value, state))?;
        self.established.add(self.family, i64::from(state.is_established()));
        if let Some(before) = at.slot().checked_sub(1).map(|slot| at.in_slot(slot))
            && let Some(value) = self.flows.get(&before)?
        {
            let state = K::state(&value);
            let leading = K::with_state(&value, State { chain: state.chain | MORE, ..state });
            self.flows.replace(&before, &leading)?;
        }
        Ok(true)
    }

    /// The element of a client's port, that of `key`, in whatever slot.
    pub(super) fn find(
        &self,
        key: &K,
        is_it: impl Fn(&K::Value) -> bool,
    ) -> Result<Option<(K, K::Value)>, MapError> {
        Ok(self.chain(key)?.into_iter().find(|(_, value)| is_it(value)))
    }

    /// Removes a flow, with both elements if it has two.
    pub(super) fn forget(&self, key: &K, value: &K::Value) -> Result<(), MapError> {
        let state = K::state(value);
        if collector::remove(self.flows, key, &state)? != Deed::Keep {
            self.established.add(self.family, -i64::from(state.is_established()));
        }
        let Some(there) = key.twin(&state).filter(|_| state.has_alias()) else { return Ok(()) };
        let leads_back = |twin: &K::Value| {
            let twin = K::state(twin);
            twin.is_alias() && !twin.is_vacant() && there.twin(&twin) == Some(key.in_slot(0))
        };
        let alias = self.find(&there, leads_back)?;
        alias.map_or(Ok(()), |(key, value)| collector::remove(self.flows, &key, &K::state(&value)).map(drop))
    }

    /// Has a flow translate no packet of the client any more, but those of the backend: what has an alias goes, what has
    /// none becomes one.
    pub(super) fn leave_replies(&self, key: &K, value: &K::Value) -> Result<(), MapError> {
        let state = K::state(value);
        if state.is_vacant() || state.is_alias() {
            return Ok(());
        }
        let was = i64::from(state.is_established());
        let is_done = if state.has_alias() {
            collector::remove(self.flows, key, &state)? != Deed::Keep
        } else {
            let replies = State {
                flags: state.flags | REMAPPED | ALIAS,
                client_port: key.client_port(),
                by_client: 0,
                by_backend: 0,
                ..state
            };
            self.flows.replace(key, &K::with_state(value, replies))?
        };
        if is_done {
            self.established.add(self.family, -was);
        }
        Ok(())
    }

    /// The elements of a client's port, in the order of their slots.
    fn chain(&self, key: &K) -> Result<Vec<(K, K::Value)>, MapError> {
        let mut found = Vec::new();
        for at in (0..SLOTS).map(|slot| key.in_slot(slot)) {
            let Some(value) = self.flows.get(&at)? else { break };
            let has_more = K::state(&value).has_more();
            found.push((at, value));
            if !has_more {
                break;
            }
        }
        Ok(found)
    }
}

/// Whether two elements of a client's port are the same one of the same flow.
fn is_same<K: Key>(key: &K, one: &K::Value, other: &K::Value) -> bool {
    let kind = |state: State| (state.is_alias(), state.client_port, state.client);
    key.ends(one) == key.ends(other) && kind(K::state(one)) == kind(K::state(other))
}

#[cfg(test)]
mod tests;
