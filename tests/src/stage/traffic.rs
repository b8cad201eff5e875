//! Requests that go on while something else happens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::lab::{Client, Dial, Host, Outcome, Reply};

/// Between two requests of one stream.
const PAUSE: Duration = Duration::from_millis(2);

/// A stream of new connections, one after the other.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    report: Reply<TrafficReport>,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub struct TrafficReport {
    /// Requests sent.
    pub requests: usize,
    /// Answers by endpoint.
    pub answers: BTreeMap<SocketAddr, usize>,
    /// Everything that was not an answer.
    pub failures: Vec<Outcome>,
}

impl TrafficReport {
    fn count(&mut self, outcome: Outcome) {
        self.requests += 1;
        match outcome {
            Outcome::Answer(answer) if answer.problem.is_none() => {
                *self.answers.entry(answer.local).or_default() += 1;
            }
            other => self.failures.push(other),
        }
    }
}

impl Traffic {
    /// Starts sending.
    pub fn start(host: &Host, dial: Dial) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let report = host.worker().spawn(async move {
            let mut report = TrafficReport::default();
            while !stopped.load(Ordering::Relaxed) {
                let outcome = dial.clone().once().await.outcome;
                report.count(outcome);
                tokio::time::sleep(PAUSE).await;
            }
            report
        });
        Self { stop, report }
    }

    /// Asks on one and the same socket all the time.
    pub fn on_one_socket(host: &Host, dial: Dial) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let report = host.worker().spawn(async move {
            let mut report = TrafficReport::default();
            let mut client = match Client::open(dial).await {
                Ok(client) => client,
                Err(error) => {
                    report.failures.push(Outcome::of_error(&error));
                    return report;
                }
            };
            while !stopped.load(Ordering::Relaxed) {
                let outcome = client.ask().await;
                report.count(outcome);
                tokio::time::sleep(PAUSE).await;
            }
            report
        });
        Self { stop, report }
    }

    /// Stops sending and waits for the last answer.
    pub fn finish(self) -> Result<TrafficReport> {
        self.stop.store(true, Ordering::Relaxed);
        self.report.wait()
    }
}
