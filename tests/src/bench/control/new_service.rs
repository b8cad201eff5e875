//! A new service: two writes, then traffic.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::moving::PATIENCE;
use super::scene::NODE;
use super::{Case, Probe, Scene};
use crate::bench::figure::Figure;
use crate::bench::objects::{offset, service, slice};
use crate::bench::samples::Samples;

/// Cluster IPs of new services.
const ADDRESSES: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
/// Their endpoints.
const ENDPOINTS: Ipv4Addr = Ipv4Addr::new(10, 206, 0, 1);

pub(super) fn measure(case: &mut Case<'_>, scene: &mut Scene, probe: &mut Probe) -> Result<()> {
    let mut samples = Samples::new()?;
    for number in 0..case.plan.new_services {
        std::thread::sleep(Duration::from_micros(rand::random_range(30_000..70_000)));
        let name = format!("new-{number:04}");
        let (address, endpoint) = (offset(ADDRESSES, number), offset(ENDPOINTS, number));
        let written = Instant::now();
        scene.api().put(service(&name, address))?;
        scene.api().put(slice(&name, &[endpoint], NODE))?;
        let reached = probe.until(address, endpoint, PATIENCE)?;
        probe.forget()?;
        samples.add(reached.saturating_duration_since(written))?;
    }
    scene.proxy()?.check()?;
    case.record(Figure::durations(case.key("new service"), &samples));
    Ok(())
}
