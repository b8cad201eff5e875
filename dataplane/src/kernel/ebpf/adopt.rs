//! From what the maps hold and what they should hold to a model that knows both: numbers and places stay, so that flows
//! and affinity stay good, and only differences are written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use shunt_abi::address::from_words;
use shunt_abi::backend::BackendValue;
use shunt_abi::frontend::{FrontendValue, SPLIT};

use super::ids::Id;
use super::model::{Capacities, Model, ServiceKey};
use super::placement::HeldPool;
use super::service::{Held, Service, Surroundings, destinations};
use super::write::{Destination, SourceRange, Step, Writes};
use crate::domain::{IpFamily, ServicePortName};
use crate::plan::Table;

/// What the maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    pub(super) frontends: BTreeMap<Destination, FrontendValue>,
    /// Those in use (generation not 0).
    pub(super) backends: BTreeMap<u32, BackendValue>,
    /// The start of the array, as far as it is in use.
    pub(super) pool: Vec<u32>,
    pub(super) source_ranges: BTreeSet<SourceRange>,
}

impl Observed {
    /// Where the last pool ends that a frontend leads to.
    pub(super) fn pool_end(&self) -> u32 {
        self.frontends.values().flat_map(ranges).map(|range| range.end).max().unwrap_or(0)
    }

    /// Places of the pool array; `None` if that was never so long.
    pub(super) fn pool(&self, range: &Range<u32>) -> Option<&[u32]> {
        self.pool.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
    }
}

/// Where a value's pools are.
fn ranges(value: &FrontendValue) -> impl Iterator<Item = Range<u32>> {
    let inside = value.inside_offset..value.inside_offset.saturating_add(value.inside_length);
    let outside = value.outside_offset..value.outside_offset.saturating_add(value.outside_length);
    let split = (value.flags & SPLIT != 0).then_some(outside);
    [Some(inside), split].into_iter().flatten().filter(|range| !range.is_empty())
}

/// A model of `table` that has taken over what `observed` has of it, and the writes for the rest.
pub(super) fn adopt(
    observed: &Observed,
    table: &Table,
    mut around: Surroundings,
    (capacities, generation): (Capacities, u32),
    now: Instant,
) -> (Model, Writes) {
    around.node_port_addresses.clone_from(&table.globals.node_port_addresses);
    around.explicit.clear();
    let mut adoption = Adoption {
        model: Model::new(around, capacities, generation),
        observed,
        writes: Writes::default(),
        taken: BTreeSet::new(),
    };
    adoption.learn(table);
    adoption.take_over();
    adoption.remove_rest(now);
    let Adoption { mut model, mut writes, .. } = adoption;
    // What is there already comes before what has to find room.
    let (held, new): (Vec<_>, Vec<_>) = model
        .services
        .iter()
        .map(|(key, service)| (key.clone(), service.id != 0))
        .partition(|(_, is_held)| *is_held);
    for (key, _) in held.iter().chain(&new) {
        model.update(key, &mut writes, now);
    }
    writes.frontends.retain(|destination, value| observed.frontends.get(destination) != value.as_ref());
    (model, writes)
}

struct Adoption<'a> {
    model: Model,
    observed: &'a Observed,
    writes: Writes,
    /// Backends that a Service has taken over.
    taken: BTreeSet<u32>,
}

