//! One case from start to end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::agent::{Agent, AgentConfig, AgentProgram};
use super::api_feed::ApiServerFeed;
use super::barrier::Barrier;
use super::case::{AgentAction, Case, Step};
use super::check::{Check, Conditions, checks};
use super::feed::{FeedKind, ManifestDirectory, ObjectFeed, ObjectSet};
use super::health::HealthProbe;
use super::judge::{Mapping, Verdict, judge};
use super::objects::{complete_service, complete_slice, node_object, service_cidr_object};
use super::probe::Sessions;
use super::topology::Topology;
use super::{ports, words};
use crate::Mode;
use crate::lab::{Dial, Family, Outcome, Protocol};

/// For the agent to program its first state.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// For it to program a later one.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);
const BARRIER_PATIENCE: Duration = Duration::from_millis(300);
const BARRIER_PAUSE: Duration = Duration::from_millis(20);
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How cases are run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The agent.
    pub program: AgentProgram,
    /// How it translates.
    pub mode: Mode,
    /// How it is shown the objects.
    pub feed: FeedKind,
    /// How long a step's flows may take to come right after the barrier: stale
    /// connection tracking and health check ports come after the rules.
    pub step_patience: Duration,
}

impl Options {
    /// Manifests and the usual patience.
    pub fn new(program: AgentProgram, mode: Mode) -> Self {
        Self { program, mode, feed: FeedKind::Manifests, step_patience: Duration::from_secs(5) }
    }
}

/// An expectation that was not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Number of the step, from 1, with its comment.
    pub step: String,
    /// What was sent.
    pub flow: String,
    /// What should have happened.
    pub expected: String,
    /// What was seen instead.
    pub seen: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}: {}", self.step, self.flow)?;
        writeln!(formatter, "    expected: {}", self.expected)?;
        write!(formatter, "    seen: {}", self.seen.join("\n          "))
    }
}

/// Runs a case. Returns what was not as expected; an error when the case could
/// not be carried out, with the end of the agent's log.
pub fn run(case: &Case, options: &Options) -> Result<Vec<Failure>> {
    let mut run = Run::start(case, options)?;
    let result = run.steps();
    let log = || format!("agent's log ends:\n{}", run.agent.log_tail());
    match result {
        Ok(()) => Ok(run.failures),
        Err(error) => Err(error.context(log())),
    }
}

struct Run<'a> {
    case: &'a Case,
    options: &'a Options,
    // Before the topology: the agent ends before its namespace goes.
    agent: Agent,
    feed: Box<dyn ObjectFeed>,
    sessions: Sessions,
    topology: Topology,
    ports_of_agent: BTreeSet<u16>,
    families: BTreeSet<Family>,
    barriers: Vec<Barrier>,
    node: Value,
    mappings: BTreeMap<String, Mapping>,
    failures: Vec<Failure>,
}

impl<'a> Run<'a> {
    fn start(case: &'a Case, options: &'a Options) -> Result<Self> {
        let topology = Topology::build(case)?;
        ports::open(case, &topology)?;
        let directory = topology.surroundings.directory();
        let feed: Box<dyn ObjectFeed> = match options.feed {
            FeedKind::Manifests => Box::new(ManifestDirectory::create(directory)?),
            FeedKind::ApiServer => Box::new(ApiServerFeed::start(&topology.node.worker, directory)?),
        };
        let mut config = AgentConfig::for_case(case, options.program.clone(), options.mode);
        config.source = feed.arguments();
        config.kubeconfig = feed.kubeconfig();
        let agent = Agent::prepare(&config, &topology.surroundings)?;
        let flows = case.steps.iter().flat_map(|step| &step.flows);
        let mut families: BTreeSet<_> = flows.map(|flow| Family::of(flow.to)).collect();
        if families.is_empty() {
            families.extend(case.node.ips.first().copied().map(Family::of));
        }
        Ok(Self {
            case,
            options,
            agent,
            feed,
            sessions: Sessions::default(),
            topology,
            ports_of_agent: ports::ports_of_agent(case),
            families,
            barriers: Vec::new(),
            node: node_object(&case.node),
            mappings: BTreeMap::new(),
            failures: Vec::new(),
        })
    }

    fn steps(&mut self) -> Result<()> {
        let case = self.case;
        for (number, step) in (0..).zip(&case.steps) {
            self.step(number, step).with_context(|| title(number, step))?;
        }
        Ok(())
    }

    fn step(&mut self, number: u16, step: &Step) -> Result<()> {
        self.topology.place(&self.case.node, &step.endpoint_slices, &step.flows)?;
        match step.agent {
            Some(AgentAction::Stop | AgentAction::Restart) => self.agent.stop()?,
            Some(AgentAction::KillAndRestart) => self.agent.kill()?,
            Some(AgentAction::Start) | None => {}
        }
        self.show_objects(step)?;
        let starts = match step.agent {
            None => number == 0,
            Some(action) => action != AgentAction::Stop,
        };
        if starts {
            self.agent.start(&self.topology.surroundings)?;
        }
        if self.agent.is_started() {
            self.pass_barrier(number, if starts { START_PATIENCE } else { CHANGE_PATIENCE })?;
        }
        sleep(Duration::from_secs_f64(step.wait));
        let conditions = Conditions {
            placement: &self.topology.placement,
            ports_of_agent: &self.ports_of_agent,
            mode: self.options.mode,
            config: &self.case.config,
        };
        let checks = checks(&step.flows, &step.services, &conditions);
        if step.ordered {
            self.check_in_order(number, step, &checks)?;
        } else {
            self.check_until_right(number, step, &checks)?;
        }
        self.check_health(number, step)
    }

