//! What must become of a packet, and whether it did.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::TestCaseError;
use proptest::sample::Index;
use shunt::domain::Protocol;
use shunt::kernel::{Inspected, Trial};
use shunt::plan::explain::{Client, Explanation, Question, Scope, Source, Verdict};

use crate::node::{MARK, Node};
use crate::objects::{DESTINATIONS, PORTS};

/// Who sends, in both families. The node sends by the interface that is on the way out.
const CLIENTS: [(Client, [&str; 2]); 4] = [
    (Client::Pod, ["10.0.0.1", "fd00:10::1"]),
    (Client::Pod, ["10.0.0.77", "fd00:10::77"]),
    (Client::Outside, ["198.51.100.7", "2001:db8:9::7"]),
    (Client::Node, ["192.168.0.2", "2001:db8::2"]),
];

/// How often each kind of thing was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    forwarded: [usize; 2],
    masqueraded: usize,
    hairpinned: usize,
    rejected: usize,
    dropped: usize,
    untouched: usize,
    /// At first, for want of the masquerade rule. The rule stays, so there may be none.
    turned_away: usize,
}

impl Seen {
    /// Everything was there.
    pub(crate) fn is_broad(&self) -> bool {
        let Self {
            forwarded: [four, six],
            masqueraded,
            hairpinned,
            rejected,
            dropped,
            untouched,
            turned_away: _,
        } = *self;
        [four, six, masqueraded, hairpinned, rejected, dropped, untouched].iter().all(|count| *count > 5)
    }
}

/// Runs one packet through the programs.
pub(crate) fn check(
    node: &mut Node,
    &(client, to, port): &(Index, Index, Index),
    seen: &mut Seen,
) -> Result<(), TestCaseError> {
    let question = question(node, client, to, port);
    if question.client == Client::Node && is_own(question.to.ip()) {
        // The node's way to itself goes by lo, where nothing is translated on the way out of it: see the packet tests.
        return Ok(());
    }
    let expected = node.explain(&question);
    let mut inspected = node.probe(question);
    let comes_from_outside =
        expected.verdict == Verdict::Forward(Source::NotAPod) && question.client == Client::Outside;
    let turned_away = comes_from_outside && is_dropped(&inspected);
    if turned_away {
        inspected = until_let_in(node, question);
    }
    let Some(trial) = &inspected.probe else { return Err(TestCaseError::fail(inspected.to_string())) };
    let fail = |reason: &str| Err(TestCaseError::fail(format!("{reason}\n{expected}\n{inspected}")));
    if turned_away {
        seen.turned_away += 1;
        // What is not masqueraded needs no rule, and so nothing to wait for.
        if trial.mark != MARK {
            return fail("must not be turned away at first");
        }
    }
    match expected.verdict {
        Verdict::Forward(source) => match forwarded(node, &question, (&expected, source), trial, seen) {
            Ok(()) => Ok(()),
            Err(reason) => fail(&reason),
        },
        Verdict::Reject(_) => {
            seen.rejected += 1;
            let answers = ["RST", "DestinationUnreachable", "unreachable"];
            let refused = answers.iter().any(|answer| trial.became.contains(answer));
            // There is no answer to an SCTP packet but silence or ICMP.
            if refused { Ok(()) } else { fail("must be refused") }
        }
        Verdict::Drop(_) => {
            seen.dropped += 1;
            if trial.verdict == "dropped" { Ok(()) } else { fail("must be dropped") }
        }
        Verdict::Untouched(_) => {
            seen.untouched += 1;
            let passes = trial.verdict.starts_with("next") && trial.became == "unchanged";
            if passes && trial.mark == 0 { Ok(()) } else { fail("must be left alone") }
        }
    }
}

/// Between two packets of a client that is turned away, and how many it sends.
const PAUSE: Duration = Duration::from_millis(20);
const ATTEMPTS: usize = 1_000;

