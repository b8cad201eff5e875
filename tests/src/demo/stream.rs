//! A steady stream of requests, each on a connection of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::names::Names;
use super::web;
use crate::lab::{Attempt, Host, Outcome, Reply};

/// Longer than a retransmitted SYN takes, so that a lost packet shows as a slow request and not as nothing.
const PATIENCE: Duration = Duration::from_secs(3);

/// One request of a stream.
#[derive(Debug)]
pub(super) struct Sample {
    /// When it began, since the stream's epoch.
    pub(super) at: Duration,
    /// What became of it.
    pub(super) attempt: Attempt,
}

impl Sample {
    /// Whether it was answered.
    pub(super) fn is_answered(&self) -> bool {
        matches!(&self.attempt.outcome, Outcome::Answer(answer) if answer.problem.is_none())
    }
}

/// A client that asks every few milliseconds, whether or not earlier requests were answered.
#[derive(Debug)]
pub(super) struct Stream {
    stop: CancellationToken,
    reply: Reply<Vec<Sample>>,
}

impl Stream {
    /// Begins; `epoch` is the zero of the samples' times.
    pub(super) fn start(host: &Host, to: SocketAddr, every: Duration, epoch: Instant) -> Self {
        let stop = CancellationToken::new();
        let reply = host.worker().spawn(ask_until(stop.clone(), to, every, epoch));
        Self { stop, reply }
    }

    /// Ends, and waits for the requests that are under way.
    pub(super) fn finish(self) -> Result<Vec<Sample>> {
        self.stop.cancel();
        self.reply.wait()
    }
}

async fn ask_until(stop: CancellationToken, to: SocketAddr, every: Duration, epoch: Instant) -> Vec<Sample> {
    let mut requests = JoinSet::new();
    let mut clock = tokio::time::interval(every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        clock.tick().await;
        requests.spawn(async move {
            let at = epoch.elapsed();
            Sample { at, attempt: web::ask(None, to, PATIENCE).await }
        });
    }
    requests.join_all().await
}

/// Requests that began within one stretch of time, by who answered: `a-1 x31  a-2 x28`.
pub(super) fn words(samples: &[&Sample], names: &Names) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for sample in samples {
        let who = match &sample.attempt.outcome {
            Outcome::Answer(answer) => names.of(answer.local.ip()),
            Outcome::Timeout | Outcome::Denied => "TIMED OUT".to_owned(),
            Outcome::Rejected(error) | Outcome::Failed(error) => error.to_uppercase(),
        };
        *counts.entry(who).or_default() += 1;
    }
    let words: Vec<String> = counts.into_iter().map(|(who, count)| format!("{who} x{count}")).collect();
    words.join("  ")
}
