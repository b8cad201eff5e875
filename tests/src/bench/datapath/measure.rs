//! What is measured.

use std::fs;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::bulk::{Flow, Stream};
use super::conversation::{Kept, connect, datagram, exchange};
use super::lane::Lane;
use super::site::{Route, Server};
use super::two_threads::Service;
use crate::bench::arguments::Plan;
use crate::bench::figure::Unit;
use crate::bench::processors::Processor;
use crate::bench::samples::Samples;

/// Conversations before the ones that count.
pub(super) const WARM_UP: usize = 50;
/// A lane that is slow does so many at least.
const FEWEST: usize = 20;
/// Between two transactions of those that are offered: 2,000 a second.
const OFFERED_PERIOD: Duration = Duration::from_micros(500);

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
    /// Transactions at a fixed rate, timed from when each was due.
    Offered,
    /// Transactions per second on one thread, and its processor time for each.
    Rate,
    /// Bytes per second through one connection, and processor time for a mebibyte.
    Stream,
    /// Datagrams per second of one flow, one way, and processor time for each.
    Packets,
}

impl Kind {
    /// What is counted in a second, in its unit.
    fn rate(self, per_second: f64) -> (Unit, f64) {
        match self {
            Self::Stream => (Unit::BitsPerSecond, per_second * 8.0),
            Self::Packets => (Unit::PacketsPerSecond, per_second),
            _ => (Unit::PerSecond, per_second),
        }
    }

    /// One block with both ends on this thread.
    fn run(self, target: Target, server: &Server, effort: Effort) -> Result<Block> {
        match self {
            Self::Connect => times(effort, || connect(target.tcp, server)),
            Self::Exchange => times(effort, || exchange(target.tcp, server)),
            Self::Datagram => times(effort, || datagram(target.udp, server)),
            Self::Kept => {
                let mut kept = Kept::open(target.tcp, server)?;
                times(effort, || kept.exchange())
            }
            Self::Offered => offered(effort, || exchange(target.tcp, server)),
            Self::Rate => rate(effort, 1.0, WARM_UP, || exchange(target.tcp, server).map(|_| 1)),
            Self::Stream => {
                let mut stream = Stream::open(target.tcp, server)?;
                rate(effort, Stream::MEBIBYTE, WARM_UP, || stream.pump())
            }
            Self::Packets => {
                let flow = Flow::open(target.udp, server)?;
                rate(effort, 1.0, WARM_UP / 10, || flow.burst(server))
            }
        }
    }
}

/// Where the ends of a conversation are, and what they do.
#[derive(Debug, Clone, Copy)]
enum Ends {
    /// Both on one thread: nobody is woken up.
    Together(Kind),
    /// On a thread each, that take turns on one processor.
    InTurn(Service),
    /// On a thread and a processor each.
    Apart(Service),
}

/// A kind of conversation on a route.
#[derive(Debug)]
pub(super) struct Measure {
    pub(super) name: &'static str,
    ends: Ends,
    pub(super) route: Route,
    /// Second result, of those that count.
    cpu: Option<&'static str>,
}

const fn measure(name: &'static str, kind: Kind, route: Route) -> Measure {
    Measure { name, ends: Ends::Together(kind), route, cpu: None }
}

const fn counted(name: &'static str, cpu: &'static str, kind: Kind, route: Route) -> Measure {
    Measure { name, ends: Ends::Together(kind), route, cpu: Some(cpu) }
}

const fn in_turn(name: &'static str, service: Service, route: Route) -> Measure {
    Measure { name, ends: Ends::InTurn(service), route, cpu: None }
}

const fn apart(name: &'static str, service: Service, route: Route) -> Measure {
    Measure { name, ends: Ends::Apart(service), route, cpu: None }
}

