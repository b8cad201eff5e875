//! What is programmed in one table, as little of it as a change needs to know: how many frontends use each shared
//! object. Everything else follows from the old and new specification of a frontend.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::element::Element;
use super::render::{self, Placed};
use super::set::StaticSet;
use super::unit::Unit;
use crate::domain::IpFamily;
use crate::plan::{Change, Frontend, FrontendSpec, Globals};

/// Elements by the set they are in.
pub(super) type Elements = BTreeMap<StaticSet, Vec<Element>>;

/// What has to be done to a table to get from one state to the next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) remove: Elements,
    /// Each after those it depends on.
    pub(super) create: Vec<Unit>,
    pub(super) add: Elements,
    /// Each before those it depends on.
    pub(super) delete: Vec<Unit>,
}

impl Difference {
    pub(super) fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    fn push(&mut self, adding: bool, (set, element): Placed) {
        let elements = if adding { &mut self.add } else { &mut self.remove };
        elements.entry(set).or_default().push(element);
    }
}

/// The state of one table.
#[derive(Debug)]
pub(super) struct Model {
    family: IpFamily,
    /// Users of each unit, by name.
    units: HashMap<String, u32>,
    /// Users of each shared element.
    shared: HashMap<Placed, u32>,
    globals: Globals,
    /// Elements in all static sets.
    elements: u64,
}

impl Model {
    /// A table without any frontend.
    pub(super) fn new(family: IpFamily) -> Self {
        Self {
            family,
            units: HashMap::new(),
            shared: HashMap::new(),
            globals: Globals::default(),
            elements: 0,
        }
    }

    /// Elements in all static sets.
    pub(super) const fn elements(&self) -> u64 {
        self.elements
    }

    /// Chains that exist because of some frontend.
    pub(super) fn units(&self) -> usize {
        self.units.len()
    }

    /// Moves on to the next state; frontends of the other family are left out.
    pub(super) fn change<'a>(
        &mut self,
        changes: impl Iterator<Item = (&'a Frontend, Option<&'a FrontendSpec>, Option<&'a FrontendSpec>)>,
        globals: Option<&Globals>,
    ) -> Difference {
        let mut difference = Difference::default();
        let mut released = Vec::new();
        let mut users: HashMap<Placed, i64> = HashMap::new();
        let family = self.family;
        for (frontend, old, new) in changes.filter(|change| change.0.family() == family) {
            let render = |spec: Option<&FrontendSpec>| {
                spec.map(|spec| render::frontend(frontend, spec)).unwrap_or_default()
            };
            let (old, new) = (render(old), render(new));
            if let Some(entry) = &new.entry {
                self.acquire(entry, &mut difference.create);
            }
            released.extend(old.entry);
            replace(&mut difference, old.own, new.own);
            count(&mut users, old.shared, -1);
            count(&mut users, new.shared, 1);
        }
        // Last, so that nothing is deleted that another change needs.
        for entry in released {
            self.release(&entry, &mut difference.delete);
        }
        self.settle(users, &mut difference);
        if let Some(globals) = globals {
            replace(
                &mut difference,
                render::globals(&self.globals, self.family),
                render::globals(globals, self.family),
            );
            self.globals = globals.clone();
        }
        let total = |elements: &Elements| elements.values().map(|list| list.len() as u64).sum::<u64>();
        self.elements = self.elements + total(&difference.add) - total(&difference.remove).min(self.elements);
        difference
    }

    fn acquire(&mut self, unit: &Unit, create: &mut Vec<Unit>) {
        let users = self.units.entry(unit.name()).or_insert(0);
        *users += 1;
        if *users == 1 {
            for dependency in unit.dependencies() {
                self.acquire(&dependency, create);
            }
            create.push(unit.clone());
        }
    }

    fn release(&mut self, unit: &Unit, delete: &mut Vec<Unit>) {
        let name = unit.name();
        let Some(users) = self.units.get_mut(&name) else { return };
        *users -= 1;
        if *users == 0 {
            self.units.remove(&name);
            delete.push(unit.clone());
            for dependency in unit.dependencies() {
                self.release(&dependency, delete);
            }
        }
    }

    /// Shared elements appear with their first user and go with their last.
    fn settle(&mut self, users: HashMap<Placed, i64>, difference: &mut Difference) {
        for (placed, by) in users.into_iter().filter(|(_, by)| *by != 0) {
            let before = i64::from(self.shared.get(&placed).copied().unwrap_or(0));
            match u32::try_from(before + by).unwrap_or(0) {
                0 => {
                    self.shared.remove(&placed);
                }
                now => {
                    self.shared.insert(placed.clone(), now);
                }
            }
            match (before, before + by) {
                (0, _) => difference.push(true, placed),
                (_, 0) => difference.push(false, placed),
                _ => {}
            }
        }
    }
}

/// The changes of a list, as [`Model::change`] takes them.
pub(super) fn parts(change: &Change) -> (&Frontend, Option<&FrontendSpec>, Option<&FrontendSpec>) {
    (&change.frontend, change.old.as_deref(), change.new.as_deref())
}

fn count(users: &mut HashMap<Placed, i64>, elements: Vec<Placed>, by: i64) {
    for element in elements {
        *users.entry(element).or_insert(0) += by;
    }
}

/// Removes what is only in `old` and adds what is only in `new`. An element whose value differs is both.
fn replace(difference: &mut Difference, old: Vec<Placed>, new: Vec<Placed>) {
    if old.is_empty() {
        for placed in new {
            difference.push(true, placed);
        }
        return;
    }
    let mut gone: HashSet<Placed> = old.into_iter().collect();
    for placed in new {
        if !gone.remove(&placed) {
            difference.push(true, placed);
        }
    }
    let mut gone: Vec<_> = gone.into_iter().collect();
    gone.sort_unstable();
    for placed in gone {
        difference.push(false, placed);
    }
}

#[cfg(test)]
mod tests;
