//! The two maps of a family's flows, for flows that another agent knew.

use shunt_abi::known::Role;
use shunt_abi::reached::{self, ReachedValue};

use super::flows::Key;
use super::known::{bits, place};
use super::map::{MapError, TypedMap};
use super::maps::destination;
use super::translation::Half;

/// Which of the two maps a flow is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Opening,
    Established,
}

/// Our flow maps of one family.
#[derive(Debug)]
pub(super) struct FlowMaps<'a, K: Key> {
    pub(super) established: &'a TypedMap<K, K::Value>,
    pub(super) opening: &'a TypedMap<K, K::Value>,
    pub(super) reached: &'a TypedMap<u32, ReachedValue>,
    pub(super) reached_hosts: &'a TypedMap<u32, u64>,
    pub(super) roles: &'a TypedMap<u32, u64>,
}

impl<K: Half> FlowMaps<'_, K> {
    /// Takes in one half of a flow (nobody else may write the roles of addresses meanwhile), unless what is known of it is newer; whether it was taken in.
    pub(super) fn take(&self, stage: Stage, key: &K, value: &K::Value) -> Result<bool, MapError> {
        let (_, seen) = K::state(value);
        let known = match (self.established.get(key)?, stage) {
            (Some(_), Stage::Opening) => return Ok(false),
            (None, Stage::Opening) => self.opening.get(key)?,
            (known, Stage::Established) => known,
        };
        let is_newer = |own: &K::Value| (1..u32::MAX / 2).contains(&K::state(own).1.wrapping_sub(seen));
        if known.is_some_and(|own| is_newer(&own)) {
            return Ok(false);
        }
        // Or nobody would look for it.
        let (_, backend) = key.ends(value);
        let backend = destination(backend.ip(), backend.port().to_be(), key.protocol());
        self.reached.set(&reached::element(bits(Role::Backend, backend)), &ReachedValue::ANYBODY)?;
        let host = place(backend.address);
        self.reached_hosts.set(&host.word, &reached::ALL_HOSTS)?;
        // The plan may have no such backend any more.
        let roles = self.roles.get(&host.word)?.unwrap_or_default();
        self.roles.set(&host.word, &(roles | host.mask(Role::Backend)))?;
        match stage {
            Stage::Opening => self.opening.set(key, value)?,
            Stage::Established => {
                self.established.set(key, value)?;
                self.opening.delete(key)?;
            }
        }
        Ok(true)
    }
}