    /// All objects of the step, and the barriers as they were.
    fn show_objects(&mut self, step: &Step) -> Result<()> {
        if let Some(labels) = &step.node_labels {
            let changed = super::NodeSpec { labels: labels.clone(), ..self.case.node.clone() };
            self.node = node_object(&changed);
        }
        let mut objects: ObjectSet = step.services.iter().map(complete_service).collect();
        step.endpoint_slices.iter().map(complete_slice).for_each(|slice| objects.put(slice));
        objects.put(self.node.clone());
        if let Some(cidrs) = service_cidr_object(self.case) {
            objects.put(cidrs);
        }
        self.barriers.iter().flat_map(Barrier::objects).for_each(|object| objects.put(object));
        self.feed.replace(&objects)
    }

    /// Changes the runner's own service and waits until the change works.
    fn pass_barrier(&mut self, number: u16, patience: Duration) -> Result<()> {
        self.barriers = self.families.iter().map(|family| Barrier::new(*family, number)).collect();
        for object in self.barriers.iter().flat_map(Barrier::objects) {
            self.feed.put_last(object)?;
        }
        let deadline = Instant::now() + patience;
        let mut waiting = self.barriers.clone();
        loop {
            self.agent.check()?;
            let mut still = Vec::new();
            for barrier in waiting {
                if !self.barrier_works(&barrier)? {
                    still.push(barrier);
                }
            }
            waiting = still;
            let Some(first) = waiting.first() else { return Ok(()) };
            if Instant::now() > deadline {
                bail!(
                    "the runner's own {:?} service was not programmed within {} s",
                    first.family(),
                    patience.as_secs()
                );
            }
            sleep(BARRIER_PAUSE);
        }
    }

    fn barrier_works(&self, barrier: &Barrier) -> Result<bool> {
        let source = self.topology.placement.spare_pod(barrier.family())?;
        let dial = Dial::new(Protocol::Tcp, barrier.frontend()).from(source).patience(BARRIER_PATIENCE);
        let attempt = self.topology.pod.worker.run(dial.once())?;
        Ok(matches!(attempt.outcome, Outcome::Answer(answer) if answer.local == barrier.endpoint()))
    }

    /// Sends flows at the same time and judges them.
    fn round<'c>(&self, checks: &[&'c Check]) -> Result<Vec<(&'c Check, Verdict)>> {
        let replies: Vec<_> =
            checks.iter().map(|check| (*check, check.start(&self.topology, &self.sessions))).collect();
        replies
            .into_iter()
            .map(|(check, reply)| Ok((check, judge(check, &reply.wait()?, &self.mappings))))
            .collect()
    }

    /// Repeats flows that fail until they pass; whatever needed repeating is
    /// followed by one more round of everything.
    fn check_until_right(&mut self, number: u16, step: &Step, checks: &[Check]) -> Result<()> {
        let deadline = Instant::now() + self.options.step_patience;
        let all: Vec<_> = checks.iter().collect();
        let mut pending = all.clone();
        loop {
            let verdicts = self.round(&pending)?;
            self.agent.check()?;
            let complete = pending.len() == all.len();
            let (right, wrong): (Vec<_>, Vec<_>) =
                verdicts.into_iter().partition(|(_, verdict)| verdict.problems.is_empty());
            let mappings = right.into_iter().map(|(check, verdict)| (check.name.clone(), verdict.mapping));
            self.mappings.extend(mappings);
            if wrong.is_empty() && complete {
                return Ok(());
            }
            if Instant::now() > deadline {
                for (check, verdict) in wrong {
                    self.fail(number, step, check, verdict);
                }
                return Ok(());
            }
            pending =
                if wrong.is_empty() { all.clone() } else { wrong.iter().map(|(check, _)| *check).collect() };
            if !wrong.is_empty() {
                sleep(RETRY_PAUSE);
            }
        }
    }

    fn check_in_order(&mut self, number: u16, step: &Step, checks: &[Check]) -> Result<()> {
        for check in checks {
            sleep(Duration::from_secs_f64(check.flow.delay));
            for (check, verdict) in self.round(&[check])? {
                if verdict.problems.is_empty() {
                    self.mappings.insert(check.name.clone(), verdict.mapping);
                } else {
                    self.fail(number, step, check, verdict);
                }
            }
            self.agent.check()?;
        }
        Ok(())
    }

    fn check_health(&mut self, number: u16, step: &Step) -> Result<()> {
        let deadline = Instant::now() + self.options.step_patience;
        for wanted in &step.health_checks {
            let probe = HealthProbe::new(wanted, self.case)?;
            let mut seen = probe.problems(&probe.start(&self.topology).wait()?);
            while !seen.is_empty() && Instant::now() < deadline {
                sleep(RETRY_PAUSE);
                seen = probe.problems(&probe.start(&self.topology).wait()?);
            }
            if !seen.is_empty() {
                self.failures.push(Failure {
                    step: title(number, step),
                    flow: probe.heading(),
                    expected: probe.expectation(),
                    seen,
                });
            }
        }
        Ok(())
    }

    fn fail(&mut self, number: u16, step: &Step, check: &Check, verdict: Verdict) {
        self.failures.push(Failure {
            step: title(number, step),
            flow: words::heading(check),
            expected: words::expectation(check),
            seen: verdict.problems,
        });
    }
}

fn title(number: u16, step: &Step) -> String {
    let generic = format!("step {}", number + 1);
    let comment = step.comment.as_deref().filter(|comment| *comment != generic);
    let comment = comment.map(|comment| format!(" ({comment})")).unwrap_or_default();
    generic + &comment
}
