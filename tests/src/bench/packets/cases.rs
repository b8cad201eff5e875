//! What is run, and how often.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use shunt::kernel::ebpf::{AttachedProgram, Direction};

use super::packet::{ACK, SYN, Segment, destination};
use super::scene::Scene;
use super::{MANY, Manner, Measured, ONE_HOT, ONE_SINGLE};
use crate::bench::samples::Samples;

/// Runs within one hot test run, and how many of those.
const REPEAT: u32 = 50_000;
const SERIES: usize = 5;
/// Flows to go through: more than the caches hold.
const FLOWS: usize = 100_000;
/// Single runs on one packet.
const SINGLES: usize = 10_000;
/// The program hands the packet on, to the next program or into the stack.
const NEXT: i32 = -1;
/// It has sent an answer out of the interface that the packet came by.
const REDIRECTED: i32 = 7;

/// The packets of a flow, as the client's interface sees them.
struct Flow {
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// Everything that is needed to run a case.
struct Bench {
    ingress: AttachedProgram,
    egress: AttachedProgram,
    empty: AttachedProgram,
    hardware: [u8; 6],
    /// What the empty program runs on.
    stranger: Vec<u8>,
    found: Vec<Measured>,
}

/// All cases, on the calling thread, which is in the node's namespace.
pub(super) fn measure(scene: &Scene, services: usize) -> Result<Vec<Measured>> {
    let hardware = scene.hardware("client")?;
    let stranger = Segment { source: scene.client(0), destination: scene.stranger(), flags: ACK };
    let mut bench = Bench {
        ingress: scene.trial(Direction::Ingress)?,
        egress: scene.trial(Direction::Egress)?,
        empty: scene.empty()?,
        hardware,
        stranger: stranger.frame(hardware),
        found: Vec::new(),
    };
    bench.hot_cases(scene)?;
    let flows = bench.begin_flows(scene, services)?;
    bench.go_through(flows)?;
    bench.reject(scene)?;
    Ok(bench.found)
}

impl Bench {
    /// Packets that come out as they went in, so that they can be repeated.
    fn hot_cases(&mut self, scene: &Scene) -> Result<()> {
        // This one has no flows.
        let client = scene.client(1 + FLOWS);
        let to = |destination, flags| Segment { source: client, destination, flags };
        self.ingress.run(&to(scene.mirror(), SYN).frame(self.hardware), 1)?;
        self.ingress.run(&to(scene.mirror(), ACK).frame(self.hardware), 1)?;
        let established = to(scene.mirror(), ACK);
        let (stranger, direct) = (to(scene.stranger(), ACK), to(scene.backend(), ACK));
        self.hot("established", Direction::Ingress, established)?;
        self.hot("reply", Direction::Egress, established.reply(scene.mirror()))?;
        self.hot("not ours, ingress", Direction::Ingress, stranger)?;
        self.hot("not ours, egress", Direction::Egress, stranger.reply(scene.stranger()))?;
        self.hot("directly to a backend, ingress", Direction::Ingress, direct)?;
        self.hot("directly from a backend, egress", Direction::Egress, direct.reply(scene.backend()))
    }

    fn hot(&mut self, name: &str, direction: Direction, segment: Segment) -> Result<()> {
        let frame = segment.frame(self.hardware);
        let trial = self.trial(direction);
        let once = trial.run(&frame, 1)?;
        ensure!((once.code, &once.packet) == (NEXT, &frame), "{name}: the packet does not stay as it is");
        let mut measured = Measured::new(name, ONE_HOT, Manner::Hot);
        for _ in 0..SERIES {
            let empty = nanoseconds(self.empty.time(&self.stranger, REPEAT)?);
            measured.add(nanoseconds(trial.time(&frame, REPEAT)?), empty, u64::from(REPEAT));
        }
        self.found.push(measured);
        Ok(())
    }

