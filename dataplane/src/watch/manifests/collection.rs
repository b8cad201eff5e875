//! The objects of all files together, and what changes when a file does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

use super::directory::{Change, Content};
use super::display_name;
use super::document::Broken;
use super::item::{Item, Key, Object, items};
use crate::domain::{Event, Node, ObjectKind, OptedOutPod, Problem, ServiceName, SliceName};
use crate::watch::convert::Names;

/// What all files hold together. Where two files have the same object, the first by file name counts.
#[derive(Debug)]
pub(super) struct Collection {
    names: Names,
    node_name: Arc<str>,
    files: BTreeMap<PathBuf, Vec<Arc<Item>>>,
    /// The objects that count.
    current: BTreeMap<Key, Placed>,
    /// Objects that do not count, and were reported.
    duplicates: BTreeSet<Duplicate>,
    node: Option<Node>,
    cidrs: Option<Vec<IpNet>>,
    opted_out: BTreeSet<OptedOutPod>,
}

/// An object and the file it is from.
#[derive(Clone, Debug)]
struct Placed {
    file: PathBuf,
    item: Arc<Item>,
}

/// A repeated object: its file and line, its key, and the file that counts.
type Duplicate = (PathBuf, u64, Key, PathBuf);

impl Collection {
    pub(super) fn new(node_name: &str) -> Self {
        Self {
            names: Names::default(),
            node_name: node_name.into(),
            files: BTreeMap::new(),
            current: BTreeMap::new(),
            duplicates: BTreeSet::new(),
            node: None,
            cidrs: None,
            opted_out: BTreeSet::new(),
        }
    }

    /// Takes changed files and gives the events that follow from them.
    pub(super) fn apply(&mut self, changes: Vec<Change>, events: &mut Vec<Event>) {
        for change in changes {
            self.take(change, events);
        }
        let (merged, duplicates) = self.merge();
        let previous = std::mem::replace(&mut self.current, merged);
        self.give_gone(&previous, events);
        self.give_changed(&previous, events);
        self.give_node(events);
        self.give_cidrs(events);
        self.give_opted_out(events);
        self.give_duplicates(duplicates, events);
    }

    fn take(&mut self, change: Change, events: &mut Vec<Event>) {
        let Change { file, content } = change;
        let read = match content {
            Content::Documents(documents) => items(&documents, &self.names),
            Content::Broken(broken) => Err(broken),
            Content::Gone => {
                self.files.remove(&file);
                return;
            }
        };
        match read {
            Ok(items) => {
                self.files.insert(file, items.into_iter().map(Arc::new).collect());
            }
            Err(broken) => events.push(self.broken(&file, broken)),
        }
    }

    /// The problem of a file that cannot be used.
    fn broken(&self, file: &Path, broken: Broken) -> Event {
        let kept = match self.files.get(file).map(Vec::len) {
            Some(objects) => format!("; the {objects} objects read from the file before stay"),
            None => "; nothing of the file is used".to_owned(),
        };
        Event::Problem(Box::new(Problem {
            kind: ObjectKind::Service,
            object: place(file, broken.line),
            field: if broken.field.is_empty() { "(file)".to_owned() } else { broken.field },
            reason: broken.reason + &kept,
        }))
    }

    fn merge(&self) -> (BTreeMap<Key, Placed>, BTreeSet<Duplicate>) {
        let mut merged: BTreeMap<Key, Placed> = BTreeMap::new();
        let mut duplicates = BTreeSet::new();
        for (file, items) in &self.files {
            for item in items {
                if let Some(first) = merged.get(&item.key) {
                    duplicates.insert((file.clone(), item.line, item.key.clone(), first.file.clone()));
                } else {
                    merged.insert(item.key.clone(), Placed { file: file.clone(), item: Arc::clone(item) });
                }
            }
        }
        (merged, duplicates)
    }

    fn give_gone(&self, previous: &BTreeMap<Key, Placed>, events: &mut Vec<Event>) {
        for (key, placed) in previous {
            let served = is_served(&placed.item.object);
            let still_served = self.current.get(key).is_some_and(|now| is_served(&now.item.object));
            if served && !still_served {
                events.extend(gone(key));
            }
        }
    }

