//! Requests that go on while something else happens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::lab::{Dial, Host, Outcome, Reply};

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

impl Traffic {
    /// Starts sending.
    pub fn start(host: &Host, dial: Dial) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let report = host.worker().spawn(async move {
            let mut report = TrafficReport::default();
            while !stopped.load(Ordering::Relaxed) {
                report.requests += 1;
                match dial.clone().once().await.outcome {
                    Outcome::Answer(answer) if answer.problem.is_none() => {
                        *report.answers.entry(answer.local).or_default() += 1;
                    }
                    other => report.failures.push(other),
                }
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
