//! The node with its agent, its pods, the API server and the client outside.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::control_plane::{ApiKind, ControlPlane};
use super::program::{AgentRun, Ended};
use super::{Metrics, eventually};
use crate::Mode;
use crate::lab::{Cluster, Dial, Host, HttpAnswer, Node, Outcome, Pod, PodLink, Protocol, http_get};
use crate::stage::{Endpoint, Slice, service};

/// How long the agent may take for a change, and to load BPF programs at its start, on a busy machine.
pub const CHANGE_PATIENCE: Duration = Duration::from_secs(30);
/// How long the agent may take to answer HTTP.
const HTTP_PATIENCE: Duration = Duration::from_secs(5);
/// How long a lost packet is waited for while a state is waited for.
const TRY_PATIENCE: Duration = Duration::from_millis(300);
const NODE: &str = "node-a";
const HEALTH: &str = "192.168.50.11:10256";
const METRICS: &str = "127.0.0.1:10249";

/// All of it. Fields are dropped in order: the agent first.
#[derive(Debug)]
pub struct Scene {
    /// The agent.
    pub agent: AgentRun,
    pods: Vec<Pod>,
    node: Node,
    client: Host,
    /// The API server.
    pub api: ControlPlane,
    // Last: the others are connected through it.
    _cluster: Cluster,
}

/// A socket address from its text.
pub fn at(text: &str) -> SocketAddr {
    #[expect(clippy::expect_used, reason = "texts in tests")]
    text.parse().expect("an address and a port")
}

/// A TCP conversation with an address in tests.
pub fn tcp(to: &str) -> Dial {
    Dial::new(Protocol::Tcp, at(to)).patience(TRY_PATIENCE)
}

/// The same over UDP.
pub fn udp(to: &str) -> Dial {
    Dial::new(Protocol::Udp, at(to)).patience(TRY_PATIENCE)
}

impl Scene {
    /// A node with so many pods and our own API server, which knows the node. The agent does not run yet.
    pub fn create(mode: Mode, pods: u8) -> Result<Self> {
        Self::with_api(mode, pods, &ApiKind::default())
    }

    /// The same with another API server.
    pub fn with_api(mode: Mode, pods: u8, api: &ApiKind) -> Result<Self> {
        let cluster = Cluster::create()?;
        let api = ControlPlane::start(&cluster, [192, 168, 50, 100].into(), api)?;
        let client = cluster.host("client", &["192.168.50.200/24".parse()?])?;
        client.ip(&[
            "route add 10.96.0.0/16 via 192.168.50.11",
            "route add 203.0.113.0/24 via 192.168.50.11",
            "route add 10.244.1.0/24 via 192.168.50.11",
        ])?;
        let node = cluster.node(NODE, &["192.168.50.11/24".parse()?])?;
        let pods = (1..=pods).map(|number| add_pod(&node, number)).collect::<Result<_>>()?;
        let agent = AgentRun::prepare(mode, node.surroundings(), &api.kubeconfig())?;
        api.put(node_object())?;
        Ok(Self { agent, pods, node, client, api, _cluster: cluster })
    }

    /// Starts the agent and waits until its health server answers.
    pub fn start(&mut self) -> Result<()> {
        self.launch()?;
        eventually("/livez answers", CHANGE_PATIENCE, || {
            self.agent.check()?;
            Ok(self.http("/livez").ok())
        })
        .with_context(|| self.agent.log_tail())?;
        Ok(())
    }

    /// Has the agent translate in another way from its next start on.
    pub fn change_mode(&mut self, mode: Mode) -> Result<()> {
        self.agent.change_mode(mode, self.node.surroundings())
    }

    /// Starts the agent and leaves it to itself.
    pub fn launch(&mut self) -> Result<()> {
        self.agent.start(self.node.surroundings(), NODE)
    }

    /// Starts the agent with these arguments alone, and leaves it to itself.
    pub fn launch_with(&mut self, arguments: Vec<OsString>) -> Result<()> {
        self.agent.start_with(self.node.surroundings(), arguments)
    }

