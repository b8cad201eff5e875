//! A rolling update under load.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::machines::NODES;
use super::objects::{self, Endpoint};
use super::stage::Stage;
use super::stream::{Sample, Stream, words};
use super::terminal::Row;

/// Where the pods of this part serve.
const PORT: u16 = 9000;
const NODE_PORT: u16 = 30_090;
/// Each client begins a request this often.
const EVERY: Duration = Duration::from_millis(5);
/// Between the steps of the update.
const STEP: Duration = Duration::from_millis(350);
/// From "terminating" to the end of the server: what a pod's preStop hook would wait.
const GRACE: Duration = Duration::from_millis(250);
/// After a pod is gone.
const PAUSE: Duration = Duration::from_millis(100);
/// The clients.
const CLIENTS: [&str; 3] = ["a-3", "node-b", "client"];
/// Who is replaced by whom.
const UPDATES: [(&str, &str); 3] = [("a-1", "b-2"), ("b-1", "a-3"), ("a-2", "b-3")];

/// The update while it goes on.
struct Update {
    endpoints: Vec<Endpoint>,
    servers: BTreeMap<&'static str, CancellationToken>,
    /// When each step began, and its words.
    steps: Vec<(Duration, String)>,
    epoch: Instant,
}

/// Three pods are replaced one after the other, while three clients ask 200 times a second each.
pub(super) fn rolling_update(stage: &mut Stage) -> Result<()> {
    stage.terminal.heading("A rolling update: three pods replaced one by one, under 600 requests a second");
    let old: Vec<&str> = UPDATES.iter().map(|(old, _)| *old).collect();
    let mut update = Update {
        endpoints: stage.endpoints(&old)?,
        servers: BTreeMap::new(),
        steps: Vec::new(),
        epoch: Instant::now(),
    };
    for pod in UPDATES.map(|(old, _)| old) {
        update.start_server(stage, pod)?;
    }
    let ports = json!([{"name": "http", "port": 80, "targetPort": PORT, "nodePort": NODE_PORT}]);
    let to = stage.service_at("rolling", &json!({"type": "NodePort", "ports": ports}), 80)?;
    update.write(stage)?;
    stage.settle()?;
    let lost_before = handshakes_repeated(stage)?;
    update.epoch = Instant::now();
    let streams = streams(stage, to, update.epoch)?;
    update.step(format!("version 1: {}", old.join(", ")));
    sleep(STEP);
    for (old, new) in UPDATES {
        update.replace(stage, old, new)?;
    }
    let mut samples = Vec::new();
    for stream in streams {
        samples.extend(stream.finish()?);
    }
    show(stage, &update, &samples);
    let lost = handshakes_repeated(stage)? - lost_before;
    stage.claim(lost == 0, &format!("{lost} of their connections had to ask twice to be let in"));
    Ok(())
}

/// A pod, a node, and the outside through a node port.
fn streams(stage: &Stage, to: SocketAddr, epoch: Instant) -> Result<Vec<Stream>> {
    let [_, b] = &NODES;
    let [address, _] = b.addresses;
    let node_port = SocketAddr::new(address.parse()?, NODE_PORT);
    let to = |from| if from == "client" { node_port } else { to };
    CLIENTS
        .into_iter()
        .map(|from| Ok(Stream::start(stage.machines.host(from)?, to(from), EVERY, epoch)))
        .collect()
}

impl Update {
    fn start_server(&mut self, stage: &Stage, pod: &'static str) -> Result<()> {
        let stop = CancellationToken::new();
        stage.machines.serve(pod, PORT, stop.clone())?;
        self.servers.insert(pod, stop);
        Ok(())
    }

    fn write(&self, stage: &Stage) -> Result<()> {
        stage.control.apply(&objects::slice("rolling", PORT, &self.endpoints))?;
        Ok(())
    }

    fn step(&mut self, words: String) {
        self.steps.push((self.epoch.elapsed(), words));
    }

