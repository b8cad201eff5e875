//! From objects as text to domain events, remembering what was given.
//!
//! A new list repeats everything: an object whose resource version was seen before gives no event, and what the list
//! lacks is given as gone, once the list is complete.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;

use crate::domain::{Event, ObjectKind, Problem, ServiceName, SliceName};
use crate::watch::convert::{self, Converted, Names};
use crate::watch::wire::{self, AnyObject, Meta};

/// Turns the objects of one kind into events.
pub(super) trait Tracker: Send + Sync {
    /// A new list begins.
    fn begin_list(&mut self);
    /// An object of a list, or one that was added or changed.
    fn apply(&mut self, json: &str, events: &mut Vec<Event>);
    /// An object was deleted, or does not match the selector any more.
    fn delete(&mut self, json: &str, events: &mut Vec<Event>);
    /// The list is complete.
    fn end_list(&mut self, events: &mut Vec<Event>);
}

/// Resource version as something to compare; `None` if there is none.
type Version = Option<u64>;

fn version(meta: &Meta<'_>) -> Version {
    let text = &*meta.resource_version;
    if text.is_empty() {
        return None;
    }
    Some(text.parse().unwrap_or_else(|_| {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    }))
}

/// What is remembered of an object.
#[derive(Debug)]
struct Known {
    version: Version,
    round: u32,
    /// An event was given for it that has not been taken back.
    given: bool,
}

/// Kinds whose objects stand for themselves, with a name and a namespace.
pub(super) trait Namespaced {
    /// The name that events carry.
    type Name: Clone + Eq + Hash + Send + Sync;
    /// Its API form.
    type Wire<'a>: Deserialize<'a>;
    const KIND: ObjectKind;

