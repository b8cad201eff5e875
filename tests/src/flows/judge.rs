//! Judging what came back of a flow.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::case::Kind;
use super::check::Check;
use super::sticky;
use super::topology::Role;
use super::words;
use crate::lab::{Answer, Attempt, Outcome};
use crate::mode::Source;

/// Where each client of a flow ended up.
pub(crate) type Mapping = BTreeMap<Option<IpAddr>, SocketAddr>;

/// The verdict on one flow.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// What was wrong, in words, each thing once; empty: the flow passed.
    pub problems: Vec<String>,
    /// Where each client ended up.
    pub mapping: Mapping,
}

/// Judges a flow; `earlier` holds the mappings of flows before it, by name.
pub(crate) fn judge(check: &Check, attempts: &[Attempt], earlier: &BTreeMap<String, Mapping>) -> Verdict {
    let mut problems = Vec::new();
    for attempt in attempts {
        let wrong: Result<Vec<_>, ()> =
            check.flow.expect.kinds.iter().map(|kind| mismatch(check, *kind, attempt).ok_or(())).collect();
        if let Ok(mut wrong) = wrong {
            wrong.dedup();
            let words = wrong.join(" / ");
            if !problems.contains(&words) {
                problems.push(words);
            }
        }
    }
    if attempts.is_empty() {
        problems.push("nothing was sent".to_owned());
    }
    let mut mapping = Mapping::new();
    if problems.is_empty() && check.expects_endpoints() {
        (problems, mapping) = sticky::judge_distribution(check, attempts, earlier);
    }
    Verdict { problems, mapping }
}

/// Why one attempt is not of a kind, or `None` when it is.
fn mismatch(check: &Check, kind: Kind, attempt: &Attempt) -> Option<String> {
    let seen = || Some(words::seen(check, attempt));
    match (kind, &attempt.outcome) {
        (Kind::Drop, Outcome::Timeout | Outcome::Denied) => None,
        (Kind::Reject, Outcome::Rejected(_) | Outcome::Denied) => (attempt.elapsed >= check.reject_limit())
            .then(|| format!("rejected only after {:.1} s", attempt.elapsed.as_secs_f64())),
        // Left alone, a packet to the agent's own port is answered or refused.
        (Kind::None, Outcome::Rejected(_) | Outcome::Failed(_)) if check.belongs_to_agent => None,
        (Kind::Endpoints | Kind::None, Outcome::Answer(answer)) => {
            let wanted = match kind {
                Kind::Endpoints => check.endpoints.contains(&answer.local),
                _ => answer.local == check.flow.destination(),
            };
            if let Some(problem) = &answer.problem {
                Some(problem.clone())
            } else if wanted {
                masquerade_mismatch(check, kind, attempt.from, answer)
            } else {
                seen()
            }
        }
        _ => seen(),
    }
}

/// Whether the endpoint saw the right source. What starts on the node is not
/// looked at: there masquerading cannot be told from its absence.
fn masquerade_mismatch(check: &Check, kind: Kind, from: Option<IpAddr>, answer: &Answer) -> Option<String> {
    let (local, peer) = (answer.local, answer.peer.ip());
    let from = from?;
    let wanted = match kind {
        _ if check.role == Role::Node => return None,
        Kind::None if check.flow.expect.masquerade? => return None,
        Kind::None => Source::Client,
        _ => check.source(from, local.ip())?,
    };
    match (wanted, peer == from) {
        (Source::Masqueraded, true) => {
            Some(format!("{local} answered, but saw the client's own address {peer} (not masqueraded)"))
        }
        (Source::Client, false) => {
            Some(format!("{local} answered, but saw {peer} instead of {from} (masqueraded)"))
        }
        _ => None,
    }
}
