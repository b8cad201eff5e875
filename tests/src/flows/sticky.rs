//! How a flow's connections spread over the endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::case::Distribution;
use super::check::{ATTEMPTS_PER_ENDPOINT, Check};
use super::judge::Mapping;
use super::words::list;
use crate::lab::{Attempt, Outcome};

/// Clients named in a message about moved clients.
const NAMED_CLIENTS: usize = 4;

/// Problems with the spread, and where each client ended up. All attempts
/// have been answered by endpoints of the flow.
pub(crate) fn judge_distribution(
    check: &Check,
    attempts: &[Attempt],
    earlier: &BTreeMap<String, Mapping>,
) -> (Vec<String>, Mapping) {
    let mut by_client: BTreeMap<Option<IpAddr>, BTreeSet<SocketAddr>> = BTreeMap::new();
    for attempt in attempts {
        if let Outcome::Answer(answer) = &attempt.outcome {
            by_client.entry(attempt.from).or_default().insert(answer.local);
        }
    }
    let seen: BTreeSet<_> = by_client.values().flatten().copied().collect();
    let missing: Vec<_> = check.endpoints.difference(&seen).collect();
    let mut problems = Vec::new();
    match check.distribution {
        Distribution::All if !missing.is_empty() && check.flow.session.is_none() => {
            problems.push(format!("{} never answered in {} attempts", list(&missing), attempts.len()));
        }
        Distribution::Sticky => {
            problems.extend(clients_that_moved(&by_client));
            if !missing.is_empty() && by_client.len() >= ATTEMPTS_PER_ENDPOINT * check.endpoints.len() {
                problems.push(format!(
                    "{} never chosen for any of {} clients",
                    list(&missing),
                    by_client.len()
                ));
            }
        }
        Distribution::All | Distribution::Any => {}
    }
    let first = |(client, seen): (Option<IpAddr>, BTreeSet<SocketAddr>)| Some((client, *seen.first()?));
    let mapping: Mapping = by_client.into_iter().filter_map(first).collect();
    problems.extend(compare_with_earlier(check, &mapping, earlier));
    (problems, mapping)
}

fn clients_that_moved(
    by_client: &BTreeMap<Option<IpAddr>, BTreeSet<SocketAddr>>,
) -> impl Iterator<Item = String> {
    by_client.iter().filter(|(_, seen)| seen.len() > 1).map(|(client, seen)| {
        let client = client.map_or("of the node".to_owned(), |client| client.to_string());
        format!("client {client} did not stay: {}", list(seen))
    })
}

fn compare_with_earlier(
    check: &Check,
    mapping: &Mapping,
    earlier: &BTreeMap<String, Mapping>,
) -> Vec<String> {
    let expect = &check.flow.expect;
    let mut problems = Vec::new();
    for name in [&expect.same_as, &expect.differs_from].into_iter().flatten() {
        if !earlier.contains_key(name) {
            problems.push(format!("there is no earlier flow {name:?} that passed"));
        }
    }
    if let Some((name, before)) = expect.same_as.as_ref().and_then(|name| earlier.get_key_value(name)) {
        let moved: Vec<_> = mapping
            .iter()
            .filter_map(|(client, now)| Some((client, before.get(client)?, now)))
            .filter(|(_, before, now)| before != now)
            .map(|(client, before, now)| {
                let client = client.map_or("node".to_owned(), |client| client.to_string());
                format!("{client} from {before} to {now}")
            })
            .take(NAMED_CLIENTS)
            .collect();
        if !moved.is_empty() {
            problems.push(format!("moved since {name:?}: {}", moved.join("; ")));
        }
    }
    if let Some(name) = &expect.differs_from
        && earlier.get(name) == Some(mapping)
    {
        problems.push(format!("every client is still where it was in {name:?}"));
    }
    problems
}
