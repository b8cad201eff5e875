//! The agent as operators run it: a program with a configuration file, a kubeconfig and an API server.
//!
//! ```text
//!   node-a  192.168.50.11   pods 10.244.1.11, .12 ...; the agent runs here
//!   control 192.168.50.100  the API server
//!   client  192.168.50.200  outside; reaches service addresses through node-a
//! ```
//!
//! Cluster IPs are in 10.96.0.0/16, external addresses in 203.0.113.0/24. [`Scene`] is all of it, [`ControlPlane`] the
//! API server, [`Metrics`] what the agent counts.

mod control_plane;
mod envtest;
mod metrics;
mod program;
mod scene;

pub use control_plane::{ApiKind, ControlPlane};
pub use metrics::Metrics;
pub use program::{AgentRun, Ended};
pub use scene::{CHANGE_PATIENCE, Scene, at, tcp, udp};

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(30);

/// Repeats a look until it finds something; fails with `what` when it takes too long.
pub fn eventually<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if started.elapsed() > patience {
            bail!("not within {patience:?}: {what}");
        }
        sleep(PAUSE);
    }
}
