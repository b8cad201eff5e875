//! A node of the stage: machine, pods, agent.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::CHANGE_PATIENCE;
use crate::Mode;
use crate::flows::{
    Agent, AgentConfig, AgentProgram, Config, LocalDetect, ManifestDirectory, ObjectFeed, shunt_program,
};
use crate::lab::{Cluster, Host, Node, Pod, PodLink, Protocol};

/// Ports on which every pod answers, whatever the protocol.
pub(crate) const POD_PORTS: [u16; 2] = [8080, 5353];

/// A node with its pods and its agent. Fields are dropped in order.
#[derive(Debug)]
pub struct StageNode {
    agent: Agent,
    config: AgentConfig,
    feed: ManifestDirectory,
    pods: Vec<Pod>,
    node: Node,
    number: u8,
}

/// Routes to the pods of a node, by way of the node.
pub(crate) fn pod_routes(number: u8) -> [String; 2] {
    [
        format!("route add 10.244.{number}.0/24 via 192.168.50.1{number}"),
        format!("route add fd00:244:{number}::/64 via fd00:50::1{number}"),
    ]
}

impl StageNode {
    pub(crate) fn create(
        cluster: &Cluster,
        number: u8,
        name: &str,
        mode: Mode,
        config: &Config,
    ) -> Result<Self> {
        let addresses =
            [format!("192.168.50.1{number}/24").parse()?, format!("fd00:50::1{number}/64").parse()?];
        let node = cluster.node(name, &addresses)?;
        let feed = ManifestDirectory::create(node.surroundings().directory())?;
        let mut settings = config.clone();
        if settings.local_detect.mode.is_none() {
            settings.local_detect = LocalDetect {
                cluster_cidr: "10.244.0.0/16,fd00:244::/32".to_owned(),
                ..LocalDetect::default()
            };
        }
        let config = AgentConfig {
            program: AgentProgram::Agent(shunt_program()?),
            mode,
            node: name.to_owned(),
            settings,
            flows: None,
            kubeconfig: feed.kubeconfig(),
            source: feed.arguments(),
        };
        let agent = Agent::prepare(&config, node.surroundings())?;
        Ok(Self { agent, config, feed, pods: Vec::new(), node, number })
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// The machine.
    pub fn machine(&self) -> &Host {
        self.node.host()
    }

    /// Where the node's programs run.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The agent.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The agent's manifests.
    pub fn feed(&self) -> &ManifestDirectory {
        &self.feed
    }

    pub(crate) fn feed_mut(&mut self) -> &mut ManifestDirectory {
        &mut self.feed
    }

    /// Starts the agent.
    pub fn start_agent(&mut self) -> Result<()> {
        self.agent.start(self.node.surroundings())
    }

    /// Puts an agent that translates in another way in the place of the one that runs, if one does, and waits until it
    /// has said that its rules are in place.
    pub fn switch_agent(&mut self, mode: Mode) -> Result<()> {
        self.agent.stop()?;
        self.config.mode = mode;
        self.start_new_agent()
    }

    /// Kills the agent that runs, and has another one whose maps of flows hold so many follow it: it cannot go on with
    /// those that are there. Waits until it has said that its rules are in place.
    pub fn succeed_agent(&mut self, flows: u32) -> Result<()> {
        self.agent.kill()?;
        self.config.flows = Some(flows);
        self.start_new_agent()
    }

    /// Has another program be the agent from its next start on.
    pub fn set_program(&mut self, program: PathBuf) {
        self.config.program = AgentProgram::Agent(program);
    }

    fn start_new_agent(&mut self) -> Result<()> {
        self.agent = Agent::prepare(&self.config, self.node.surroundings())?;
        self.start_agent()?;
        self.wait_for_sync()
    }

    fn wait_for_sync(&mut self) -> Result<()> {
        let program = shunt_program()?;
        let program = program.to_str().context("the agent's path is not UTF-8")?;
        let deadline = Instant::now() + CHANGE_PATIENCE;
        loop {
            self.check_agent()?;
            let status = self.output(program, &["status", "-o", "json"]).unwrap_or_default();
            let status: Value = serde_json::from_str(&status).unwrap_or_default();
            if status.pointer("/lastSyncSeconds").is_some_and(Value::is_number) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "no first sync: {status}\n{}", self.agent.log_tail());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Asks the agent to end; fails if it does not.
    pub fn stop_agent(&mut self) -> Result<()> {
        self.agent.stop()
    }

    /// Kills the agent without notice.
    pub fn kill_agent(&mut self) -> Result<()> {
        self.agent.kill()
    }

    /// Fails if the agent has ended by itself.
    pub fn check_agent(&mut self) -> Result<()> {
        self.agent.check().with_context(|| self.agent.log_tail())
    }

    /// Runs a program on the node and returns its output.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.node.surroundings().output(program, arguments)
    }

    /// Adds a routed pod; its addresses end in `last`. It answers TCP and UDP
    /// on ports 8080 and 5353.
    pub fn add_pod(&mut self, last: u8) -> Result<()> {
        let number = self.number;
        let addresses = [
            format!("10.244.{number}.{last}/32").parse()?,
            format!("fd00:244:{number}::{last}/128").parse()?,
        ];
        self.keep_pod(last, PodLink::Routed, &addresses, &[])
    }

    /// Adds a pod on the node's bridge, which is made when it is needed.
    pub fn add_bridged_pod(&mut self, last: u8) -> Result<()> {
        let number = self.number;
        let (v4, v6) = (format!("10.244.{number}"), format!("fd00:244:{number}::"));
        if self.pods.is_empty() {
            self.node.add_bridge(&[format!("{v4}.254/24").parse()?, format!("{v6}fe/64").parse()?])?;
        }
        let addresses = [format!("{v4}.{last}/24").parse()?, format!("{v6}{last}/64").parse()?];
        let gateways = [format!("{v4}.254").parse()?, format!("{v6}fe").parse()?];
        self.keep_pod(last, PodLink::Bridge, &addresses, &gateways)
    }

    fn keep_pod(
        &mut self,
        last: u8,
        link: PodLink,
        addresses: &[ipnet::IpNet],
        gateways: &[IpAddr],
    ) -> Result<()> {
        let name = format!("pod{}-{last}", self.number);
        let pod = self.node.pod(&name, link, addresses, gateways)?;
        for port in POD_PORTS {
            pod.host().listen(Protocol::Tcp, port)?;
            pod.host().listen(Protocol::Udp, port)?;
        }
        self.pods.push(pod);
        Ok(())
    }

    /// A pod, by number from 0 in the order they were added.
    pub fn pod(&self, number: usize) -> Result<&Host> {
        Ok(self.pods.get(number).context("there is no such pod")?.host())
    }

    /// A pod's IPv4 address and port 8080.
    pub fn endpoint(&self, number: usize) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.pod(number)?.address()?, 8080))
    }

    pub(crate) fn object(&self) -> Value {
        let addresses = self.machine().addresses();
        let addresses: Vec<_> =
            addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name(), "labels": {"kubernetes.io/hostname": self.name()}},
            "spec": {"podCIDRs": [format!("10.244.{}.0/24", self.number),
                                  format!("fd00:244:{}::/64", self.number)]},
            "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}]},
        })
    }
}