impl Adoption<'_> {
    fn learn(&mut self, table: &Table) {
        for (frontend, spec) in &table.frontends {
            self.model.learn(*frontend, spec);
        }
    }

    fn take_over(&mut self) {
        let mut services = std::mem::take(&mut self.model.services);
        for (key, service) in &mut services {
            self.take_values(key, service);
        }
        let mut orphans = self.orphans();
        for (key, service) in &mut services {
            self.share_number(&key.owner, service);
            self.take_source_ranges(key.family, service);
            self.take_orphans(service, &mut orphans);
        }
        self.model.services = services;
    }

    /// The values, pools and backends that belong to this Service's destinations.
    fn take_values(&mut self, key: &ServiceKey, service: &mut Service) {
        let wanted: Vec<_> = service
            .frontends
            .keys()
            .flat_map(|frontend| destinations(*frontend, &self.model.around))
            .collect();
        for destination in wanted {
            let Some(value) = self.observed.frontends.get(&destination) else { continue };
            if !self.take_number(&key.owner, service, value.service)
                || !self.model.resources.frontends.get_mut(key.family).take()
            {
                continue;
            }
            service.values.insert(destination, *value);
            self.writes.know_frontend(destination);
            for range in ranges(value) {
                self.take_pool(service, range);
            }
        }
    }

    /// Whether the number is this Service's, now or already.
    fn take_number(&mut self, owner: &Arc<ServicePortName>, service: &mut Service, number: u32) -> bool {
        self.share_number(owner, service);
        if service.id == 0 && self.model.service_ids.claim(Id { index: number, generation: 1 }) {
            self.model.numbers.insert(Arc::clone(owner), (number, 1));
            service.id = number;
        }
        service.id != 0 && service.id == number
    }

    /// The number that the Service port has in the other family is its number in this one, too.
    fn share_number(&mut self, owner: &Arc<ServicePortName>, service: &mut Service) {
        if service.id == 0
            && let Some((known, families)) = self.model.numbers.get_mut(owner)
        {
            *families += 1;
            service.id = *known;
        }
    }

    /// Also where none of the family's frontends was there: the ranges go by the number alone.
    fn take_source_ranges(&mut self, family: IpFamily, service: &mut Service) {
        if service.id != 0 {
            let own = SourceRange::all_of(service.id, family);
            let room = self.model.resources.source_ranges.get_mut(family);
            let found = self.observed.source_ranges.range(own).filter(|_| room.take());
            service.source_ranges = found.map(|entry| entry.range).collect();
        }
    }

    fn take_pool(&mut self, service: &mut Service, range: Range<u32>) {
        let Some(ids) = self.observed.pool(&range) else { return };
        let known = service.pools.iter().any(|pool| pool.range == range);
        if known || !self.model.resources.pool.claim(&range) {
            return;
        }
        for id in ids {
            self.take_backend(service, *id);
        }
        service.pools.push(HeldPool { ids: ids.to_vec(), range });
    }

    fn take_backend(&mut self, service: &mut Service, index: u32) {
        let Some(value) = self.observed.backends.get(&index) else { return };
        let socket = socket(value);
        let id = Id { index, generation: value.generation };
        if !service.backends.contains_key(&socket) && self.model.resources.backends.claim(id) {
            service.backends.insert(socket, Held { id, flags: value.flags });
            self.writes.know_backend(socket, service.protocol());
            self.taken.insert(index);
        }
    }

    /// Backends that no pool names: endpoints that still serve, but are not eligible.
    fn orphans(&self) -> BTreeMap<SocketAddr, Vec<u32>> {
        let mut orphans: BTreeMap<SocketAddr, Vec<u32>> = BTreeMap::new();
        for (index, value) in self.observed.backends.iter().filter(|(index, _)| !self.taken.contains(*index))
        {
            orphans.entry(socket(value)).or_default().push(*index);
        }
        orphans
    }

    fn take_orphans(&mut self, service: &mut Service, orphans: &mut BTreeMap<SocketAddr, Vec<u32>>) {
        let serving: Vec<_> =
            service.frontends.values().flat_map(|spec| spec.serving.iter().copied()).collect();
        for socket in serving {
            if !service.backends.contains_key(&socket)
                && let Some(index) = orphans.get_mut(&socket).and_then(Vec::pop)
            {
                self.take_backend(service, index);
            }
        }
    }

    /// What belongs to nobody any more. It rests before it is used again.
    fn remove_rest(&mut self, now: Instant) {
        let model = &mut self.model;
        let wanted: BTreeSet<_> = model.values().map(|(destination, _)| destination).collect();
        for (destination, value) in &self.observed.frontends {
            if !wanted.contains(destination) {
                self.writes.remove(*destination);
            }
            for range in ranges(value) {
                if model.resources.pool.claim(&range) {
                    model.resources.pool.give(range, now);
                }
            }
        }
        for (&index, value) in self.observed.backends.iter().filter(|(index, _)| !self.taken.contains(*index))
        {
            self.writes.after.push(Step::Backend(index, BackendValue::default()));
            if model.resources.backends.claim(Id { index, generation: value.generation }) {
                model.resources.backends.give(index, now);
            }
        }
        let held: BTreeSet<_> = model.source_ranges().collect();
        let rest = self.observed.source_ranges.difference(&held);
        self.writes.after.extend(rest.copied().map(Step::RemoveRange));
        self.rest_numbers(now);
    }

    /// Numbers of Service ports that nobody has any more. What goes by them is removed last of all: whoever got one at
    /// once would lose what is written for him.
    fn rest_numbers(&mut self, now: Instant) {
        let of_frontends = self.observed.frontends.values().map(|value| value.service);
        let of_ranges = self.observed.source_ranges.iter().map(|entry| entry.service);
        let seen: BTreeSet<u32> = of_frontends.chain(of_ranges).collect();
        let ids = &mut self.model.service_ids;
        for index in seen {
            if ids.claim(Id { index, generation: 1 }) {
                ids.give(index, now);
            }
        }
    }
}

fn socket(value: &BackendValue) -> SocketAddr {
    SocketAddr::new(from_words(value.address), u16::from_be(value.port))
}
