//! Flows, expectations and observations in words.

use std::fmt::Display;

use super::case::{Distribution, Kind};
use super::check::Check;
use crate::lab::{Attempt, Outcome};

/// Items with commas between.
pub(crate) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// What one attempt met.
pub(crate) fn seen(check: &Check, attempt: &Attempt) -> String {
    match &attempt.outcome {
        Outcome::Answer(answer)
            if answer.local == check.flow.destination() && !check.flow.expect.kinds.contains(&Kind::None) =>
        {
            format!("not translated: arrived at {} as {}", check.destination_role.name(), answer.local)
        }
        Outcome::Answer(answer) => format!("answered by {} (which saw {})", answer.local, answer.peer),
        Outcome::Timeout => "dropped (no answer)".to_owned(),
        Outcome::Rejected(error) => format!("rejected ({error})"),
        Outcome::Denied => "denied by the client's own machine".to_owned(),
        Outcome::Failed(error) => format!("failed: {error}"),
    }
}

/// What a flow should do.
pub(crate) fn expectation(check: &Check) -> String {
    let kinds = check.flow.expect.kinds.iter().map(|kind| match kind {
        Kind::Endpoints => endpoints(check),
        Kind::Reject => "reject".to_owned(),
        Kind::Drop => "drop".to_owned(),
        Kind::None => "left alone".to_owned(),
    });
    kinds.collect::<Vec<_>>().join(" or ")
}

fn endpoints(check: &Check) -> String {
    let spread = match check.distribution {
        Distribution::All => "",
        Distribution::Sticky => " (each client stays)",
        Distribution::Any => " (any of them)",
    };
    let source = match check.flow.expect.masquerade {
        None => "",
        Some(true) => ", masqueraded by kube-proxy",
        Some(false) => ", not masqueraded",
    };
    format!("{}{spread}{source}", list(&check.endpoints))
}

/// The flow in one line.
pub(crate) fn heading(check: &Check) -> String {
    let flow = &check.flow;
    let from = flow.from.map_or("the node".to_owned(), |from| from.to_string());
    let (name, role) = (&check.name, check.role.name());
    format!("{name}: {:?} {from} ({role}) -> {}", flow.protocol, flow.destination())
}
