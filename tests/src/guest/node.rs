//! One node with pods and an agent, and a machine outside.
//!
//! ```text
//!   node     192.168.50.11, fd00:50::11    the agent runs here
//!   pods     10.244.1.11 and .12 (backends), .13 (client); fd00:244:1::11 ...
//!   outside  192.168.50.200, fd00:50::200
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::Mode;
use crate::agent::Metrics;
use crate::flows::{
    Agent, AgentConfig, AgentProgram, Config, LocalDetect, ManifestDirectory, ObjectFeed, ObjectSet,
    shunt_program,
};
use crate::lab::{Cluster, Dial, Host, Node, Outcome, Pod, PodLink, Protocol, http_get};

/// IPv4 addresses of the node and of the machine outside.
pub(super) const NODE: &str = "192.168.50.11";
pub(super) const OUTSIDE: &str = "192.168.50.200";
/// The node's name.
pub(super) const NAME: &str = "node";
const BACKENDS: [u8; 2] = [11, 12];
const CLIENT: u8 = 13;
const METRICS: &str = "127.0.0.1:10249";

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// A pod of the node.
    Pod,
    /// The node itself.
    Node,
    /// A machine outside of the cluster.
    Outside,
}

/// All of it. Fields are dropped in order: the agent first, then the machines.
#[derive(Debug)]
pub(super) struct Scene {
    agent: Option<Agent>,
    mode: Option<Mode>,
    /// Bytes of the agent's log that are of earlier modes.
    old_log: usize,
    feed: ManifestDirectory,
    objects: ObjectSet,
    backends: Vec<Pod>,
    client: Pod,
    node: Node,
    outside: Host,
    _cluster: Cluster,
}

impl Scene {
    /// The machines, without an agent.
    pub(super) fn create() -> Result<Self> {
        let cluster = Cluster::create()?;
        let outside =
            cluster.host("outside", &[format!("{OUTSIDE}/24").parse()?, "fd00:50::200/64".parse()?])?;
        let node = cluster.node(NAME, &[format!("{NODE}/24").parse()?, "fd00:50::11/64".parse()?])?;
        node.host()
            .ip(&[&format!("route add default via {OUTSIDE}"), "route add default via fd00:50::200"])?;
        let backends = BACKENDS.map(|last| pod(&node, last)).into_iter().collect::<Result<Vec<_>>>()?;
        for backend in &backends {
            backend.host().listen(Protocol::Tcp, 8080)?;
            backend.host().listen(Protocol::Udp, 5353)?;
        }
        let client = pod(&node, CLIENT)?;
        let feed = ManifestDirectory::create(node.surroundings().directory())?;
        let objects = [node_object(&node)].into_iter().collect();
        Ok(Self {
            agent: None,
            mode: None,
            old_log: 0,
            feed,
            objects,
            backends,
            client,
            node,
            outside,
            _cluster: cluster,
        })
    }

    /// Addresses of a backend, by number from 0.
    pub(super) fn backend(&self, number: usize) -> Result<&[IpAddr]> {
        Ok(self.backends.get(number).context("there is no such backend")?.host().addresses())
    }

    /// The machine of the node.
    pub(super) fn machine(&self) -> &Host {
        self.node.host()
    }

    /// Adds objects or changes them.
    pub(super) fn apply(&mut self, objects: impl IntoIterator<Item = Value>) -> Result<()> {
        objects.into_iter().for_each(|object| self.objects.put(object));
        self.feed.replace(&self.objects)
    }

    /// Starts an agent.
    pub(super) fn start(&mut self, mode: Mode) -> Result<()> {
        let settings = Config {
            local_detect: LocalDetect {
                cluster_cidr: "10.244.0.0/16,fd00:244::/32".to_owned(),
                ..LocalDetect::default()
            },
            ..Config::default()
        };
        let config = AgentConfig {
            program: AgentProgram::Agent(shunt_program()?),
            mode,
            node: NAME.to_owned(),
            settings,
            flows: None,
            kubeconfig: None,
            source: self.feed.arguments(),
        };
        let mut agent = Agent::prepare(&config, self.node.surroundings())?;
        agent.start(self.node.surroundings())?;
        self.agent = Some(agent);
        self.mode = Some(mode);
        Ok(())
    }

