//! Sending one flow: as many conversations as it takes to judge it.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::task::JoinSet;

use crate::lab::{Attempt, Client, Dial, Outcome};

/// Silence this often in a row from one client: more would not tell more.
const ENOUGH_SILENCE: usize = 2;

/// Name of the session and source of the client.
type SessionKey = (String, Option<IpAddr>);

/// Sockets that flows keep, by session name and source.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions {
    open: Arc<Mutex<HashMap<SessionKey, Client>>>,
}

impl Sessions {
    fn take(&self, key: &SessionKey) -> Option<Client> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(key)
    }

    fn keep(&self, key: SessionKey, client: Client) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(key, client);
    }
}

/// How to send a flow.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    /// The conversation; its source is taken from `sources`.
    pub dial: Dial,
    /// One client each; `None`: the kernel chooses the source.
    pub sources: Vec<Option<IpAddr>>,
    /// Conversations of each client, at least.
    pub min: usize,
    /// Conversations of each client, at most.
    pub max: usize,
    /// A client goes on beyond `min` until all of these have answered.
    pub expected: BTreeSet<SocketAddr>,
    /// All conversations at the same time: for those that end in silence.
    pub concurrent: bool,
    /// Keep the sockets under this name.
    pub session: Option<String>,
}

impl Probe {
    /// Sends everything; to be called on the worker of the flow's machine.
    pub(crate) async fn run(self, sessions: Sessions) -> Vec<Attempt> {
        if self.concurrent {
            return self.run_at_once().await;
        }
        let mut attempts = Vec::new();
        for source in &self.sources {
            attempts.extend(self.run_client(*source, &sessions).await);
        }
        attempts
    }

    async fn run_at_once(self) -> Vec<Attempt> {
        let mut running = JoinSet::new();
        for source in &self.sources {
            for _ in 0..self.min {
                running.spawn(Dial { source: *source, ..self.dial.clone() }.once());
            }
        }
        running.join_all().await
    }

    async fn run_client(&self, source: Option<IpAddr>, sessions: &Sessions) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        let mut missing = self.expected.clone();
        let mut silent = 0;
        while attempts.len() < self.max {
            let attempt = self.attempt(source, sessions).await;
            match &attempt.outcome {
                Outcome::Answer(answer) => drop(missing.remove(&answer.local)),
                Outcome::Timeout => silent += 1,
                Outcome::Rejected(_) | Outcome::Denied | Outcome::Failed(_) => {}
            }
            attempts.push(attempt);
            if silent == ENOUGH_SILENCE || (attempts.len() >= self.min && missing.is_empty()) {
                break;
            }
        }
        attempts
    }

    async fn attempt(&self, source: Option<IpAddr>, sessions: &Sessions) -> Attempt {
        let dial = Dial { source, ..self.dial.clone() };
        match &self.session {
            Some(name) => ask_in_session(dial, (name.clone(), source), sessions).await,
            None => dial.once().await,
        }
    }
}

/// Uses the session's socket, or opens it. A UDP socket that was aborted is
/// opened anew next time, as resolvers do; a TCP connection is not.
async fn ask_in_session(dial: Dial, key: SessionKey, sessions: &Sessions) -> Attempt {
    let (started, from) = (Instant::now(), dial.source);
    let client = match sessions.take(&key) {
        Some(client) => Ok(client),
        None => Client::open(dial).await,
    };
    let outcome = match client {
        Ok(mut client) => {
            let outcome = client.ask().await;
            if !client.was_aborted() {
                sessions.keep(key, client);
            }
            outcome
        }
        Err(error) => Outcome::of_error(&error),
    };
    Attempt { from, outcome, elapsed: started.elapsed() }
}
