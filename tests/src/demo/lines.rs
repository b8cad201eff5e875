//! One line of a table: requests from somewhere to a frontend, and what has to become of them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;

use super::stage::Stage;
use super::tally::Tally;
use super::terminal::Row;
use super::web;
use crate::lab::{Attempt, Dial, Outcome, Protocol};

/// For requests that are to be answered or refused.
const PATIENCE: Duration = Duration::from_secs(2);
/// For requests that are to be dropped.
const SHORT_PATIENCE: Duration = Duration::from_millis(400);

/// Requests, one after the other, each from a fresh socket.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// The machine that asks.
    pub(super) from: &'static str,
    /// Its source address, where it has several.
    pub(super) source: Option<IpAddr>,
    /// Words for the frontend.
    pub(super) frontend: &'static str,
    /// The frontend.
    pub(super) to: SocketAddr,
    /// TCP is asked over HTTP.
    pub(super) protocol: Protocol,
    /// How many.
    pub(super) count: usize,
    /// What has to become of them.
    pub(super) want: Want,
}

/// What has to become of the requests of a line.
#[derive(Debug, Clone)]
pub(super) enum Want {
    /// Each of these endpoints answers some, nobody else does.
    Spread(&'static [&'static str], Seen),
    /// One of these endpoints answers all.
    One(&'static [&'static str], Seen),
    /// All are refused at once.
    Refused,
    /// No reply at all.
    Dropped,
}

/// The source address that endpoints have to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The client's own, except where the client is the endpoint: then its node's, as it would otherwise talk to
    /// itself. (In mode ebpf it does: its socket is connected to itself.)
    Client,
    /// That of the node through which the requests go. Mode ebpf keeps the client's own unless neither the client nor
    /// the endpoint is on that node.
    Node(&'static str),
}

impl Line {
    /// HTTP requests, enough of them for what is wanted.
    pub(super) fn http(from: &'static str, frontend: &'static str, to: SocketAddr, want: Want) -> Self {
        let count = match want {
            Want::Spread(..) => 48,
            Want::One(..) => 24,
            Want::Refused => 4,
            Want::Dropped => 1,
        };
        Self { from, source: None, frontend, to, protocol: Protocol::Tcp, count, want }
    }

    /// The same over UDP.
    pub(super) fn datagrams(self) -> Self {
        Self { protocol: Protocol::Udp, ..self }
    }

