//! Pods of this node: which of them ask for their sockets to be left alone.

use std::collections::{BTreeMap, BTreeSet};

use super::tracker::{Tracker, unreadable};
use crate::domain::{Event, ObjectKind, OptedOutPod};
use crate::watch::convert::{self, Converted};
use crate::watch::wire::AnyObject;

/// Tracks pods; each event has all that opted out. Of others nothing is remembered.
#[derive(Default)]
pub(super) struct PodTracker {
    opted_out: BTreeMap<String, OptedOutPod>,
    /// What the running list has given so far.
    listing: Option<BTreeSet<String>>,
    given: Option<BTreeSet<OptedOutPod>>,
    /// Pods that were complained about: their objects change often, for other reasons.
    blamed: BTreeSet<String>,
}

impl PodTracker {
    fn give(&mut self, events: &mut Vec<Event>) {
        if self.listing.is_some() {
            return;
        }
        let all: BTreeSet<OptedOutPod> = self.opted_out.values().cloned().collect();
        if self.given.as_ref() != Some(&all) {
            self.given = Some(all.clone());
            events.push(Event::OptedOut(all));
        }
    }
}

impl Tracker for PodTracker {
    fn begin_list(&mut self) {
        self.listing = Some(BTreeSet::new());
    }

    fn apply(&mut self, json: &str, events: &mut Vec<Event>) {
        let Ok(object) = serde_json::from_str::<AnyObject<'_>>(json) else {
            events.push(unreadable::<AnyObject<'_>>(ObjectKind::Pod, json));
            return;
        };
        let name = object.metadata.display_name();
        if let Some(listing) = &mut self.listing {
            listing.insert(name.clone());
        }
        let Converted { value, problems } = convert::pod(&object.metadata);
        if problems.is_empty() {
            self.blamed.remove(&name);
        } else if self.blamed.insert(name.clone()) {
            events.extend(problems.into_iter().map(|problem| Event::Problem(Box::new(problem))));
        }
        match value {
            Some(pod) => drop(self.opted_out.insert(name, pod)),
            None => drop(self.opted_out.remove(&name)),
        }
        self.give(events);
    }

    fn delete(&mut self, json: &str, events: &mut Vec<Event>) {
        if let Ok(object) = serde_json::from_str::<AnyObject<'_>>(json) {
            let name = object.metadata.display_name();
            self.opted_out.remove(&name);
            self.blamed.remove(&name);
            self.give(events);
        }
    }

    fn end_list(&mut self, events: &mut Vec<Event>) {
        if let Some(listed) = self.listing.take() {
            self.opted_out.retain(|name, _| listed.contains(name));
            self.blamed.retain(|name| listed.contains(name));
        }
        self.give(events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, annotation: &str) -> String {
        format!(
            r#"{{"metadata": {{"namespace": "a", "name": "{name}", "uid": "uid-{name}",
                "annotations": {{"shunt.dev/socket-lb": "{annotation}"}}}}}}"#
        )
    }

    fn names(events: &[Event]) -> Vec<Vec<String>> {
        let pods = events.iter().filter_map(|event| match event {
            Event::OptedOut(pods) => Some(pods),
            _ => None,
        });
        pods.map(|pods| pods.iter().map(|pod| pod.name.to_string()).collect()).collect()
    }

    #[test]
    fn nothing_is_given_before_a_list_is_complete_and_what_a_list_lacks_is_gone() {
        let (mut tracker, mut events) = (PodTracker::default(), Vec::new());
        tracker.begin_list();
        tracker.apply(&object("one", "disabled"), &mut events);
        tracker.apply(&object("two", "enabled"), &mut events);
        assert!(events.is_empty());
        tracker.end_list(&mut events);
        assert_eq!(names(&events), [["a/one"]]);
        events.clear();
        tracker.begin_list();
        tracker.end_list(&mut events);
        assert_eq!(names(&events), [[""; 0]]);
    }

    #[test]
    fn only_changes_of_who_opted_out_are_given() {
        let (mut tracker, mut events) = (PodTracker::default(), Vec::new());
        tracker.begin_list();
        tracker.end_list(&mut events);
        events.clear();
        tracker.apply(&object("other", "enabled"), &mut events);
        assert!(events.is_empty());
        for _ in 0..2 {
            tracker.apply(&object("one", "disabled"), &mut events);
        }
        tracker.delete(&object("one", "disabled"), &mut events);
        assert_eq!(names(&events), [vec!["a/one"], vec![]]);
    }

    #[test]
    fn a_pod_is_blamed_once_however_often_it_changes() {
        let (mut tracker, mut events) = (PodTracker::default(), Vec::new());
        for _ in 0..3 {
            tracker.apply(&object("one", "perhaps"), &mut events);
        }
        let problems = events.iter().filter(|event| matches!(event, Event::Problem(_))).count();
        assert_eq!(problems, 1);
    }
}
