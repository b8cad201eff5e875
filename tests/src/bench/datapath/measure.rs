//! What is measured.

use std::fs;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::conversation::{Kept, connect, datagram, exchange};
use super::site::{Route, Server, Site};
use crate::bench::figure::Unit;
use crate::bench::samples::Samples;

/// Conversations before the ones that count.
const WARM_UP: usize = 50;
/// For how long transactions are counted.
const RATE_WINDOW: Duration = Duration::from_millis(250);

/// Where the conversations of a lane go to, by route.
#[derive(Debug, Clone, Copy)]
pub(super) struct Targets {
    pub(super) pod_to_pod: Target,
    pub(super) outside_to_local: Target,
    pub(super) outside_to_remote: Target,
}

/// One address with both protocols.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) tcp: SocketAddrV4,
    pub(super) udp: SocketAddrV4,
}

impl Targets {
    pub(super) fn of(&self, route: Route) -> Target {
        match route {
            Route::PodToPod => self.pod_to_pod,
            Route::OutsideToLocal => self.outside_to_local,
            Route::OutsideToRemote => self.outside_to_remote,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connect,
    Exchange,
    Kept,
    Datagram,
    /// Transactions per second on one thread, and its processor time for each.
    Rate,
}

/// A kind of conversation on a route.
#[derive(Debug)]
pub(super) struct Measure {
    pub(super) name: &'static str,
    kind: Kind,
    route: Route,
    /// Second result, of [`Kind::Rate`].
    cpu: Option<&'static str>,
}

const fn measure(name: &'static str, kind: Kind, route: Route) -> Measure {
    Measure { name, kind, route, cpu: None }
}

/// All of them, in the order of the report.
pub(super) static MEASURES: &[Measure] = &[
    measure("connect", Kind::Connect, Route::PodToPod),
    measure("CRR", Kind::Exchange, Route::PodToPod),
    measure("RR", Kind::Kept, Route::PodToPod),
    measure("UDP exchange", Kind::Datagram, Route::PodToPod),
    Measure { cpu: Some("CPU per CRR"), ..measure("CRR rate", Kind::Rate, Route::PodToPod) },
    measure("NodePort connect, local endpoint", Kind::Connect, Route::OutsideToLocal),
    measure("NodePort CRR, local endpoint", Kind::Exchange, Route::OutsideToLocal),
    measure("NodePort UDP, local endpoint", Kind::Datagram, Route::OutsideToLocal),
    measure("NodePort connect, remote endpoint", Kind::Connect, Route::OutsideToRemote),
    measure("NodePort CRR, remote endpoint", Kind::Exchange, Route::OutsideToRemote),
    measure("NodePort RR, remote endpoint", Kind::Kept, Route::OutsideToRemote),
];

/// What one lane did in one round.
#[derive(Debug)]
pub(super) enum Block {
    Times(Samples),
    Rate { per_second: f64, cpu: Duration },
}

impl Measure {
    /// Names of the results, one or two.
    pub(super) fn results(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.cpu)
    }

    /// One block of conversations.
    pub(super) fn run(&self, site: &Site, targets: &Targets, samples: usize) -> Result<Block> {
        let (namespace, server) = site.ends(self.route);
        let target = targets.of(self.route);
        server.drain()?;
        namespace.run(|| match self.kind {
            Kind::Connect => times(samples, || connect(target.tcp, server)),
            Kind::Exchange => times(samples, || exchange(target.tcp, server)),
            Kind::Datagram => times(samples, || datagram(target.udp, server)),
            Kind::Kept => {
                let mut kept = Kept::open(target.tcp, server)?;
                times(samples, || kept.exchange())
            }
            Kind::Rate => rate(target, server),
        })?
    }
}

impl Block {
    /// Results with their names.
    pub(super) fn values(self, measure: &Measure) -> Vec<(&'static str, Unit, f64, Option<Samples>)> {
        match self {
            Self::Times(samples) => {
                vec![(measure.name, Unit::Nanoseconds, samples.quantile(0.5), Some(samples))]
            }
            Self::Rate { per_second, cpu } => {
                let cpu = measure.cpu.map(|name| (name, Unit::Nanoseconds, cpu.as_secs_f64() * 1e9, None));
                std::iter::once((measure.name, Unit::PerSecond, per_second, None)).chain(cpu).collect()
            }
        }
    }
}

fn times(count: usize, mut once: impl FnMut() -> Result<Duration>) -> Result<Block> {
    for _ in 0..WARM_UP {
        once()?;
    }
    let mut samples = Samples::new()?;
    for _ in 0..count {
        samples.add(once()?)?;
    }
    Ok(Block::Times(samples))
}

fn rate(target: Target, server: &Server) -> Result<Block> {
    for _ in 0..WARM_UP {
        exchange(target.tcp, server)?;
    }
    let (cpu, begun) = (thread_cpu()?, Instant::now());
    let mut count = 0_u32;
    while begun.elapsed() < RATE_WINDOW {
        exchange(target.tcp, server)?;
        count += 1;
    }
    let per_second = f64::from(count) / begun.elapsed().as_secs_f64();
    Ok(Block::Rate { per_second, cpu: thread_cpu()?.saturating_sub(cpu) / count.max(1) })
}

/// Processor time of this thread. The way of its packets is part of it.
fn thread_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").context("reading a thread's time")?;
    let time =
        text.split(' ').next().and_then(|word| word.parse().ok()).context("reading a thread's time")?;
    Ok(Duration::from_nanos(time))
}
