//! What has to be done to make a table what it should be. Pure: two descriptions in, operations out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::element::Element;
use super::encode;
use super::layout::{self, Chain};
use super::model::Difference;
use super::operation::{Operation, Work};
use super::read::Actual;
use super::set::{SetDefinition, StaticSet};
use super::settings::FamilySettings;
use crate::kernel::netlink::{Writer, contains};

/// A table as it should be.
#[derive(Debug, Default)]
pub(super) struct Desired {
    /// Each set, with its elements; `None` if packets fill it.
    pub(super) sets: Vec<(SetDefinition, Option<Vec<Element>>)>,
    /// Each chain after those it leads to.
    pub(super) chains: Vec<Chain>,
}

impl Desired {
    /// The fixed part, and everything that filling it from nothing creates.
    pub(super) fn new(settings: &FamilySettings, mut filling: Difference) -> Self {
        let mut desired = Self { sets: Vec::new(), chains: layout::chains(settings) };
        for set in StaticSet::all() {
            let elements = filling.add.remove(&set).unwrap_or_default();
            desired.sets.push((set.definition(settings.family), Some(elements)));
        }
        for unit in filling.create {
            let parts = unit.parts(settings);
            desired.sets.extend(parts.set.map(|(definition, elements)| {
                let filled_by_packets = definition.timeout.is_some();
                (definition, (!filled_by_packets).then_some(elements))
            }));
            desired.chains.push(parts.chain);
        }
        desired
    }

    /// Names of the sets whose elements are ours to decide.
    pub(super) fn filled_sets(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sets.iter().filter(|(_, elements)| elements.is_some()).map(|(definition, _)| &definition.name)
    }

    /// Rules and chains.
    pub(super) fn rules(&self) -> usize {
        self.chains.iter().map(|chain| chain.rules.len()).sum()
    }

    /// The operations that make this table from nothing.
    pub(super) fn create(self) -> Vec<Operation> {
        let mut operations = vec![Operation::AddTable];
        let mut filling = Vec::new();
        for (definition, elements) in self.sets {
            let name = Arc::clone(&definition.name);
            operations.push(Operation::AddSet(definition));
            filling.extend(
                elements.filter(|list| !list.is_empty()).map(|list| Operation::AddElements(name, list)),
            );
        }
        operations.extend(self.chains.into_iter().flat_map(Operation::add_chain));
        operations.extend(filling);
        operations
    }
}

/// Whether only a new table will do: a set or a hook cannot be changed in place.
fn needs_new_table(desired: &Desired, actual: &Actual) -> bool {
    let other_set = |definition: &SetDefinition| {
        actual.sets.get(&definition.name).is_some_and(|found| !is_set(found, definition))
    };
    let other_chain =
        |chain: &Chain| actual.chains.get(&chain.name).is_some_and(|found| !is_chain(found, chain));
    actual.flags != 0
        || desired.sets.iter().any(|(definition, _)| other_set(definition))
        || desired.chains.iter().any(other_chain)
}

fn is_set(found: &[u8], wanted: &SetDefinition) -> bool {
    /// `NFTA_SET_FLAGS`
    const FLAGS: u16 = 3;
    let mut bytes = Vec::new();
    encode::set(&mut Writer::new(&mut bytes), wanted);
    contains(found, &bytes) && crate::kernel::netlink::find_u32(found, FLAGS).unwrap_or(0) == wanted.flags()
}

fn is_chain(found: &[u8], wanted: &Chain) -> bool {
    /// `NFTA_CHAIN_HOOK`
    const HOOK: u16 = 4;
    let mut bytes = Vec::new();
    encode::chain(&mut Writer::new(&mut bytes), wanted);
    contains(found, &bytes) && crate::kernel::netlink::find(found, HOOK).is_some() == wanted.hook.is_some()
}

fn has_rules(actual: &Actual, chain: &Chain) -> bool {
    let found = actual.rules.get(&chain.name).map(Vec::as_slice).unwrap_or_default();
    found.len() == chain.rules.len()
        && found.iter().zip(&chain.rules).all(|(found, rule)| contains(found, &encode::expressions(rule)))
}

/// The operations that turn `actual` into `desired`, none if they agree. Sets that packets fill keep their elements.
pub(super) fn operations(desired: Desired, actual: Actual) -> Work {
    if needs_new_table(&desired, &actual) {
        let mut required = vec![Operation::DeleteTable];
        required.extend(desired.create());
        return Work { required, cleanup: Vec::new() };
    }
    let mut steps = Steps::default();
    steps.compare_chains(&desired, &actual);
    steps.compare_sets(desired, actual);
    steps.in_order()
}

/// Operations by when they are possible: nothing is deleted while something refers to it, nor used before it exists.
#[derive(Debug, Default)]
struct Steps {
    clear: Vec<Operation>,
    remove: Vec<Operation>,
    create: Vec<Operation>,
    rules: Vec<Operation>,
    add: Vec<Operation>,
    delete: Vec<Operation>,
}

impl Steps {
    fn in_order(self) -> Work {
        let mut required = self.clear;
        for step in [self.remove, self.create, self.rules, self.add] {
            required.extend(step);
        }
        Work { required, cleanup: self.delete }
    }

    fn compare_chains(&mut self, desired: &Desired, actual: &Actual) {
        let wanted: HashSet<&str> = desired.chains.iter().map(|chain| &*chain.name).collect();
        for chain in &desired.chains {
            let name = &chain.name;
            let exists = actual.chains.contains_key(name);
            if !exists {
                self.create.push(Operation::AddChain(chain.clone()));
            } else if has_rules(actual, chain) {
                continue;
            } else {
                self.clear.push(Operation::ClearChain(Arc::clone(name)));
            }
            let rules = chain.rules.iter().cloned();
            self.rules.extend(rules.map(|rule| Operation::AddRule(Arc::clone(name), rule)));
        }
        for name in actual.chains.keys().filter(|name| !wanted.contains(&***name)) {
            if actual.rules.contains_key(name) {
                self.clear.push(Operation::ClearChain(Arc::clone(name)));
            }
            self.delete.push(Operation::DeleteChain(Arc::clone(name)));
        }
    }

    fn compare_sets(&mut self, desired: Desired, mut actual: Actual) {
        let mut foreign: HashMap<Arc<str>, Vec<u8>> = std::mem::take(&mut actual.sets);
        for (definition, elements) in desired.sets {
            let name = Arc::clone(&definition.name);
            if foreign.remove(&name).is_none() {
                self.create.push(Operation::AddSet(definition));
            }
            if let Some(elements) = elements {
                self.compare_elements(&name, elements, actual.elements.remove(&name).unwrap_or_default());
            }
        }
        for name in foreign.into_keys() {
            self.remove.push(Operation::ClearSet(Arc::clone(&name)));
            self.delete.push(Operation::DeleteSet(name));
        }
    }

    fn compare_elements(&mut self, set: &Arc<str>, wanted: Vec<Element>, mut found: HashSet<Element>) {
        let missing: Vec<_> = wanted.into_iter().filter(|element| !found.remove(element)).collect();
        if !found.is_empty() {
            let mut gone: Vec<_> = found.into_iter().collect();
            gone.sort_unstable();
            self.remove.push(Operation::DeleteElements(Arc::clone(set), gone));
        }
        if !missing.is_empty() {
            self.add.push(Operation::AddElements(Arc::clone(set), missing));
        }
    }
}

#[cfg(test)]
mod tests;
