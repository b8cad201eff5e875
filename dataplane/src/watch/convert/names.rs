//! One copy of each name that many objects share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Namespaces, node names, port names and zones repeat in thousands of objects: they are kept once.
///
/// Names that no object holds any more are dropped whenever the table has doubled.
#[derive(Debug, Default)]
pub struct Names {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    known: HashSet<Arc<str>>,
    sweep_at: usize,
}

/// Below this many names a sweep is not worth its time.
const SMALLEST_SWEEP: usize = 1024;

impl Names {
    /// The shared copy of `text`.
    pub fn shared(&self, text: &str) -> Arc<str> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = table.known.get(text) {
            return Arc::clone(name);
        }
        table.sweep();
        let name: Arc<str> = text.into();
        table.known.insert(Arc::clone(&name));
        name
    }
}

impl Table {
    fn sweep(&mut self) {
        if self.known.len() < self.sweep_at.max(SMALLEST_SWEEP) {
            return;
        }
        self.known.retain(|name| Arc::strong_count(name) > 1);
        self.sweep_at = self.known.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_allocation() {
        let names = Names::default();
        assert!(Arc::ptr_eq(&names.shared("default"), &names.shared("default")));
    }

    #[test]
    fn names_that_nobody_holds_are_forgotten_when_the_table_grows() {
        let names = Names::default();
        let held = names.shared("held");
        for number in 0..10 * SMALLEST_SWEEP {
            names.shared(&number.to_string());
        }
        assert!(names.table.lock().unwrap().known.len() <= SMALLEST_SWEEP + 1);
        assert!(Arc::ptr_eq(&held, &names.shared("held")));
    }
}