    /// Stops the agent; what it programmed stays.
    pub(super) fn stop(&mut self) -> Result<()> {
        let Some(mut agent) = self.agent.take() else { bail!("no agent runs") };
        self.old_log = agent.log().len();
        agent.stop()
    }

    /// Kills the agent without notice and starts another.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.agent.take().context("no agent runs")?.kill()?;
        self.start(self.mode.context("no agent was started")?)
    }

    /// Runs the agent's program to its end and returns what it printed.
    pub(super) fn shunt(&self, arguments: &[&str]) -> Result<String> {
        let program = shunt_program()?;
        self.node.surroundings().output(&program.to_string_lossy(), arguments)
    }

    /// Runs ip(8) commands on a machine.
    pub(super) fn ip(&self, machine: Client, commands: &[String]) -> Result<()> {
        self.host(machine).ip(commands)
    }

    /// Runs a program on the node.
    pub(super) fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.node.surroundings().output(program, arguments)
    }

    /// Fails, with its last words, if the agent has ended.
    pub(super) fn check_agent(&self) -> Result<()> {
        match &self.agent {
            Some(agent) if agent.has_ended() => bail!("the agent has ended: {}", agent.log_tail()),
            Some(_) => Ok(()),
            None => bail!("no agent runs"),
        }
    }

    /// The agent's warnings and errors in this mode, without their times, each once.
    pub(super) fn warnings(&self) -> Vec<String> {
        let log = self.agent.as_ref().map(Agent::log).unwrap_or_default();
        let lines = log.get(self.old_log..).unwrap_or_default().lines();
        let bad = lines.filter_map(|line| {
            let (_, words) = line.split_once(' ')?;
            let words = words.trim_start();
            ["WARN", "ERROR"].iter().any(|level| words.starts_with(level)).then(|| words.to_owned())
        });
        let bad: BTreeSet<String> = bad.collect();
        bad.into_iter().collect()
    }

    /// What the agent counts.
    pub(super) fn metrics(&self) -> Result<Metrics> {
        let page = http_get(None, METRICS.parse()?, "/metrics".to_owned(), std::time::Duration::from_secs(5));
        match self.machine().worker().run(page)? {
            Ok(page) => Metrics::parse(&page.body),
            Err(outcome) => bail!("the agent's metrics: {outcome:?}"),
        }
    }

    fn host(&self, machine: Client) -> &Host {
        match machine {
            Client::Pod => self.client.host(),
            Client::Node => self.node.host(),
            Client::Outside => &self.outside,
        }
    }

    /// Asks some times, each time from a fresh socket.
    pub(super) fn ask(&self, from: Client, dial: &Dial, count: usize) -> Result<Vec<Outcome>> {
        let attempts = self.host(from).ask_often(dial.clone(), count)?;
        Ok(attempts.into_iter().map(|attempt| attempt.outcome).collect())
    }

    /// The endpoints that answer, each once; fails if one time nobody does, or data was damaged.
    pub(super) fn answering(&self, from: Client, dial: &Dial, count: usize) -> Result<Vec<SocketAddr>> {
        let outcomes = self.ask(from, dial, count)?;
        let mut found = outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Answer(answer) if answer.problem.is_none() => Ok(answer.local),
                other => bail!("{} {:?}: {other:?}", dial.to, dial.protocol),
            })
            .collect::<Result<Vec<_>>>()?;
        found.sort();
        found.dedup();
        Ok(found)
    }
}

fn pod(node: &Node, last: u8) -> Result<Pod> {
    let addresses = [format!("10.244.1.{last}/32").parse()?, format!("fd00:244:1::{last}/128").parse()?];
    node.pod(&format!("pod{last}"), PodLink::Routed, &addresses, &[])
}

fn node_object(node: &Node) -> Value {
    let addresses = node.host().addresses();
    let addresses: Vec<_> = addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NAME, "labels": {"kubernetes.io/hostname": NAME}},
        "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:244:1::/64"]},
        "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}