    /// Starts the agent with a service that works: `web` at 10.96.0.10:80 with the first pod behind it.
    pub fn start_with_web(&mut self) -> Result<()> {
        self.publish("web", "10.96.0.10", &[0])?;
        self.start()?;
        self.wait_for_answer("10.96.0.10:80")?;
        self.wait_for_sync()
    }

    /// Waits for the end of the first sync: packets see its parts, one IP version after the other, before.
    fn wait_for_sync(&self) -> Result<()> {
        eventually("the first sync is over", CHANGE_PATIENCE, || {
            Ok(self.status()?.pointer("/lastSyncSeconds").filter(|age| age.is_number()).map(drop))
        })
        .with_context(|| self.agent.log_tail())
    }

    /// Runs the agent's program with other arguments on the node, to its end.
    pub fn shunt(&self, arguments: &[&str]) -> Result<Ended> {
        self.agent.run(self.node.surroundings(), arguments)
    }

    /// Runs another program on the node and returns its output.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.node.surroundings().output(program, arguments)
    }

    /// Loads nftables rules on the node.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let file = self.agent.directory().join("rules.nft");
        std::fs::write(&file, rules).context("cannot write rules")?;
        self.output("nft", &["-f", &file.display().to_string()]).map(drop)
    }

    /// All nftables rules on the node.
    pub fn ruleset(&self) -> Result<String> {
        self.output("nft", &["list", "ruleset"])
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The machine outside.
    pub fn client(&self) -> &Host {
        &self.client
    }

    /// A pod, by number from 0.
    pub fn pod(&self, number: usize) -> Result<&Host> {
        Ok(self.pods.get(number).context("there is no such pod")?.host())
    }

    /// The pod that asks: the last one.
    pub fn asker(&self) -> Result<&Host> {
        Ok(self.pods.last().context("there are no pods")?.host())
    }

    /// The address of a pod; pods answer TCP and UDP on ports 8080 and 5353.
    pub fn pod_address(&self, number: usize) -> Result<IpAddr> {
        self.pod(number)?.address()
    }

    /// A slice of endpoints on this node: TCP 8080 of the pods with these numbers.
    pub fn slice(&self, name: &str, pods: &[usize]) -> Result<Value> {
        Ok(Slice::new(name, 8080, self.endpoints(pods, 8080)?).object())
    }

    /// The same for UDP 5353.
    pub fn udp_slice(&self, name: &str, pods: &[usize]) -> Result<Value> {
        let endpoints = self.endpoints(pods, 5353)?;
        Ok(Slice { protocol: "UDP", ..Slice::new(name, 5353, endpoints) }.object())
    }

    fn endpoints(&self, pods: &[usize], port: u16) -> Result<Vec<Endpoint>> {
        let endpoint = |pod: &usize| Ok(Endpoint::new(SocketAddr::new(self.pod_address(*pod)?, port), NODE));
        pods.iter().map(endpoint).collect()
    }

    /// Creates or changes a Service with one TCP port 80 and its slice.
    pub fn publish(&self, name: &str, cluster_ip: &str, pods: &[usize]) -> Result<()> {
        let spec = json!({"clusterIP": cluster_ip, "ports": [{"port": 80, "targetPort": 8080}]});
        self.publish_spec(name, &spec, pods)
    }

    /// The same with any spec.
    pub fn publish_spec(&self, name: &str, spec: &Value, pods: &[usize]) -> Result<()> {
        self.api.put(service(name, spec))?;
        self.api.put(self.slice(name, pods)?)
    }

    /// Deletes a Service and its slice.
    pub fn unpublish(&self, name: &str) -> Result<()> {
        self.api.delete("Service", name)?;
        self.api.delete("EndpointSlice", &format!("{name}-8080"))
    }

    /// Repeats a conversation until `right`; fails, with what was seen last and the agent's last words, when it takes
    /// too long. Returns the time it took.
    pub fn wait_until(&self, from: &Host, dial: &Dial, right: impl Fn(&Outcome) -> bool) -> Result<Duration> {
        let started = std::time::Instant::now();
        let mut last = None;
        eventually(&format!("{dial:?}"), CHANGE_PATIENCE, || {
            let outcome = from.worker().run(dial.clone().once())?.outcome;
            let done = right(&outcome);
            last = Some(outcome);
            Ok(done.then_some(()))
        })
        .with_context(|| format!("last outcome {last:?}\n{}", self.agent.log_tail()))?;
        Ok(started.elapsed())
    }

    /// Waits until an endpoint answers a pod on TCP.
    pub fn wait_for_answer(&self, to: &str) -> Result<()> {
        self.wait_until(self.asker()?, &tcp(to), |outcome| matches!(outcome, Outcome::Answer(_))).map(drop)
    }

    /// Waits until that pod answers a pod on TCP.
    pub fn wait_for_pod(&self, to: &str, pod: usize) -> Result<()> {
        let address = self.pod_address(pod)?;
        let right =
            |outcome: &Outcome| matches!(outcome, Outcome::Answer(answer) if answer.local.ip() == address);
        self.wait_until(self.asker()?, &tcp(to), right).map(drop)
    }

    /// Waits until nobody answers a pod on TCP any more.
    pub fn wait_for_silence(&self, to: &str) -> Result<()> {
        self.wait_until(self.asker()?, &tcp(to), |outcome| !matches!(outcome, Outcome::Answer(_))).map(drop)
    }

    /// Fails unless so many new connections from a pod are answered.
    pub fn assert_works(&self, to: &str, times: usize) -> Result<()> {
        for attempt in self.asker()?.ask_often(tcp(to).patience(Duration::from_secs(1)), times)? {
            ensure!(
                matches!(attempt.outcome, Outcome::Answer(_)),
                "{to}: {attempt:?}\n{}",
                self.agent.log_tail()
            );
        }
        Ok(())
    }

    /// Asks the health server, from outside.
    pub fn http(&self, path: &str) -> Result<HttpAnswer> {
        fetch(&self.client, at(HEALTH), path)
    }

    /// Asks the metrics server, on the node.
    pub fn metrics_page(&self, path: &str) -> Result<HttpAnswer> {
        fetch(self.node.host(), at(METRICS), path)
    }

    /// Asks any HTTP server from outside.
    pub fn http_at(&self, to: &str, path: &str) -> Result<HttpAnswer> {
        fetch(&self.client, at(to), path)
    }

    /// What the agent counts.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::parse(&self.metrics_page("/metrics")?.body)
    }

    /// The agent's status.
    pub fn status(&self) -> Result<Value> {
        let page = self.metrics_page("/shunt/status")?;
        serde_json::from_str(&page.body).with_context(|| page.body)
    }

    /// Waits until the log has these words.
    pub fn wait_for_log(&self, words: &[&str]) -> Result<String> {
        let line = |log: &str| {
            let found = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            found.map(str::to_owned)
        };
        eventually(&format!("a line with {words:?}"), CHANGE_PATIENCE, || Ok(line(&self.agent.log())))
            .with_context(|| self.agent.log_tail())
    }
}

fn fetch(from: &Host, to: SocketAddr, path: &str) -> Result<HttpAnswer> {
    let answer = from.worker().run(http_get(None, to, path.to_owned(), HTTP_PATIENCE))?;
    answer.map_err(|outcome| anyhow::anyhow!("http://{to}{path}: {outcome:?}"))
}

fn add_pod(node: &Node, number: u8) -> Result<Pod> {
    let address = format!("10.244.1.{}/32", 10 + number).parse()?;
    let pod = node.pod(&format!("pod{number}"), PodLink::Routed, &[address], &[])?;
    for port in [8080, 5353] {
        pod.host().listen(Protocol::Tcp, port)?;
        pod.host().listen(Protocol::Udp, port)?;
    }
    Ok(pod)
}

/// The node as the kubelet registers it.
fn node_object() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.50.11"}],
                   "conditions": [{"type": "Ready", "status": "True"}]},
    })
}
