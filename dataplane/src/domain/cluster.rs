//! All objects as they are now.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use ipnet::IpNet;

use super::{EndpointSlice, Event, Node, Service, ServiceName, SliceName};

/// The objects known at this moment.
///
/// Kept small: strings that many objects repeat (namespaces, nodes, zones, names of ports) are stored once, and a
/// Service's slices are one exact allocation.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    services: HashMap<ServiceName, Box<Service>>,
    /// Slices of each Service (also of those that are not served), sorted by name, never empty.
    slices: HashMap<ServiceName, Vec<EndpointSlice>>,
    slice_owner: HashMap<SliceName, ServiceName>,
    node: Option<Node>,
    service_cidrs: Vec<IpNet>,
    words: Words,
}

/// What has to be planned again after an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dirty {
    /// Nothing.
    Nothing,
    /// These Services (a slice that changes its owner makes two dirty).
    Services(Vec<ServiceName>),
    /// Every Service, and what does not belong to one: the node's name or zone changed.
    AllServices,
    /// Only what does not belong to a Service: node addresses, ServiceCIDRs.
    Globals,
}

impl Cluster {
    /// Takes in one event and says what it affects; objects that are as they were affect nothing.
    pub fn apply(&mut self, event: Event) -> Dirty {
        match event {
            Event::Service(service) => self.put_service(service),
            Event::ServiceGone(name) => match self.services.remove(&name) {
                Some(_) => Dirty::Services(vec![name]),
                None => Dirty::Nothing,
            },
            Event::Slice(slice) => self.put_slice(*slice),
            Event::SliceGone(name) => self.remove_slice(&name),
            Event::Node(node) => self.put_node(node.map(|node| *node)),
            Event::ServiceCidrs(cidrs) => self.put_service_cidrs(cidrs),
            Event::Synced(_) | Event::Problem(_) | Event::OptedOut(_) => Dirty::Nothing,
        }
    }

    /// The Service of that name, if it is served.
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.services.get(name).map(AsRef::as_ref)
    }

    /// All served Services, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().map(AsRef::as_ref)
    }

    /// Number of served Services.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// The EndpointSlices of a Service, sorted by name.
    pub fn slices(&self, service: &ServiceName) -> impl Iterator<Item = &EndpointSlice> {
        self.slices.get(service).map(Vec::as_slice).unwrap_or_default().iter()
    }

    /// Number of EndpointSlices, of all Services.
    pub fn slice_count(&self) -> usize {
        self.slice_owner.len()
    }

    /// This node's object, if it exists.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Ranges from which cluster IPs are allocated.
    pub fn service_cidrs(&self) -> &[IpNet] {
        &self.service_cidrs
    }

    fn put_service(&mut self, mut service: Box<Service>) -> Dirty {
        service.name.namespace = self.words.share(mem::take(&mut service.name.namespace));
        for port in &mut service.ports {
            port.name = self.words.share(mem::take(&mut port.name));
        }
        let name = service.name.clone();
        match self.services.entry(name.clone()) {
            Entry::Occupied(old) if *old.get() == service => return Dirty::Nothing,
            Entry::Occupied(mut old) => {
                old.insert(service);
            }
            Entry::Vacant(free) => {
                free.insert(service);
            }
        }
        Dirty::Services(vec![name])
    }

    fn put_slice(&mut self, mut slice: EndpointSlice) -> Dirty {
        let mut dirty = Vec::new();
        let old_owner = self.slice_owner.get(&slice.name);
        if let Some(old_owner) = old_owner.filter(|owner| **owner != slice.service).cloned() {
            self.detach(&slice.name, &old_owner);
            dirty.push(old_owner);
        }
        self.compact(&mut slice);
        self.slice_owner.insert(slice.name.clone(), slice.service.clone());
        let service = slice.service.clone();
        let siblings = self.slices.entry(service.clone()).or_default();
        match siblings.binary_search_by(|sibling| sibling.name.cmp(&slice.name)) {
            Ok(index) => {
                if let Some(old) = siblings.get_mut(index) {
                    if means_the_same(old, &slice) {
                        return Dirty::Nothing;
                    }
                    *old = slice;
                }
            }
            Err(index) => {
                siblings.reserve_exact(1);
                siblings.insert(index, slice);
            }
        }
        dirty.push(service);
        Dirty::Services(dirty)
    }

    fn remove_slice(&mut self, name: &SliceName) -> Dirty {
        match self.slice_owner.remove(name) {
            Some(owner) => {
                self.detach(name, &owner);
                Dirty::Services(vec![owner])
            }
            None => Dirty::Nothing,
        }
    }

    fn detach(&mut self, slice: &SliceName, owner: &ServiceName) {
        if let Entry::Occupied(mut siblings) = self.slices.entry(owner.clone()) {
            siblings.get_mut().retain(|sibling| sibling.name != *slice);
            if siblings.get().is_empty() {
                siblings.remove();
            }
        }
    }

    /// Replaces the strings of a slice by ones that are already stored, and drops spare capacity.
    fn compact(&mut self, slice: &mut EndpointSlice) {
        if let Some((known, _)) = self.services.get_key_value(&slice.service) {
            slice.service = known.clone();
        }
        slice.service.namespace = self.words.share(mem::take(&mut slice.service.namespace));
        slice.name.namespace = self.words.share(mem::take(&mut slice.name.namespace));
        for port in &mut slice.ports {
            port.name = self.words.share(mem::take(&mut port.name));
        }
        for endpoint in &mut slice.endpoints {
            endpoint.node = endpoint.node.take().map(|node| self.words.share(node));
            if let Some(hints) = &mut endpoint.hints {
                for word in hints.zones.iter_mut().chain(&mut hints.nodes) {
                    *word = self.words.share(mem::take(word));
                }
            }
        }
        slice.ports.shrink_to_fit();
        slice.endpoints.shrink_to_fit();
    }

    fn put_node(&mut self, node: Option<Node>) -> Dirty {
        if self.node == node {
            return Dirty::Nothing;
        }
        let place = |node: &Option<Node>| node.as_ref().map(|node| (node.name.clone(), node.zone.clone()));
        let moved = place(&self.node) != place(&node);
        self.node = node;
        if moved { Dirty::AllServices } else { Dirty::Globals }
    }

    fn put_service_cidrs(&mut self, mut cidrs: Vec<IpNet>) -> Dirty {
        cidrs.sort_unstable();
        cidrs.dedup();
        if self.service_cidrs == cidrs {
            return Dirty::Nothing;
        }
        self.service_cidrs = cidrs;
        Dirty::Globals
    }
}

/// Equal but for the trigger time: the endpoints controller touches that without changing anything that matters here,
/// and the time of a change that is not one must not be measured.
fn means_the_same(old: &EndpointSlice, new: &EndpointSlice) -> bool {
    old.family == new.family && old.ports == new.ports && old.endpoints == new.endpoints
}

/// Strings that many objects repeat.
#[derive(Clone, Debug, Default)]
struct Words {
    known: HashSet<Arc<str>>,
    /// Size at which the next insertion looks for words nobody uses any more.
    sweep_at: usize,
}

impl Words {
    const FIRST_SWEEP: usize = 256;

    fn share(&mut self, word: Arc<str>) -> Arc<str> {
        if let Some(known) = self.known.get(&word) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            // Doubling keeps the cost of sweeping constant per insertion.
            self.sweep_at = (self.known.len() * 2).max(Self::FIRST_SWEEP);
        }
        self.known.insert(Arc::clone(&word));
        word
    }
}

#[cfg(test)]
mod tests;