    /// The same from another address of the client.
    pub(super) fn source(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    fn ask(&self, stage: &Stage) -> Result<Vec<Attempt>> {
        let Self { source, to, protocol, count, .. } = *self;
        let patience = if matches!(self.want, Want::Dropped) { SHORT_PATIENCE } else { PATIENCE };
        stage.machines.host(self.from)?.worker().run(async move {
            let mut attempts = Vec::with_capacity(count);
            for _ in 0..count {
                attempts.push(match protocol {
                    Protocol::Tcp => web::ask(source, to, patience).await,
                    Protocol::Udp | Protocol::Sctp => {
                        Dial { source, ..Dial::new(protocol, to).patience(patience) }.once().await
                    }
                });
                // Silence does not get better by repetition.
                if matches!(attempts.last().map(|attempt| &attempt.outcome), Some(Outcome::Timeout)) {
                    break;
                }
            }
            attempts
        })
    }

    /// What is wrong with the outcome, in words; nothing if all is as it has to be.
    fn judge(&self, tally: &Tally, stage: &Stage) -> Result<Option<String>> {
        let words = match &self.want {
            Want::Refused if tally.refused == self.count => None,
            Want::Refused => Some("all should have been refused".to_owned()),
            Want::Dropped if tally.silent == self.count => None,
            Want::Dropped => Some("all should have been dropped".to_owned()),
            Want::Spread(pods, seen) => {
                let all: BTreeSet<IpAddr> = self.addresses(pods, stage)?;
                let found: BTreeSet<IpAddr> = tally.endpoints().into_keys().collect();
                let spread =
                    (found != all).then(|| format!("each of {} should have answered", pods.join(", ")));
                spread.or(self.judge_answers(tally, *seen, stage)?)
            }
            Want::One(pods, seen) => {
                let among = self.addresses(pods, stage)?;
                let found: Vec<IpAddr> = tally.endpoints().into_keys().collect();
                let single = found.len() == 1 && found.iter().all(|one| among.contains(one));
                let wrong = (!single).then(|| format!("one of {} should have answered", pods.join(", ")));
                wrong.or(self.judge_answers(tally, *seen, stage)?)
            }
        };
        Ok(words.map(|words| format!("{} -> {} {}: {words}", self.from, self.frontend, self.to)))
    }

    fn judge_answers(&self, tally: &Tally, seen: Seen, stage: &Stage) -> Result<Option<String>> {
        if tally.answered() != self.count {
            return Ok(Some(format!("{} of {} were not answered", tally.unanswered(), self.count)));
        }
        for (endpoint, source) in tally.answers.keys() {
            let allowed = self.allowed_sources(*endpoint, seen, stage)?;
            if !allowed.contains(source) {
                let who = stage.machines.names.of(*endpoint);
                let words: Vec<String> = allowed.iter().map(IpAddr::to_string).collect();
                return Ok(Some(format!("{who} saw {source} instead of {}", words.join(" or "))));
            }
        }
        Ok(None)
    }

    /// The source addresses an endpoint may see.
    fn allowed_sources(&self, endpoint: IpAddr, seen: Seen, stage: &Stage) -> Result<Vec<IpAddr>> {
        let from_pod = stage.machines.pods.get(self.from);
        let machine = match seen {
            Seen::Node(name) if stage.keeps_source => {
                let mut pods = stage.machines.pods.values();
                let is_here = pods.any(|pod| pod.node == name && pod.addresses.contains(&endpoint));
                if from_pod.is_some() || is_here { self.from } else { name }
            }
            Seen::Node(name) => name,
            Seen::Client => match from_pod {
                Some(pod) if pod.addresses.contains(&endpoint) && !stage.keeps_source => pod.node,
                _ => self.from,
            },
        };
        if let (Some(source), true) = (self.source, machine == self.from) {
            return Ok(vec![source]);
        }
        Ok(stage.machines.host(machine)?.addresses().to_vec())
    }

    fn addresses(&self, pods: &[&str], stage: &Stage) -> Result<BTreeSet<IpAddr>> {
        let mut found = BTreeSet::new();
        for pod in pods {
            let [v4, v6] = stage.machines.pod(pod)?.addresses;
            found.insert(if self.to.is_ipv4() { v4 } else { v6 });
        }
        Ok(found)
    }
}

impl Stage {
    /// Sends the requests of some lines, and shows what became of them.
    pub(super) fn show(&mut self, lines: &[Line]) -> Result<()> {
        let mut rows = vec![Row::of(["client", "asks", "answered by", "which saw as source"])];
        let mut wrong = Vec::new();
        for line in lines {
            let tally: Tally = line.ask(self)?.into_iter().collect();
            let names = &self.machines.names;
            let from = match line.source {
                Some(source) => format!("{} ({source})", line.from),
                None => line.from.to_owned(),
            };
            let cells = [
                from,
                format!("{} {}/{}", line.frontend, line.to, protocol_name(line.protocol)),
                tally.outcome_words(names),
                tally.source_words(names),
            ];
            let fault = line.judge(&tally, self)?;
            self.report.requests += tally.answered() + tally.unanswered();
            self.report.claim(fault.is_none(), fault.as_deref().unwrap_or_default());
            rows.push(Row::judged(cells, fault.is_none()));
            wrong.extend(fault);
        }
        self.terminal.table(&rows);
        for fault in wrong {
            self.terminal.verdict(false, &fault);
        }
        Ok(())
    }

    /// Shows a claim and whether it holds.
    pub(super) fn claim(&mut self, held: bool, words: &str) {
        self.report.claim(held, words);
        self.terminal.verdict(held, words);
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}