    const fn trial(&self, direction: Direction) -> &AttachedProgram {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// First and second packet of every flow, spread over the services.
    fn begin_flows(&mut self, scene: &Scene, services: usize) -> Result<Vec<Flow>> {
        let mut first = Measured::new("first packet", MANY, Manner::Single);
        let mut second = Measured::new("second packet", MANY, Manner::Single);
        let mut flows = Vec::with_capacity(FLOWS);
        for series in 0..SERIES {
            let (mut begun, mut established) = (Samples::new()?, Samples::new()?);
            for number in series * FLOWS / SERIES..(series + 1) * FLOWS / SERIES {
                // Services in no order: their frontends are not in the caches either.
                let frontend = scene.frontend(number.wrapping_mul(7919) % services);
                // The first client began a flow before.
                let syn = Segment { source: scene.client(1 + number), destination: frontend, flags: SYN };
                let flow = self.begin_flow(syn, &mut begun, &mut established);
                flows.push(flow.with_context(|| format!("flow {number}"))?);
            }
            let empty = self.empty_single()?;
            first.add(begun.quantile(0.5), empty, begun.count());
            second.add(established.quantile(0.5), empty, established.count());
        }
        self.found.extend([first, second]);
        Ok(flows)
    }

    fn begin_flow(&self, syn: Segment, first: &mut Samples, second: &mut Samples) -> Result<Flow> {
        let begun = self.ingress.run(&syn.frame(self.hardware), 1)?;
        let backend = destination(&begun.packet)?;
        ensure!(begun.code == NEXT && backend != syn.destination, "it is not translated");
        first.add(begun.duration)?;
        let request = Segment { flags: ACK, ..syn }.frame(self.hardware);
        let established = self.ingress.run(&request, 1)?;
        ensure!(destination(&established.packet)? == backend, "it changes its backend");
        second.add(established.duration)?;
        Ok(Flow { request, reply: syn.reply(backend).frame(self.hardware) })
    }

    fn go_through(&mut self, mut flows: Vec<Flow>) -> Result<()> {
        let Some(flow) = flows.first() else { return Ok(()) };
        let back = self.egress.run(&flow.reply, 1)?;
        ensure!(back.code == NEXT && back.packet != flow.reply, "a reply is not translated");
        let again = || std::iter::repeat_n(flow, SINGLES);
        let one = |name| (name, ONE_SINGLE);
        let forth =
            self.single(one("established"), Direction::Ingress, || again().map(|flow| &flow.request))?;
        let back = self.single(one("reply"), Direction::Egress, || again().map(|flow| &flow.reply))?;
        self.found.extend([forth, back]);
        flows.shuffle(&mut SmallRng::seed_from_u64(1));
        let all = || flows.iter();
        let many = |name| (name, MANY);
        let forth =
            self.single(many("established"), Direction::Ingress, || all().map(|flow| &flow.request))?;
        let back = self.single(many("reply"), Direction::Egress, || all().map(|flow| &flow.reply))?;
        self.found.extend([forth, back]);
        Ok(())
    }

    fn reject(&mut self, scene: &Scene) -> Result<()> {
        let segment = Segment { source: scene.client(0), destination: scene.rejected(), flags: SYN };
        let frame = segment.frame(self.hardware);
        let answer = self.ingress.run(&frame, 1)?;
        ensure!(answer.code == REDIRECTED, "the frontend without endpoints is not rejected: {}", answer.code);
        let rejected =
            self.single(("reject", ONE_SINGLE), Direction::Ingress, || std::iter::repeat_n(&frame, SINGLES))?;
        self.found.push(rejected);
        Ok(())
    }

    /// Series of runs, each on a fresh copy of its packet.
    fn single<'a, F: Iterator<Item = &'a Vec<u8>>>(
        &self,
        (name, flows): (&str, &'static str),
        direction: Direction,
        frames: impl Fn() -> F,
    ) -> Result<Measured> {
        let mut measured = Measured::new(name, flows, Manner::Single);
        for _ in 0..SERIES.div_ceil(2) {
            let empty = self.empty_single()?;
            let samples = single(self.trial(direction), frames())?;
            measured.add(samples.quantile(0.5), empty, samples.count());
        }
        Ok(measured)
    }

    fn empty_single(&self) -> Result<f64> {
        let frames = std::iter::repeat_n(&self.stranger, SINGLES / 4);
        Ok(single(&self.empty, frames)?.quantile(0.5))
    }
}

fn single<'a>(trial: &AttachedProgram, frames: impl Iterator<Item = &'a Vec<u8>>) -> Result<Samples> {
    let mut samples = Samples::new()?;
    for frame in frames {
        samples.add(trial.time(frame, 1)?)?;
    }
    Ok(samples)
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}