/// All of them, in the order of the report.
pub(super) static MEASURES: &[Measure] = &[
    measure("connect", Kind::Connect, Route::PodToPod),
    in_turn("connect, in turn", Service::Accept, Route::PodToPod),
    apart("connect, apart", Service::Accept, Route::PodToPod),
    measure("CRR", Kind::Exchange, Route::PodToPod),
    in_turn("CRR, in turn", Service::Exchange, Route::PodToPod),
    apart("CRR, apart", Service::Exchange, Route::PodToPod),
    measure("RR", Kind::Kept, Route::PodToPod),
    in_turn("RR, in turn", Service::Kept, Route::PodToPod),
    apart("RR, apart", Service::Kept, Route::PodToPod),
    measure("UDP exchange", Kind::Datagram, Route::PodToPod),
    in_turn("UDP exchange, in turn", Service::Datagrams, Route::PodToPod),
    apart("UDP exchange, apart", Service::Datagrams, Route::PodToPod),
    measure("CRR at 2,000/s", Kind::Offered, Route::PodToPod),
    counted("CRR rate", "CPU per CRR", Kind::Rate, Route::PodToPod),
    counted("TCP stream, bytes", "CPU per MiB", Kind::Stream, Route::PodToPod),
    counted("packet rate", "CPU per packet", Kind::Packets, Route::PodToPod),
    measure("NodePort connect, local endpoint", Kind::Connect, Route::OutsideToLocal),
    in_turn("NodePort connect, local endpoint, in turn", Service::Accept, Route::OutsideToLocal),
    apart("NodePort connect, local endpoint, apart", Service::Accept, Route::OutsideToLocal),
    measure("NodePort CRR, local endpoint", Kind::Exchange, Route::OutsideToLocal),
    measure("NodePort RR, local endpoint", Kind::Kept, Route::OutsideToLocal),
    measure("NodePort UDP, local endpoint", Kind::Datagram, Route::OutsideToLocal),
    measure("NodePort connect, remote endpoint", Kind::Connect, Route::OutsideToRemote),
    measure("NodePort CRR, remote endpoint", Kind::Exchange, Route::OutsideToRemote),
    measure("NodePort RR, remote endpoint", Kind::Kept, Route::OutsideToRemote),
    counted(
        "NodePort packet rate, remote endpoint",
        "NodePort CPU per packet, remote endpoint",
        Kind::Packets,
        Route::OutsideToRemote,
    ),
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

    /// Whether a plan wants it, and the machine can do it.
    pub(super) fn is_taken(&self, plan: &Plan) -> bool {
        let possible = !self.is_apart() || plan.processors.second.is_some();
        possible && plan.wants_measure(self.name)
    }

    /// Whether it takes two processors.
    pub(super) const fn is_apart(&self) -> bool {
        matches!(self.ends, Ends::Apart(_))
    }

    /// One block of conversations.
    pub(super) fn run(&self, lane: &Lane, plan: &Plan) -> Result<Block> {
        let target = lane.targets().of(self.route);
        let effort = Effort { samples: plan.samples, window: plan.window };
        match self.ends {
            Ends::Together(kind) => {
                lane.site().converse(self.route, |server| kind.run(target, server, effort))
            }
            Ends::InTurn(service) => self.in_two(service, [plan.processors.first; 2], lane, effort),
            Ends::Apart(service) => {
                let second = plan.processors.second.context("there is no second processor")?;
                self.in_two(service, [plan.processors.first, second], lane, effort)
            }
        }
    }

    /// A block of two threads: half as long, since there are two such measures beside one of one thread.
    fn in_two(
        &self,
        service: Service,
        processors: [Processor; 2],
        lane: &Lane,
        effort: Effort,
    ) -> Result<Block> {
        let target = lane.targets().of(self.route);
        let effort = Effort { samples: effort.samples / 2, window: effort.window / 2 };
        let over = AtomicBool::new(false);
        let near = || {
            let block = service.near(target, |once| times(effort, once));
            over.store(true, Ordering::Release);
            service.leave(target)?;
            block
        };
        let far = |server: &Server| service.far(server, &over);
        lane.site().converse_in_two(self.route, processors, far, near)
    }

    /// What is counted in a second, in its unit.
    fn rate(&self, per_second: f64) -> (Unit, f64) {
        match self.ends {
            Ends::Together(kind) => kind.rate(per_second),
            Ends::InTurn(_) | Ends::Apart(_) => (Unit::PerSecond, per_second),
        }
    }
}

