//! The service whose endpoint is changed, and a plain watch that sees each change.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::floor::Floor;
use super::scene::{MOVING, MOVING_ADDRESS, MOVING_ENDPOINTS, NODE};
use super::{Probe, Scene};
use crate::bench::objects::{offset, slice};

/// How long any proxy may take for one change.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);
/// Endpoints are used in turn, so that none comes back while old connections to it are remembered.
const ENDPOINTS: usize = 4096;

/// The moving service.
#[derive(Debug)]
pub(super) struct Moving {
    moves: usize,
    floor: Floor,
}

/// One change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    /// From the write until traffic reached the new endpoint.
    pub(super) total: Duration,
    /// From the write until a plain watch saw it.
    pub(super) floor: Duration,
}

impl Moved {
    /// What the proxy took on top of the watch.
    pub(super) fn over(&self) -> Duration {
        self.total.saturating_sub(self.floor)
    }
}

impl Moving {
    pub(super) fn new(scene: &Scene) -> Result<Self> {
        Ok(Self { moves: 0, floor: Floor::start(scene)? })
    }

    /// Writes the next endpoint; returns it.
    pub(super) fn write(&mut self, scene: &Scene) -> Result<Ipv4Addr> {
        self.moves += 1;
        let endpoint = offset(MOVING_ENDPOINTS, self.moves % ENDPOINTS);
        scene.api().put(slice(MOVING, &[endpoint], NODE))?;
        Ok(endpoint)
    }

    /// Moves the endpoint and waits until traffic follows.
    pub(super) fn go(&mut self, scene: &Scene, probe: &mut Probe) -> Result<Moved> {
        let written = Instant::now();
        let endpoint = self.write(scene)?;
        let reached = probe.until(MOVING_ADDRESS, endpoint, PATIENCE)?;
        let seen = self.floor.seen(endpoint)?;
        Ok(Moved {
            total: reached.saturating_duration_since(written),
            floor: seen.saturating_duration_since(written),
        })
    }

    /// Starts the plain watch anew, after the API server was away.
    pub(super) fn watch_again(&mut self, scene: &Scene) -> Result<()> {
        self.floor = Floor::start(scene)?;
        Ok(())
    }
}