/// The first client from outside of the cluster is let in once masquerading has begun: it sends again.
fn until_let_in(node: &mut Node, question: Question) -> Inspected {
    for _ in 0..ATTEMPTS {
        std::thread::sleep(PAUSE);
        let inspected = node.probe(question);
        if !is_dropped(&inspected) {
            return inspected;
        }
    }
    node.probe(question)
}

fn is_dropped(inspected: &Inspected) -> bool {
    inspected.probe.as_ref().is_some_and(|trial| trial.verdict == "dropped")
}

/// Three of four packets are to something that is programmed.
fn question(node: &Node, client: Index, to: Index, port: Index) -> Question {
    let frontends = node.frontends();
    let programmed = (!frontends.is_empty() && port.index(4) > 0).then(|| *to.get(&frontends));
    let (to, protocol) = programmed.unwrap_or_else(|| anything(to, port));
    let (client, addresses) = client.get(&CLIENTS);
    let [four, six] = addresses;
    let from = if to.is_ipv4() { four } else { six }.parse().unwrap();
    Question { from, client: *client, to, protocol }
}

fn anything(to: Index, port: Index) -> (SocketAddr, Protocol) {
    let choices: Vec<_> =
        PORTS.iter().flat_map(|port| Protocol::ALL.map(|protocol| (*port, protocol))).collect();
    let (port, protocol) = *port.get(&choices);
    (SocketAddr::new(to.get(&DESTINATIONS).parse().unwrap(), port), protocol)
}

fn is_own(address: IpAddr) -> bool {
    ["192.168.0.2", "2001:db8::2"].iter().any(|own| address.to_string() == *own)
}

fn forwarded(
    node: &Node,
    question: &Question,
    (expected, source): (&Explanation, Source),
    trial: &Trial,
    seen: &mut Seen,
) -> Result<(), String> {
    let mut words = trial.became.split(' ');
    let (Some(from), Some("->"), Some(endpoint)) = (words.next(), words.next(), words.next()) else {
        return Err("must go to an endpoint".to_owned());
    };
    let eligible = expected.endpoints.iter().filter(|answer| answer.standing.is_eligible());
    if !eligible.map(|answer| answer.endpoint.to_string()).any(|eligible| eligible == endpoint) {
        return Err(format!("{endpoint} is not eligible"));
    }
    let [four, six] = &mut seen.forwarded;
    *if question.to.is_ipv4() { four } else { six } += 1;
    let itself = endpoint.parse::<SocketAddr>().is_ok_and(|endpoint| endpoint.ip() == question.from);
    // From another node it would not find the way back to a reserved address.
    if itself && !masquerades(node, question, (expected, source), endpoint) {
        seen.hairpinned += 1;
        let swapped = !from.contains(&question.from.to_string()) && trial.verdict.starts_with("sent back");
        return if swapped { Ok(()) } else { Err("must come back from a reserved address".to_owned()) };
    }
    if from != SocketAddr::new(question.from, 1).to_string() {
        return Err("the client's address must stay".to_owned());
    }
    let mark = if masquerades(node, question, (expected, source), endpoint) { MARK } else { 0 };
    seen.masqueraded += usize::from(mark != 0);
    if trial.mark == mark { Ok(()) } else { Err(format!("the mark must be {mark:#x}")) }
}

/// Where kube-proxy masquerades more, the client's address is kept: a reply finds its way back to this node from a local
/// endpoint, and to this node itself from anywhere.
fn masquerades(
    node: &Node,
    question: &Question,
    (expected, source): (&Explanation, Source),
    endpoint: &str,
) -> bool {
    let wanted = match source {
        Source::Kept | Source::FromNode => false,
        Source::MasqueradeAll => true,
        Source::NotAPod => question.client == Client::Outside,
        Source::ExternalTraffic => question.client != Client::Node,
    };
    let scope = expected.frontend.as_ref().map(|frontend| frontend.scope);
    wanted && scope.is_some_and(|scope| scope == Scope::Cluster) && !node.is_local(endpoint)
}
