//! Everything that the maps hold, and the writes that a change takes. Pure: no kernel, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use shunt_abi::frontend::{FrontendValue, INSIDE_REJECT, WHOLE_ADDRESS};

use super::ids::Ids;
use super::masquerade::Need;
use super::ranges::Ranges;
use super::service::{Exhausted, Resources, Service, Surroundings};
use super::write::{Destination, Step, Writes};
use crate::domain::{IpFamily, ServicePortName};
use crate::plan::{Changes, Frontend, FrontendAddress, FrontendKind, FrontendSpec, Globals, PerFamily};

/// Elements that the arrays hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacities {
    pub(super) backends: u32,
    pub(super) pool: u32,
    pub(super) services: u32,
}

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

/// A change that cannot be brought about: one frontend of those that it concerns, and what is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) frontend: Frontend,
    pub(super) exhausted: Exhausted,
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
    /// How many frontends are cluster IPs of that address.
    cluster_ips: BTreeMap<IpAddr, usize>,
    /// Who has a node port: an explicit frontend of the same address and port takes precedence.
    node_ports: BTreeMap<Frontend, ServiceKey>,
    /// Service ports that need the masquerade rule: on demand, always.
    masquerading: PerFamily<[usize; 2]>,
    /// Frontends of all Service ports.
    values: usize,
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
            },
            cluster_ips: BTreeMap::new(),
            node_ports: BTreeMap::new(),
            masquerading: PerFamily::default(),
            values: 0,
        }
    }

    /// The writes for a change. After an error the model is of no use any more.
    pub(super) fn apply(&mut self, changes: &Changes, now: Instant) -> Result<Writes, Refused> {
        let mut writes = Writes::default();
        let mut touched = BTreeSet::new();
        let before: BTreeMap<IpAddr, bool> = changes
            .frontends
            .iter()
            .filter_map(|change| match change.frontend.address {
                FrontendAddress::Ip(address) => Some(address),
                FrontendAddress::NodePort(_) => None,
            })
            .map(|address| (address, self.cluster_ips.contains_key(&address)))
            .collect();
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
        for (address, was) in before {
            match (was, self.cluster_ips.contains_key(&address)) {
                (false, true) => writes.set(Destination::whole(address), whole_address()),
                (true, false) => writes.remove(Destination::whole(address)),
                (false, false) | (true, true) => {}
            }
        }
        for key in touched {
            self.update(&key, &mut writes, now)?;
        }
        Ok(writes)
    }

    /// The writes for other addresses of this node.
    pub(super) fn set_host_addresses(
        &mut self,
        addresses: BTreeSet<IpAddr>,
        now: Instant,
    ) -> Result<Writes, Refused> {
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
            self.update(&key, &mut writes, now)?;
        }
        Ok(writes)
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
                if spec.kind == FrontendKind::ClusterIp {
                    *self.cluster_ips.entry(address).or_insert(0) += 1;
                }
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
                if spec.kind == FrontendKind::ClusterIp {
                    decrement(&mut self.cluster_ips, &address);
                }
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

    /// Cluster IPs in use.
    pub(super) fn cluster_ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.cluster_ips.keys().copied()
    }

    fn set_node_port_addresses(&mut self, globals: &Globals) -> Vec<ServiceKey> {
        if self.around.node_port_addresses == globals.node_port_addresses {
            return Vec::new();
        }
        self.around.node_port_addresses.clone_from(&globals.node_port_addresses);
        self.node_ports.values().cloned().collect()
    }

    /// Brings one Service port up to date; one that has no frontends any more goes.
    pub(super) fn update(
        &mut self,
        key: &ServiceKey,
        writes: &mut Writes,
        now: Instant,
    ) -> Result<(), Refused> {
        let Some(mut service) = self.services.remove(key) else { return Ok(()) };
        let [on_demand, always] = self.masquerading.get_mut(key.family);
        match std::mem::take(&mut service.masquerades) {
            Need::None => {}
            Need::OnDemand => *on_demand -= 1,
            Need::Always => *always -= 1,
        }
        self.values -= service.counted;
        let Some(first) = service.frontends.keys().next().copied() else {
            let result = service.update(&self.around, &mut self.resources, writes, now);
            debug_assert!(result.is_ok(), "giving back needs nothing");
            if service.id != 0 {
                self.give_number(&key.owner, now);
            }
            return Ok(());
        };
        let refused = |exhausted| Refused { frontend: first, exhausted };
        if service.id == 0 {
            service.id = self.number(&key.owner, writes, now).map_err(refused)?;
        }
        let result = service.update(&self.around, &mut self.resources, writes, now);
        let [on_demand, always] = self.masquerading.get_mut(key.family);
        match service.masquerades {
            Need::None => {}
            Need::OnDemand => *on_demand += 1,
            Need::Always => *always += 1,
        }
        service.counted = service.values.len();
        self.values += service.counted;
        self.services.insert(key.clone(), service);
        result.map_err(refused)
    }

    fn number(
        &mut self,
        owner: &Arc<ServicePortName>,
        writes: &mut Writes,
        now: Instant,
    ) -> Result<u32, Exhausted> {
        if let Some((id, families)) = self.numbers.get_mut(owner) {
            *families += 1;
            return Ok(*id);
        }
        let id = self.service_ids.take(now).ok_or(Exhausted { map: shunt_abi::name::SERVICES })?;
        self.numbers.insert(Arc::clone(owner), (id.index, 1));
        writes.before.push(Step::ResetService(id.index));
        Ok(id.index)
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
    pub(super) fn frontends(&self) -> usize {
        self.values + self.cluster_ips.len()
    }

    /// Every frontend with its value.
    pub(super) fn values(&self) -> impl Iterator<Item = (Destination, FrontendValue)> + '_ {
        let own = self.services.values().flat_map(|service| &service.values);
        let whole = self.cluster_ips().map(|address| (Destination::whole(address), whole_address()));
        own.map(|(destination, value)| (*destination, *value)).chain(whole)
    }
}

/// A cluster IP rejects what none of its ports is named by.
pub(super) fn whole_address() -> FrontendValue {
    FrontendValue { flags: WHOLE_ADDRESS | INSIDE_REJECT, ..FrontendValue::default() }
}

const fn own_destination(frontend: Frontend, address: IpAddr) -> Destination {
    Destination { address, port: frontend.port, protocol: frontend.protocol.number() }
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
mod samples;
#[cfg(test)]
mod tests;
