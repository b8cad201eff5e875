//! Everything that the maps hold, and the writes that a change takes. Pure: no kernel, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use shunt_abi::backend::BackendValue;
use shunt_abi::frontend::{FrontendValue, INSIDE_REJECT, WHOLE_ADDRESS};
use shunt_abi::name;

use super::ids::Ids;
use super::masquerade::Need;
use super::ranges::Ranges;
use super::room::Room;
use super::service::{Resources, Service, Surroundings, backend_value, own_destination};
use super::write::{Destination, SourceRange, Step, Writes};
use crate::domain::{IpFamily, ServicePortName};
use crate::plan::{Changes, Frontend, FrontendAddress, FrontendSpec, Globals, PerFamily};

/// Elements that the arrays hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacities {
    pub(super) backends: u32,
    pub(super) pool: u32,
    pub(super) services: u32,
    /// Each family.
    pub(super) frontends: u32,
    /// Each family.
    pub(super) source_ranges: u32,
}

impl Capacities {
    /// Elements of a map; of its users in one family.
    pub(super) fn of(&self, map: &str) -> u32 {
        match map {
            name::BACKENDS => self.backends,
            name::POOL => self.pool,
            name::SERVICES => self.services,
            name::RANGES4 | name::RANGES6 => self.source_ranges,
            _ => self.frontends,
        }
    }
}

/// Service ports for which there was no room that one change tries again, so that it costs no more than it should.
const RETRIES: usize = 16;

/// A Service port in one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ServiceKey {
    pub(super) owner: Arc<ServicePortName>,
    pub(super) family: IpFamily,
}

impl ServiceKey {
    pub(super) fn of(frontend: Frontend, spec: &FrontendSpec) -> Self {
        Self { owner: Arc::clone(&spec.owner), family: frontend.family() }
    }
}

/// What the maps hold.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) around: Surroundings,
    pub(super) services: BTreeMap<ServiceKey, Service>,
    /// The numbers of Service ports, with the number of families that have them.
    pub(super) numbers: BTreeMap<Arc<ServicePortName>, (u32, usize)>,
    pub(super) service_ids: Ids,
    pub(super) resources: Resources,
    /// How many Service ports have a frontend that is a cluster IP of that address.
    cluster_ips: BTreeMap<IpAddr, usize>,
    /// Service ports with frontends for which there is no room.
    starving: BTreeSet<ServiceKey>,
    /// Of those, the last that was tried again.
    retried: Option<ServiceKey>,
    /// What there is no room for is not what it was when somebody last asked.
    shortage_changed: bool,
    /// Who has a node port: an explicit frontend of the same address and port takes precedence.
    node_ports: BTreeMap<Frontend, ServiceKey>,
    /// Service ports that need the masquerade rule: on demand, always.
    masquerading: PerFamily<[usize; 2]>,
}

impl Model {
    /// Holds nothing. `generation` is the first for backends.
    pub(super) fn new(around: Surroundings, capacities: Capacities, generation: u32) -> Self {
        Self {
            around,
            services: BTreeMap::new(),
            numbers: BTreeMap::new(),
            service_ids: Ids::new(capacities.services, 1),
            resources: Resources {
                backends: Ids::new(capacities.backends, generation),
                pool: Ranges::new(capacities.pool),
                frontends: both(Room::new(capacities.frontends)),
                source_ranges: both(Room::new(capacities.source_ranges)),
            },
            cluster_ips: BTreeMap::new(),
            starving: BTreeSet::new(),
            retried: None,
            shortage_changed: true,
            node_ports: BTreeMap::new(),
            masquerading: PerFamily::default(),
        }
    }

    /// The writes for a change, as far as there is room.
    pub(super) fn apply(&mut self, changes: &Changes, now: Instant) -> Writes {
        let mut writes = Writes::default();
        let mut touched = BTreeSet::new();
        if let Some(globals) = &changes.globals {
            touched.extend(self.set_node_port_addresses(globals));
        }
        for change in &changes.frontends {
            if let Some(old) = &change.old {
                touched.extend(self.forget(change.frontend, old));
            }
            if let Some(new) = &change.new {
                touched.extend(self.learn(change.frontend, new));
            }
        }
        // Those that shrink make room for those that grow.
        let (gone, stay): (Vec<_>, Vec<_>) = touched
            .into_iter()
            .partition(|key| self.services.get(key).is_none_or(|service| service.frontends.is_empty()));
        for key in gone.iter().chain(&stay) {
            self.update(key, &mut writes, now);
        }
        if !self.starving.is_empty() {
            self.retry(&mut writes, now);
        }
        writes
    }

    /// Tries again some of those for which there was no room.
    fn retry(&mut self, writes: &mut Writes, now: Instant) {
        let after = |key: &&ServiceKey| self.retried.as_ref().is_none_or(|last| *key > last);
        let mut keys: Vec<_> = self.starving.iter().filter(after).take(RETRIES).cloned().collect();
        self.retried = keys.last().filter(|_| keys.len() == RETRIES).cloned();
        keys.retain(|key| self.has_room(key, now));
        for key in keys {
            self.update(&key, writes, now);
        }
    }

