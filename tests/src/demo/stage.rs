//! Everything a part of the demo works with: machines, control plane, agents, terminal, report.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use super::agent::DemoAgent;
use super::control::Control;
use super::machines::{Machines, NODES, WEB_PORT};
use super::objects::{self, Endpoint};
use super::report::Report;
use super::terminal::Terminal;
use super::{Settings, web};
use crate::lab::{Node, Outcome, http_get};

const SETTLE_PATIENCE: Duration = Duration::from_secs(10);
/// Short: before the marker is programmed its packets are dropped, and the time is shown.
const SETTLE_ATTEMPT: Duration = Duration::from_millis(25);
/// Where the agents' metrics servers are, on loopback.
const METRICS_PORT: u16 = 10_249;
/// First port of the marker service.
const MARKER_PORT: u16 = 20_000;

/// The demo while it runs. Dropped in this order: agents first, machines last.
#[derive(Debug)]
pub(super) struct Stage {
    agents: BTreeMap<&'static str, DemoAgent>,
    /// The API.
    pub(super) control: Control,
    /// Nodes, pods, client.
    pub(super) machines: Machines,
    /// What is shown.
    pub(super) terminal: Terminal,
    /// What was claimed.
    pub(super) report: Report,
    /// The agent's program.
    pub(super) program: PathBuf,
    /// The agents run in mode ebpf: clients keep their source address wherever replies come back anyway.
    pub(super) keeps_source: bool,
    markers: u16,
}

impl Stage {
    /// Machines, API server with nodes and pods, agents that are healthy.
    pub(super) fn set(settings: &Settings, terminal: Terminal) -> Result<Self> {
        let machines = Machines::create()?;
        terminal.progress("2 nodes with 3 pods each, and an external client, in network namespaces");
        let control = Control::start(machines.host("control-plane")?)?;
        control.apply(&objects::service_cidr())?;
        for plan in &NODES {
            control.apply(&objects::node(plan))?;
        }
        for (name, pod) in &machines.pods {
            control.apply(&objects::pod(name, pod))?;
        }
        terminal.progress("an API server, with TLS and a token");
        let mut stage = Self {
            agents: BTreeMap::new(),
            control,
            machines,
            terminal,
            report: Report::default(),
            program: settings.program.clone(),
            keeps_source: false,
            markers: 0,
        };
        for plan in &NODES {
            let node = stage.machines.node(plan.name)?;
            let kubeconfig = stage.control.kubeconfig_for_nodes();
            let agent = DemoAgent::prepare(node, &settings.program, &settings.mode, kubeconfig)?;
            stage.agents.insert(plan.name, agent);
            stage.start_agent(plan.name)?;
        }
        let mode = stage.mode()?;
        stage.keeps_source = mode == "ebpf";
        stage.terminal.progress(&format!("shunt in mode {mode} on both nodes, healthy"));
        Ok(stage)
    }