/// How much one block may do.
#[derive(Debug, Clone, Copy)]
struct Effort {
    samples: usize,
    window: Duration,
}

impl Block {
    /// Results with their names.
    pub(super) fn values(self, measure: &Measure) -> Vec<(&'static str, Unit, f64, Option<Samples>)> {
        match self {
            Self::Times(samples) => {
                vec![(measure.name, Unit::Nanoseconds, samples.quantile(0.5), Some(samples))]
            }
            Self::Rate { per_second, cpu } => {
                let (unit, per_second) = measure.rate(per_second);
                let cpu = measure.cpu.map(|name| (name, Unit::Nanoseconds, cpu.as_secs_f64() * 1e9, None));
                std::iter::once((measure.name, unit, per_second, None)).chain(cpu).collect()
            }
        }
    }
}

fn times(effort: Effort, mut once: impl FnMut() -> Result<Duration>) -> Result<Block> {
    let begun = Instant::now();
    for _ in 0..WARM_UP {
        once()?;
    }
    let mut samples = Samples::new()?;
    for number in 0..effort.samples {
        if number >= FEWEST && begun.elapsed() > effort.window {
            break;
        }
        samples.add(once()?)?;
    }
    Ok(Block::Times(samples))
}

/// A lane that cannot keep up is not asked less often: what is late counts from when it was due.
fn offered(effort: Effort, mut once: impl FnMut() -> Result<Duration>) -> Result<Block> {
    for _ in 0..WARM_UP {
        once()?;
    }
    let mut samples = Samples::new()?;
    let mut due = Instant::now();
    let end = due + effort.window;
    while due < end {
        // Spinning: the scheduler's wake-up is not what is measured.
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        once()?;
        samples.add(due.elapsed())?;
        due += OFFERED_PERIOD;
    }
    Ok(Block::Times(samples))
}

/// `per` units are what processor time is given for.
fn rate(effort: Effort, per: f64, warm_up: usize, mut once: impl FnMut() -> Result<u32>) -> Result<Block> {
    for _ in 0..warm_up {
        once()?;
    }
    // The clock is read outermost, so that no more can have been waited than has passed.
    let begun = Instant::now();
    let before = Schedule::of_this_thread()?;
    let mut count = 0.0;
    while begun.elapsed() < effort.window {
        count += f64::from(once()?);
    }
    ensure!(count > 0.0, "nothing arrives");
    let after = Schedule::of_this_thread()?;
    let elapsed = begun.elapsed();
    // What other programs took is not the lane's.
    let own = elapsed.saturating_sub(after.waited.saturating_sub(before.waited));
    let cpu = after.ran.saturating_sub(before.ran).mul_f64(per / count);
    Ok(Block::Rate { per_second: count / own.as_secs_f64(), cpu })
}

/// What the scheduler has counted for a thread.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    /// Processor time. The way of the thread's packets is part of it.
    ran: Duration,
    /// Time for which it could have run, and others did.
    waited: Duration,
}

impl Schedule {
    fn of_this_thread() -> Result<Self> {
        let text = fs::read_to_string("/proc/thread-self/schedstat").context("reading a thread's time")?;
        let mut words = text.split_whitespace().map_while(|word| word.parse().ok()).map(Duration::from_nanos);
        let mut next = || words.next().context("reading a thread's time");
        Ok(Self { ran: next()?, waited: next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_bits_and_datagrams_as_packets() {
        let first = |kind| {
            let block = Block::Rate { per_second: 1000.0, cpu: Duration::ZERO };
            let [(_, unit, value, _), ..] = block.values(&measure("rate", kind, Route::PodToPod))[..] else {
                panic!("no result");
            };
            (unit, value)
        };
        assert_eq!(first(Kind::Stream), (Unit::BitsPerSecond, 8000.0));
        assert_eq!(first(Kind::Packets), (Unit::PacketsPerSecond, 1000.0));
        assert_eq!(first(Kind::Rate), (Unit::PerSecond, 1000.0));
    }
}
