//! A small cluster with real agents, for end-to-end tests.
//!
//! ```text
//!   node-a 192.168.50.11, fd00:50::11     pods 10.244.1.0/24, fd00:244:1::/64
//!   node-b 192.168.50.12, fd00:50::12     pods 10.244.2.0/24, fd00:244:2::/64
//!   client 192.168.50.200, fd00:50::200   outside; reaches service addresses through node-a
//! ```
//!
//! Cluster IPs are in 10.96.0.0/16 and fd00:96::/112, load balancer and
//! external addresses in 203.0.113.0/24.

mod kube_proxy;
mod node;
mod objects;
mod overlay;
mod traffic;

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub use kube_proxy::{Layout, ProxiedPort};
pub use node::StageNode;
pub use objects::{Endpoint, Slice, service};
pub use overlay::TUNNEL_MTU;
pub use traffic::{Traffic, TrafficReport};

use crate::Mode;
use crate::flows::{Config, ObjectFeed, ObjectSet};
use crate::lab::{Attempt, Cluster, Dial, Host, Outcome};

/// Names of the nodes a stage can have, in order.
const NODE_NAMES: [&str; 2] = ["node-a", "node-b"];
/// How long the agents may take for a change, and to load BPF programs at their start, on a busy machine.
pub const CHANGE_PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(30);

/// The cluster. Fields are dropped in order: agents first.
#[derive(Debug)]
pub struct Stage {
    nodes: Vec<StageNode>,
    client: Host,
    objects: ObjectSet,
    // Last: the others are connected through it.
    _cluster: Cluster,
}

impl Stage {
    /// A cluster of one or two nodes, agents running, no services yet.
    pub fn create(mode: Mode, nodes: usize) -> Result<Self> {
        Self::with_config(mode, nodes, &Config::default())
    }

    /// The same with settings for the agents.
    pub fn with_config(mode: Mode, nodes: usize, config: &Config) -> Result<Self> {
        let cluster = Cluster::create()?;
        let names = NODE_NAMES.get(..nodes).context("a stage has one or two nodes")?;
        let client = cluster.host("client", &["192.168.50.200/24".parse()?, "fd00:50::200/64".parse()?])?;
        let numbered = (1_u8..).zip(names);
        let built = numbered.map(|(number, name)| StageNode::create(&cluster, number, name, mode, config));
        let nodes = built.collect::<Result<Vec<_>>>()?;
        for (number, _) in (1..).zip(&nodes) {
            let routes = node::pod_routes(number);
            client.ip(&routes)?;
            let mut others = (1..).zip(&nodes).filter(|(other, _)| *other != number);
            others.try_for_each(|(_, other)| other.machine().ip(&routes))?;
        }
        for node in &nodes {
            // As every node has one. The client does not forward: a packet for a
            // service that was not translated is lost there.
            node.machine()
                .ip(&["route add default via 192.168.50.200", "route add default via fd00:50::200"])?;
        }
        client.ip(&[
            "route add 10.96.0.0/16 via 192.168.50.11",
            "route add 203.0.113.0/24 via 192.168.50.11",
            "route add fd00:96::/112 via fd00:50::11",
        ])?;
        let objects = nodes.iter().map(StageNode::object).collect();
        let mut stage = Self { nodes, client, objects, _cluster: cluster };
        stage.show()?;
        stage.nodes.iter_mut().try_for_each(StageNode::start_agent)?;
        Ok(stage)
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// A node, by number from 0.
    pub fn node(&self, number: usize) -> Result<&StageNode> {
        self.nodes.get(number).context("there is no such node")
    }

    /// A node, to change it.
    pub fn node_mut(&mut self, number: usize) -> Result<&mut StageNode> {
        self.nodes.get_mut(number).context("there is no such node")
    }

    /// The machine outside of the cluster.
    pub fn client(&self) -> &Host {
        &self.client
    }

    /// Adds objects or changes them, and shows them to all agents.
    pub fn apply(&mut self, objects: impl IntoIterator<Item = Value>) -> Result<()> {
        objects.into_iter().for_each(|object| self.objects.put(object));
        self.show()
    }

    /// Removes objects of namespace `default`, given by kind and name.
    pub fn delete_all(&mut self, objects: impl IntoIterator<Item = (&'static str, String)>) -> Result<()> {
        objects.into_iter().for_each(|(kind, name)| self.objects.remove(kind, "default", &name));
        self.show()
    }

    fn show(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(|node| node.feed_mut().replace(&self.objects))
    }

    /// Repeats a conversation until `right`; fails, with what was seen last
    /// and the agents' last words, when it takes too long.
    pub fn wait_until(
        &self,
        host: &Host,
        dial: &Dial,
        patience: Duration,
        right: impl Fn(&Outcome) -> bool,
    ) -> Result<Duration> {
        let started = Instant::now();
        loop {
            let attempt = host.worker().run(dial.clone().once())?;
            if right(&attempt.outcome) {
                return Ok(started.elapsed());
            }
            if let Some(node) = self.nodes.iter().find(|node| node.agent().has_ended()) {
                bail!("the agent of {} ended by itself\n{}", node.name(), self.logs());
            }
            if started.elapsed() > patience {
                bail!("{dial:?} still meets {:?}\n{}", attempt.outcome, self.logs());
            }
            sleep(PAUSE);
        }
    }

    /// Repeats a conversation until an endpoint answers.
    pub fn wait_for_answer(&self, host: &Host, dial: &Dial) -> Result<Duration> {
        self.wait_until(host, dial, CHANGE_PATIENCE, |outcome| matches!(outcome, Outcome::Answer(_)))
    }

    /// The end of each agent's log.
    pub fn logs(&self) -> String {
        let logs = self.nodes.iter().map(|node| format!("{}: {}", node.name(), node.agent().log_tail()));
        logs.collect::<Vec<_>>().join("\n")
    }
}

/// The endpoints that answered, each once, in order; fails if an attempt was
/// not answered as it should be.
pub fn endpoints_of(attempts: &[Attempt]) -> Result<Vec<SocketAddr>> {
    let answers = attempts.iter().map(|attempt| match &attempt.outcome {
        Outcome::Answer(answer) if answer.problem.is_none() => Ok(answer.local),
        other => bail!("no good answer: {other:?}"),
    });
    let mut found = answers.collect::<Result<Vec<_>>>()?;
    found.sort();
    found.dedup();
    Ok(found)
}