    /// The new pod becomes ready; the old one terminates, ends after its grace period, and is gone.
    fn replace(&mut self, stage: &Stage, old: &'static str, new: &'static str) -> Result<()> {
        self.start_server(stage, new)?;
        self.endpoints.extend(stage.endpoints(&[new])?);
        self.step(format!("{new} ready"));
        self.write(stage)?;
        sleep(STEP);
        let leaving = stage.machines.pod(old)?.v4();
        for endpoint in &mut self.endpoints {
            endpoint.terminating |= endpoint.address == leaving;
        }
        self.step(format!("{old} terminating"));
        self.write(stage)?;
        sleep(GRACE);
        self.servers.remove(old).context("a server that does not run")?.cancel();
        self.endpoints.retain(|endpoint| endpoint.address != leaving);
        self.step(format!("{old} gone"));
        self.write(stage)?;
        sleep(PAUSE);
        Ok(())
    }
}

/// How often the clients had to send a SYN again, which is what a packet sent to nobody would lead to.
fn handshakes_repeated(stage: &Stage) -> Result<u64> {
    let counts = CLIENTS.map(|client| {
        let namespace = stage.machines.host(client)?.namespace();
        let text = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/netstat"))?;
        counter(&text.context("cannot read the network counters")?, "TCPSynRetrans")
            .with_context(|| format!("{client} has no counter TCPSynRetrans"))
    });
    counts.into_iter().sum()
}

/// A counter of `/proc/net/netstat`: lines of names, each followed by a line of values.
fn counter(netstat: &str, name: &str) -> Option<u64> {
    let lines: Vec<&str> = netstat.lines().collect();
    lines.chunks_exact(2).find_map(|pair| {
        let [names, values] = pair else { return None };
        let place = names.split(' ').position(|word| word == name)?;
        values.split(' ').nth(place)?.parse().ok()
    })
}

fn show(stage: &mut Stage, update: &Update, samples: &[Sample]) {
    let mut rows = vec![Row::of(["at", "step", "requests from then on, answered by"])];
    let ends = update.steps.iter().skip(1).map(|(at, _)| *at).chain([Duration::MAX]);
    for ((begin, step), end) in update.steps.iter().zip(ends) {
        let within: Vec<&Sample> =
            samples.iter().filter(|sample| (*begin..end).contains(&sample.at)).collect();
        let at = format!("{:.2} s", begin.as_secs_f64());
        let answers = words(&within, &stage.machines.names);
        rows.push(Row::judged([at, step.clone(), answers], within.iter().all(|sample| sample.is_answered())));
    }
    stage.terminal.table(&rows);
    let failed = samples.iter().filter(|sample| !sample.is_answered()).count();
    let slowest = samples.iter().map(|sample| sample.attempt.elapsed).max().unwrap_or_default();
    stage.report.requests += samples.len();
    stage.claim(
        failed == 0 && samples.len() > 300,
        &format!("{} requests, {failed} failed, the slowest took {slowest:.1?}", samples.len()),
    );
    let after_first = |sample: &&Sample| {
        update.steps.last().is_some_and(|(at, _)| sample.at > *at + Duration::from_millis(50))
    };
    let gone: Vec<String> = UPDATES.iter().map(|(old, _)| (*old).to_owned()).collect();
    let late: Vec<&Sample> = samples.iter().filter(after_first).collect();
    let stale = words(&late, &stage.machines.names);
    stage.claim(
        !late.is_empty() && !gone.iter().any(|pod| stale.contains(pod.as_str())),
        "in the end only the new pods answer",
    );
}

#[cfg(test)]
mod tests {
    use super::counter;

    #[test]
    fn counters_are_found_by_name() {
        let text = "TcpExt: SyncookiesSent TCPSynRetrans\nTcpExt: 1 22\nIpExt: InNoRoutes\nIpExt: 3\n";
        assert_eq!(counter(text, "TCPSynRetrans"), Some(22));
        assert_eq!(counter(text, "InNoRoutes"), Some(3));
        assert_eq!(counter(text, "Absent"), None);
    }
}