    /// Whether something is left of a map that the Service port has not got enough of.
    fn has_room(&self, key: &ServiceKey, now: Instant) -> bool {
        let short = self.services.get(key).map(|service| &service.short);
        short.is_some_and(|short| {
            short.values().any(|map| match *map {
                name::SERVICES => self.service_ids.is_left(now),
                map => self.resources.is_left(map, key.family, now),
            })
        })
    }

    /// Frontends that are not there, or not with all of their endpoints, and the map that has no room for them; `None` if
    /// that is as it was when this was last asked.
    pub(super) fn take_shortage(&mut self) -> Option<Vec<(Frontend, &'static str)>> {
        std::mem::take(&mut self.shortage_changed).then(|| {
            let services = self.starving.iter().filter_map(|key| self.services.get(key));
            services.flat_map(|service| &service.short).map(|(frontend, map)| (*frontend, *map)).collect()
        })
    }

    /// Number of frontends that lack something, by the map that has no room.
    pub(super) fn shortage(&self) -> BTreeMap<&'static str, u64> {
        let mut found = BTreeMap::new();
        let services = self.starving.iter().filter_map(|key| self.services.get(key));
        for map in services.flat_map(|service| service.short.values()) {
            *found.entry(*map).or_insert(0) += 1;
        }
        found
    }

    /// Whether some Service port that lacks something could get it now.
    pub(super) fn could_do_better(&self, now: Instant) -> bool {
        self.starving.iter().any(|key| self.has_room(key, now))
    }

    /// The writes for other addresses of this node.
    pub(super) fn set_host_addresses(&mut self, addresses: BTreeSet<IpAddr>, now: Instant) -> Writes {
        let changed: BTreeSet<_> =
            self.around.host_addresses.symmetric_difference(&addresses).copied().collect();
        self.around.host_addresses = addresses;
        let concerned =
            |service: &Service| service.backends.keys().any(|socket| changed.contains(&socket.ip()));
        let touched: Vec<_> = self
            .services
            .iter()
            .filter(|(_, service)| concerned(service))
            .map(|(key, _)| key.clone())
            .collect();
        let mut writes = Writes::default();
        for key in touched {
            self.update(&key, &mut writes, now);
        }
        writes
    }

    /// Takes in a frontend; who has to be updated.
    pub(super) fn learn(&mut self, frontend: Frontend, spec: &Arc<FrontendSpec>) -> Vec<ServiceKey> {
        let key = ServiceKey::of(frontend, spec);
        let mut touched = vec![key.clone()];
        match frontend.address {
            FrontendAddress::Ip(address) => {
                let destination = own_destination(frontend, address);
                *self.around.explicit.entry(destination).or_insert(0) += 1;
                touched.extend(self.node_port_beside(frontend, address));
            }
            FrontendAddress::NodePort(_) => {
                self.node_ports.insert(frontend, key.clone());
            }
        }
        self.services.entry(key).or_default().frontends.insert(frontend, Arc::clone(spec));
        touched
    }

    fn forget(&mut self, frontend: Frontend, spec: &FrontendSpec) -> Vec<ServiceKey> {
        let key = ServiceKey::of(frontend, spec);
        let mut touched = vec![key.clone()];
        match frontend.address {
            FrontendAddress::Ip(address) => {
                decrement(&mut self.around.explicit, &own_destination(frontend, address));
                touched.extend(self.node_port_beside(frontend, address));
            }
            FrontendAddress::NodePort(_) => {
                self.node_ports.remove(&frontend);
            }
        }
        if let Some(service) = self.services.get_mut(&key) {
            service.frontends.remove(&frontend);
        }
        touched
    }

    /// The Service whose node port is hidden by an explicit frontend on an address of this node.
    fn node_port_beside(&self, frontend: Frontend, address: IpAddr) -> Option<ServiceKey> {
        if !self.around.node_port_addresses.contains(&address) {
            return None;
        }
        let hidden = Frontend { address: FrontendAddress::NodePort(IpFamily::of(address)), ..frontend };
        self.node_ports.get(&hidden).cloned()
    }

    fn set_node_port_addresses(&mut self, globals: &Globals) -> Vec<ServiceKey> {
        if self.around.node_port_addresses == globals.node_port_addresses {
            return Vec::new();
        }
        self.around.node_port_addresses.clone_from(&globals.node_port_addresses);
        self.node_ports.values().cloned().collect()
    }

    /// Brings one Service port up to date, as far as there is room; one that has no frontends any more goes.
    pub(super) fn update(&mut self, key: &ServiceKey, writes: &mut Writes, now: Instant) {
        let Some(mut service) = self.services.remove(key) else { return };
        let [on_demand, always] = self.masquerading.get_mut(key.family);
        match std::mem::take(&mut service.masquerades) {
            Need::None => {}
            Need::OnDemand => *on_demand -= 1,
            Need::Always => *always -= 1,
        }
        let short = std::mem::take(&mut service.short);
        if service.id == 0 && !service.frontends.is_empty() {
            service.id = self.number(&key.owner, writes, now).unwrap_or(0);
        }
        if service.id == 0 {
            let all = service.frontends.keys();
            service.short = all.map(|frontend| (*frontend, name::SERVICES)).collect();
        } else {
            service.update(key.family, &self.around, &mut self.resources, writes, now);
        }
        self.update_cluster_ips(key.family, &mut service, writes);
        self.shortage_changed |= service.short != short;
        if service.short.is_empty() {
            self.starving.remove(key);
        } else {
            self.starving.insert(key.clone());
        }
        if service.frontends.is_empty() {
            if service.id != 0 {
                self.give_number(&key.owner, now);
            }
            return;
        }
        let [on_demand, always] = self.masquerading.get_mut(key.family);
        match service.masquerades {
            Need::None => {}
            Need::OnDemand => *on_demand += 1,
            Need::Always => *always += 1,
        }
        self.services.insert(key.clone(), service);
    }

    /// Each cluster IP has a value for what none of its ports is named by.
    fn update_cluster_ips(&mut self, family: IpFamily, service: &mut Service, writes: &mut Writes) {
        let room = self.resources.frontends.get_mut(family);
        let wanted = service.cluster_ips();
        let held = std::mem::take(&mut service.whole);
        for gone in held.iter().filter(|address| !wanted.contains(address)) {
            decrement(&mut self.cluster_ips, gone);
            if !self.cluster_ips.contains_key(gone) {
                room.give();
                writes.remove(Destination::whole(*gone));
            }
        }
        for &address in &wanted {
            if held.contains(&address) {
                service.whole.push(address);
                continue;
            }
            if !self.cluster_ips.contains_key(&address) {
                // Without it the address works, but is not told from others of its range.
                if !room.take() {
                    continue;
                }
                writes.set(Destination::whole(address), whole_address());
            }
            *self.cluster_ips.entry(address).or_insert(0) += 1;
            service.whole.push(address);
        }
    }

    fn number(&mut self, owner: &Arc<ServicePortName>, writes: &mut Writes, now: Instant) -> Option<u32> {
        if let Some((id, families)) = self.numbers.get_mut(owner) {
            *families += 1;
            return Some(*id);
        }
        let id = self.service_ids.take(now)?;
        self.numbers.insert(Arc::clone(owner), (id.index, 1));
        writes.before.push(Step::ResetService(id.index));
        Some(id.index)
    }

    fn give_number(&mut self, owner: &Arc<ServicePortName>, now: Instant) {
        if let Some((id, families)) = self.numbers.get_mut(owner) {
            *families -= 1;
            if *families == 0 {
                self.service_ids.give(*id, now);
                self.numbers.remove(owner);
            }
        }
    }

    /// Whether some frontend of the family needs the masquerade rule.
    pub(super) const fn masquerades(&self, family: IpFamily) -> Need {
        match self.masquerading.get(family) {
            [0, 0] => Need::None,
            [_, 0] => Need::OnDemand,
            _ => Need::Always,
        }
    }

    /// Number of frontends, whole addresses included.
    pub(super) fn frontends(&self) -> u64 {
        let room = &self.resources.frontends;
        u64::from(room.v4.used()) + u64::from(room.v6.used())
    }

    /// Every frontend with its value.
    pub(super) fn values(&self) -> impl Iterator<Item = (Destination, FrontendValue)> + '_ {
        let own = self.services.values().flat_map(|service| service.values.iter());
        let whole = self.cluster_ips.keys().map(|address| (Destination::whole(*address), whole_address()));
        own.map(|(destination, value)| (*destination, *value)).chain(whole)
    }

    /// Every backend, by its number.
    pub(super) fn backend_values(&self) -> impl Iterator<Item = (u32, BackendValue)> + '_ {
        let held = self.services.values().flat_map(|service| service.backends.iter());
        held.map(|(socket, held)| (held.id.index, backend_value(*socket, *held)))
    }

    /// Where the last pool ends that a Service port holds, whether or not a frontend that leads there has room.
    pub(super) fn pool_end(&self) -> u32 {
        let pools = self.services.values().flat_map(|service| &service.pools);
        pools.map(|pool| pool.range.end).max().unwrap_or(0)
    }

    /// Every source range.
    pub(super) fn source_ranges(&self) -> impl Iterator<Item = SourceRange> + '_ {
        self.services.values().flat_map(Service::ranges)
    }
}

/// A cluster IP rejects what none of its ports is named by.
pub(super) fn whole_address() -> FrontendValue {
    FrontendValue { flags: WHOLE_ADDRESS | INSIDE_REJECT, ..FrontendValue::default() }
}

const fn both(room: Room) -> PerFamily<Room> {
    PerFamily { v4: room, v6: room }
}

/// Counts down; the entry goes at zero.
fn decrement<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod adopt_tests;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;