    fn meta<'o, 'w>(object: &'o Self::Wire<'w>) -> &'o Meta<'w>;
    fn name(meta: &Meta<'_>, names: &Names) -> Self::Name;
    fn convert(object: &Self::Wire<'_>, names: &Names) -> Converted<Option<Event>>;
    fn gone(name: Self::Name) -> Event;
}

/// Tracks a namespaced kind.
pub(super) struct NamespacedTracker<K: Namespaced> {
    names: Arc<Names>,
    known: HashMap<K::Name, Known>,
    round: u32,
    kind: PhantomData<fn() -> K>,
}

/// Tracks Services.
pub(super) type ServiceTracker = NamespacedTracker<Services>;
/// Tracks EndpointSlices.
pub(super) type SliceTracker = NamespacedTracker<Slices>;

impl<K: Namespaced> NamespacedTracker<K> {
    pub(super) fn new(names: Arc<Names>) -> Self {
        Self { names, known: HashMap::new(), round: 0, kind: PhantomData }
    }

    fn apply_object(&mut self, object: &K::Wire<'_>, events: &mut Vec<Event>) {
        let meta = K::meta(object);
        let (name, version) = (K::name(meta, &self.names), version(meta));
        let known = match self.known.entry(name.clone()) {
            Entry::Occupied(entry) => {
                let known = entry.into_mut();
                known.round = self.round;
                if version.is_some() && known.version == version {
                    return;
                }
                known.version = version;
                known
            }
            Entry::Vacant(entry) => entry.insert(Known { version, round: self.round, given: false }),
        };
        let converted = K::convert(object, &self.names);
        let was_given = std::mem::replace(&mut known.given, converted.value.is_some());
        events.extend(converted.value.or_else(|| was_given.then(|| K::gone(name))));
        events.extend(converted.problems.into_iter().map(|problem| Event::Problem(Box::new(problem))));
    }

    /// An object that does not have the form of its kind: what it was before stays in use.
    fn keep_unreadable(&mut self, json: &str, events: &mut Vec<Event>) {
        let Ok(object) = serde_json::from_str::<AnyObject<'_>>(json) else {
            events.push(unreadable::<K::Wire<'_>>(K::KIND, json));
            return;
        };
        let version = version(&object.metadata);
        let name = K::name(&object.metadata, &self.names);
        let known =
            self.known.entry(name).or_insert(Known { version: None, round: self.round, given: false });
        known.round = self.round;
        if version.is_none() || known.version != version {
            known.version = version;
            events.push(unreadable::<K::Wire<'_>>(K::KIND, json));
        }
    }
}

impl<K: Namespaced> Tracker for NamespacedTracker<K> {
    fn begin_list(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    fn apply(&mut self, json: &str, events: &mut Vec<Event>) {
        match serde_json::from_str::<K::Wire<'_>>(json) {
            Ok(object) => self.apply_object(&object, events),
            Err(_) => self.keep_unreadable(json, events),
        }
    }

    fn delete(&mut self, json: &str, events: &mut Vec<Event>) {
        let Ok(object) = serde_json::from_str::<AnyObject<'_>>(json) else {
            events.push(unreadable::<AnyObject<'_>>(K::KIND, json));
            return;
        };
        let name = K::name(&object.metadata, &self.names);
        if self.known.remove(&name).is_some_and(|known| known.given) {
            events.push(K::gone(name));
        }
    }

    fn end_list(&mut self, events: &mut Vec<Event>) {
        let round = self.round;
        for (name, _) in
            self.known.extract_if(|_, known| known.round != round).filter(|(_, known)| known.given)
        {
            events.push(K::gone(name));
        }
        self.known.shrink_to_fit();
    }
}

/// The kind Service.
pub(super) enum Services {}

impl Namespaced for Services {
    type Name = ServiceName;
    type Wire<'a> = wire::Service<'a>;
    const KIND: ObjectKind = ObjectKind::Service;

    fn meta<'o, 'w>(object: &'o Self::Wire<'w>) -> &'o Meta<'w> {
        &object.metadata
    }

    fn name(meta: &Meta<'_>, names: &Names) -> ServiceName {
        ServiceName { namespace: names.shared(&meta.namespace), name: names.shared(&meta.name) }
    }

    fn convert(object: &Self::Wire<'_>, names: &Names) -> Converted<Option<Event>> {
        let Converted { value, problems } = convert::service(object, names);
        Converted { value: value.map(|service| Event::Service(Box::new(service))), problems }
    }

    fn gone(name: ServiceName) -> Event {
        Event::ServiceGone(name)
    }
}

/// The kind EndpointSlice.
pub(super) enum Slices {}

impl Namespaced for Slices {
    type Name = SliceName;
    type Wire<'a> = wire::EndpointSlice<'a>;
    const KIND: ObjectKind = ObjectKind::EndpointSlice;

    fn meta<'o, 'w>(object: &'o Self::Wire<'w>) -> &'o Meta<'w> {
        &object.metadata
    }

    fn name(meta: &Meta<'_>, names: &Names) -> SliceName {
        SliceName { namespace: names.shared(&meta.namespace), name: names.shared(&meta.name) }
    }

    fn convert(object: &Self::Wire<'_>, names: &Names) -> Converted<Option<Event>> {
        let Converted { value, problems } = convert::endpoint_slice(object, names);
        Converted { value: value.map(|slice| Event::Slice(Box::new(slice))), problems }
    }

    fn gone(name: SliceName) -> Event {
        Event::SliceGone(name)
    }
}

/// Tracks this node's Node, the only one that the selector lets through.
pub(super) struct NodeTracker {
    names: Arc<Names>,
    /// `None` before the first complete list.
    given: Option<Presence>,
    listed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Absent,
    Present(Version),
}

impl NodeTracker {
    pub(super) fn new(names: Arc<Names>) -> Self {
        Self { names, given: None, listed: false }
    }

    fn absent(&mut self, events: &mut Vec<Event>) {
        if self.given.replace(Presence::Absent) != Some(Presence::Absent) {
            events.push(Event::Node(None));
        }
    }
}

impl Tracker for NodeTracker {
    fn begin_list(&mut self) {
        self.listed = false;
    }

    fn apply(&mut self, json: &str, events: &mut Vec<Event>) {
        self.listed = true;
        let Ok(object) = serde_json::from_str::<wire::Node<'_>>(json) else {
            events.push(unreadable::<wire::Node<'_>>(ObjectKind::Node, json));
            return;
        };
        let present = Presence::Present(version(&object.metadata));
        if self.given.replace(present) == Some(present) && present != Presence::Present(None) {
            return;
        }
        let Converted { value, problems } = convert::node(&object, &self.names);
        events.push(Event::Node(Some(Box::new(value))));
        events.extend(problems.into_iter().map(|problem| Event::Problem(Box::new(problem))));
    }

    fn delete(&mut self, _json: &str, events: &mut Vec<Event>) {
        self.absent(events);
    }

    fn end_list(&mut self, events: &mut Vec<Event>) {
        if !self.listed {
            self.absent(events);
        }
    }
}

/// Tracks ServiceCIDRs; each event has the ranges of all of them.
#[derive(Default)]
pub(super) struct CidrTracker {
    ranges: BTreeMap<String, (Version, Vec<IpNet>)>,
    /// What the running list has given so far.
    listing: Option<Vec<String>>,
    given: Option<Vec<IpNet>>,
}

impl CidrTracker {
    /// An object of the running list that cannot be read: what it was before stays in use.
    fn keep_listed(&mut self, json: &str) {
        if let (Some(listing), Ok(object)) = (&mut self.listing, serde_json::from_str::<AnyObject<'_>>(json))
        {
            listing.push(object.metadata.name.to_string());
        }
    }

    fn give(&mut self, events: &mut Vec<Event>) {
        if self.listing.is_some() {
            return;
        }
        let mut all: Vec<IpNet> = self.ranges.values().flat_map(|(_, ranges)| ranges).copied().collect();
        all.sort_unstable();
        all.dedup();
        if self.given.as_ref() != Some(&all) {
            self.given = Some(all.clone());
            events.push(Event::ServiceCidrs(all));
        }
    }
}

impl Tracker for CidrTracker {
    fn begin_list(&mut self) {
        self.listing = Some(Vec::new());
    }

    fn apply(&mut self, json: &str, events: &mut Vec<Event>) {
        let Ok(object) = serde_json::from_str::<wire::ServiceCidr<'_>>(json) else {
            self.keep_listed(json);
            events.push(unreadable::<wire::ServiceCidr<'_>>(ObjectKind::ServiceCidr, json));
            return;
        };
        let (name, version) = (object.metadata.name.to_string(), version(&object.metadata));
        if let Some(listing) = &mut self.listing {
            listing.push(name.clone());
        }
        if version.is_some() && self.ranges.get(&name).is_some_and(|(known, _)| *known == version) {
            return;
        }
        let Converted { value, problems } = convert::service_cidr(&object);
        self.ranges.insert(name, (version, value));
        events.extend(problems.into_iter().map(|problem| Event::Problem(Box::new(problem))));
        self.give(events);
    }

    fn delete(&mut self, json: &str, events: &mut Vec<Event>) {
        if let Ok(object) = serde_json::from_str::<AnyObject<'_>>(json) {
            self.ranges.remove(&*object.metadata.name);
            self.give(events);
        }
    }

    fn end_list(&mut self, events: &mut Vec<Event>) {
        if let Some(listed) = self.listing.take() {
            self.ranges.retain(|name, _| listed.contains(name));
        }
        self.give(events);
    }
}

/// The problem of an object that does not have the form `T`.
pub(super) fn unreadable<'a, T: Deserialize<'a>>(kind: ObjectKind, json: &'a str) -> Event {
    let name = serde_json::from_str::<AnyObject<'_>>(json).map(|object| object.metadata.display_name());
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let (field, reason) = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => (String::new(), "cannot be read".to_owned()),
        Err(error) => (error.path().to_string(), error.into_inner().to_string()),
    };
    Event::Problem(Box::new(Problem {
        kind,
        object: name.unwrap_or_else(|_| "(no name)".to_owned()),
        field,
        reason,
    }))
}