    fn give_changed(&self, previous: &BTreeMap<Key, Placed>, events: &mut Vec<Event>) {
        for (key, placed) in &self.current {
            let before = previous.get(key);
            if before.is_some_and(|before| Arc::ptr_eq(&before.item, &placed.item)) {
                continue;
            }
            if before.is_none_or(|before| before.item.object != placed.item.object) {
                events.extend(given(&placed.item.object));
            }
            if before.is_none_or(|before| before.item.problems != placed.item.problems) {
                events.extend(placed.item.problems.iter().map(|problem| placed.problem(problem)));
            }
        }
    }

    fn give_node(&mut self, events: &mut Vec<Event>) {
        let key = (ObjectKind::Node, Arc::from(""), Arc::clone(&self.node_name));
        let node = match self.current.get(&key).map(|placed| &placed.item.object) {
            Some(Object::Node(node)) => node.clone(),
            _ => Node { name: Arc::clone(&self.node_name), ..Node::default() },
        };
        if self.node.as_ref() != Some(&node) {
            events.push(Event::Node(Some(Box::new(node.clone()))));
            self.node = Some(node);
        }
    }

    fn give_cidrs(&mut self, events: &mut Vec<Event>) {
        let mut cidrs: Vec<IpNet> = Vec::new();
        for placed in self.current.values() {
            if let Object::Cidrs(ranges) = &placed.item.object {
                cidrs.extend(ranges);
            }
        }
        cidrs.sort_unstable();
        cidrs.dedup();
        if self.cidrs.as_ref() != Some(&cidrs) {
            events.push(Event::ServiceCidrs(cidrs.clone()));
            self.cidrs = Some(cidrs);
        }
    }

    fn give_opted_out(&mut self, events: &mut Vec<Event>) {
        let pods = self.current.values().filter_map(|placed| match &placed.item.object {
            Object::Pod(node, opted_out) if *node == self.node_name => opted_out.clone(),
            _ => None,
        });
        let pods: BTreeSet<OptedOutPod> = pods.collect();
        if self.opted_out != pods {
            events.push(Event::OptedOut(pods.clone()));
            self.opted_out = pods;
        }
    }

    fn give_duplicates(&mut self, duplicates: BTreeSet<Duplicate>, events: &mut Vec<Event>) {
        for duplicate in duplicates.difference(&self.duplicates) {
            let (file, line, (kind, namespace, name), first) = duplicate;
            events.push(Event::Problem(Box::new(Problem {
                kind: *kind,
                object: format!("{} ({})", place(file, Some(*line)), display_key(namespace, name)),
                field: "metadata.name".to_owned(),
                reason: format!("the same object is in {}, which counts", display_name(first)),
            })));
        }
        self.duplicates = duplicates;
    }
}

impl Placed {
    /// The problem with the place of the object in the files.
    fn problem(&self, problem: &Problem) -> Event {
        let object = format!("{} ({})", place(&self.file, Some(self.item.line)), problem.object);
        Event::Problem(Box::new(Problem { object, ..problem.clone() }))
    }
}

fn place(file: &Path, line: Option<u64>) -> String {
    match line {
        Some(line) => format!("{}:{line}", display_name(file)),
        None => display_name(file),
    }
}

fn display_key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

fn is_served(object: &Object) -> bool {
    matches!(object, Object::Service(Some(_)) | Object::Slice(Some(_)))
}

/// The event of an object that is new or has changed; other kinds are given apart.
fn given(object: &Object) -> Option<Event> {
    match object {
        Object::Service(service) => service.clone().map(|service| Event::Service(Box::new(service))),
        Object::Slice(slice) => slice.clone().map(|slice| Event::Slice(Box::new(slice))),
        Object::Node(_) | Object::Cidrs(_) | Object::Pod(..) => None,
    }
}

fn gone((kind, namespace, name): &Key) -> Option<Event> {
    let (namespace, name) = (Arc::clone(namespace), Arc::clone(name));
    match kind {
        ObjectKind::Service => Some(Event::ServiceGone(ServiceName { namespace, name })),
        ObjectKind::EndpointSlice => Some(Event::SliceGone(SliceName { namespace, name })),
        ObjectKind::Node | ObjectKind::ServiceCidr | ObjectKind::Pod => None,
    }
}