    /// The mode that the agents have chosen; fails unless it is the same everywhere.
    fn mode(&self) -> Result<String> {
        let mut found = BTreeSet::new();
        for plan in &NODES {
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, METRICS_PORT));
            let worker = self.machines.node(plan.name)?.host().worker();
            let answer = worker.run(http_get(None, to, "/proxyMode".to_owned(), SETTLE_PATIENCE))?;
            let answer = answer.map_err(|outcome| anyhow!("{}: /proxyMode: {outcome:?}", plan.name))?;
            found.insert(answer.body);
        }
        let mode = found.pop_first().context("no nodes")?;
        ensure!(found.is_empty(), "one node runs in mode {mode}, another in mode {found:?}");
        Ok(mode)
    }

    /// A node.
    pub(super) fn node(&self, name: &str) -> Result<&Node> {
        self.machines.node(name)
    }

    /// The agent of a node.
    pub(super) fn agent(&mut self, node: &str) -> Result<&mut DemoAgent> {
        self.agents.get_mut(node).with_context(|| format!("no agent on {node}"))
    }

    /// Fails if an agent ended by itself.
    pub(super) fn check_agents(&mut self) -> Result<()> {
        self.agents.values_mut().try_for_each(DemoAgent::check)
    }

    /// Agents by node.
    pub(super) fn agents(&self) -> impl Iterator<Item = &DemoAgent> {
        self.agents.values()
    }

    /// Starts the agent of a node, and waits until it is healthy.
    pub(super) fn start_agent(&mut self, name: &str) -> Result<()> {
        let node = self.machines.node(name)?;
        self.agents.get_mut(name).with_context(|| format!("no agent on {name}"))?.start(node)
    }

    /// Runs a subcommand of the agent on a node; returns what it prints.
    pub(super) fn run_agent(&self, node: &str, arguments: &[&str]) -> Result<String> {
        let program = self.program.to_str().context("the agent's path is not UTF-8")?;
        self.machines.node(node)?.surroundings().output(program, arguments)
    }

    /// Creates or changes a Service; returns its cluster IPs.
    pub(super) fn service(&self, name: &str, spec: &Value) -> Result<Vec<IpAddr>> {
        let made = self.control.apply(&objects::service(name, spec))?;
        let listed = made.pointer("/spec/clusterIPs").and_then(Value::as_array);
        let addresses = listed.into_iter().flatten().filter_map(Value::as_str);
        addresses
            .filter(|address| *address != "None")
            .map(|address| address.parse().with_context(|| format!("{address:?} of service {name}")))
            .collect()
    }

    /// The first cluster IP of a Service made from `spec`, with a port.
    pub(super) fn service_at(&self, name: &str, spec: &Value, port: u16) -> Result<SocketAddr> {
        let addresses = self.service(name, spec)?;
        let first = addresses.first().with_context(|| format!("service {name} got no cluster IP"))?;
        Ok(SocketAddr::new(*first, port))
    }

    /// Endpoints in these pods, for slices written by hand.
    pub(super) fn endpoints(&self, pods: &[&str]) -> Result<Vec<Endpoint>> {
        let endpoint = |name: &&str| {
            let pod = self.machines.pod(name)?;
            Ok(Endpoint { address: pod.v4(), node: pod.node, terminating: false })
        };
        pods.iter().map(endpoint).collect()
    }

    /// Waits until everything the API has had so far is in effect on both nodes; returns how long that took.
    ///
    /// A Service and a slice of its own, made last, show it: their watches deliver them after everything else.
    pub(super) fn settle(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.settle_on(&NODES.map(|plan| plan.name))?;
        Ok(began.elapsed())
    }

    /// [`Self::settle`] for some of the nodes.
    pub(super) fn settle_on(&mut self, nodes: &[&str]) -> Result<()> {
        self.control.wait_for_controller()?;
        self.markers += 1;
        let port = MARKER_PORT + self.markers;
        let pods: Vec<&str> = self.machines.pods.keys().map(String::as_str).collect();
        let pod = pods.get(usize::from(self.markers) % pods.len()).context("no pods")?.to_string();
        let name = format!("marker-{}", self.markers);
        let spec = json!({"ports": [{"name": "http", "port": port}]});
        let frontend = self.service_at(&name, &spec, port)?;
        let slice = objects::slice(&name, WEB_PORT, &self.endpoints(&[&pod])?);
        self.control.apply(&slice)?;
        let wanted = self.machines.pod(&pod)?.v4();
        for node in nodes {
            self.wait_for_answer(node, frontend, wanted)?;
        }
        self.control.delete(&slice)?;
        self.control.delete(&objects::service(&name, &json!({})))
    }

    fn wait_for_answer(&mut self, node: &str, to: SocketAddr, from: IpAddr) -> Result<()> {
        let deadline = Instant::now() + SETTLE_PATIENCE;
        loop {
            let worker = self.machines.host(node)?.worker();
            let attempt = worker.run(web::ask(None, to, SETTLE_ATTEMPT))?;
            match attempt.outcome {
                Outcome::Answer(answer) if answer.local.ip() == from => return Ok(()),
                outcome if Instant::now() > deadline => bail!(
                    "what was written to the API is not in effect on {node} after {SETTLE_PATIENCE:?}: {to} \
                     gives {outcome:?}; the agent's log ends:\n{}",
                    self.agent(node)?.log_tail()
                ),
                _ => self.agent(node)?.check()?,
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
