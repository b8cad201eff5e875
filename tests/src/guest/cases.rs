//! What must happen to packets, in any mode.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::node::{Client, NAME, Scene};
use crate::lab::{Dial, Outcome, Protocol};
use crate::stage::{Endpoint, Slice, service};

/// Emulation is slow, more so on a busy host.
const PATIENCE: Duration = Duration::from_mins(1);
/// Nothing is lost between namespaces: an answer comes, or something is wrong.
const CALM: Duration = Duration::from_secs(10);
/// For those asked before they have to answer.
const ANSWER: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);
/// So often in a row; while a backend was not seen yet, again, until not to see it is as good as impossible.
const OFTEN: usize = 16;
const ROUNDS: usize = 4;
/// More than the segments that a kernel hands around in one piece.
const BULK: usize = 100_000;

const WEB: [&str; 2] = ["10.96.0.10", "fd00:96::10"];
const EMPTY: [&str; 2] = ["10.96.0.20", "fd00:96::20"];
const NODE: [&str; 2] = ["192.168.50.11", "fd00:50::11"];
const NODE_PORT: u16 = 30_080;

/// A check, and what it is called.
pub(super) type Case = (&'static str, fn(&mut Scene) -> Result<String>);

/// In the order in which they are to run.
pub(super) const CASES: &[Case] = &[
    ("first service answers", first_answer),
    ("cluster IP, TCP IPv4", |scene| both_answer(scene, Client::Pod, &tcp(WEB[0], 80))),
    ("cluster IP, TCP IPv6", |scene| both_answer(scene, Client::Pod, &tcp(WEB[1], 80))),
    ("cluster IP, UDP IPv4", |scene| both_answer(scene, Client::Pod, &udp(WEB[0]))),
    ("cluster IP, UDP IPv6", |scene| both_answer(scene, Client::Pod, &udp(WEB[1]))),
    ("cluster IP, UDP unconnected", |scene| both_answer(scene, Client::Pod, &unconnected(WEB[0]))),
    ("cluster IP from the node, IPv4", |scene| both_answer(scene, Client::Node, &tcp(WEB[0], 80))),
    ("cluster IP from the node, IPv6", |scene| both_answer(scene, Client::Node, &tcp(WEB[1], 80))),
    ("node port from outside, IPv4", |scene| both_answer(scene, Client::Outside, &tcp(NODE[0], NODE_PORT))),
    ("node port from outside, IPv6", |scene| both_answer(scene, Client::Outside, &tcp(NODE[1], NODE_PORT))),
    ("bulk, cluster IP IPv4", |scene| bulk(scene, Client::Pod, &tcp(WEB[0], 80))),
    ("bulk, cluster IP IPv6", |scene| bulk(scene, Client::Pod, &tcp(WEB[1], 80))),
    ("bulk, node port from outside", |scene| bulk(scene, Client::Outside, &tcp(NODE[0], NODE_PORT))),
    ("no endpoints: refused, IPv4", |scene| refused(scene, &tcp(EMPTY[0], 80))),
    ("no endpoints: refused, IPv6", |scene| refused(scene, &tcp(EMPTY[1], 80))),
    ("an endpoint leaves and returns", endpoint_change),
    ("killed and started again", restart),
];

/// The Services and their endpoints.
pub(super) fn objects(scene: &Scene) -> Result<Vec<Value>> {
    let ports = json!([
        {"name": "web", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": NODE_PORT},
        {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 5353},
    ]);
    let web = json!({"type": "NodePort", "clusterIP": WEB[0], "clusterIPs": WEB,
                     "ipFamilies": ["IPv4", "IPv6"], "ports": ports});
    let empty = json!({"clusterIP": EMPTY[0], "clusterIPs": EMPTY, "ipFamilies": ["IPv4", "IPv6"],
                       "ports": [{"protocol": "TCP", "port": 80}]});
    let mut objects = vec![service("web", &web), service("empty", &empty)];
    objects.extend(slices(scene, &[0, 1])?);
    Ok(objects)
}

/// Slices with these backends.
fn slices(scene: &Scene, backends: &[usize]) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for family in [0, 1] {
        for (name, protocol, port) in [("web", "TCP", 8080), ("dns", "UDP", 5353)] {
            let endpoints = endpoints(scene, backends, family, port)?;
            let endpoints = endpoints.into_iter().map(|at| Endpoint::new(at, NAME)).collect();
            objects.push(Slice { service: "web", port_name: name, protocol, port, endpoints }.object());
        }
    }
    Ok(objects)
}

fn endpoints(scene: &Scene, backends: &[usize], family: usize, port: u16) -> Result<Vec<SocketAddr>> {
    let address = |number: &usize| {
        let addresses = scene.backend(*number)?;
        match addresses.get(family) {
            Some(address) => Ok(SocketAddr::new(*address, port)),
            None => bail!("backend {number} has too few addresses"),
        }
    };
    backends.iter().map(address).collect()
}

fn at(address: &str, port: u16) -> SocketAddr {
    // The addresses are constants of this file.
    SocketAddr::new(address.parse().unwrap_or(IpAddr::from([0; 4])), port)
}

fn tcp(address: &str, port: u16) -> Dial {
    Dial::new(Protocol::Tcp, at(address, port)).patience(CALM)
}

fn udp(address: &str) -> Dial {
    Dial::new(Protocol::Udp, at(address, 53)).patience(CALM)
}

fn unconnected(address: &str) -> Dial {
    Dial { unconnected: true, ..udp(address) }
}

fn first_answer(scene: &mut Scene) -> Result<String> {
    let started = Instant::now();
    wait_for(scene, Client::Pod, &tcp(WEB[0], 80), |found| !found.is_empty())?;
    wait_for(scene, Client::Pod, &tcp(WEB[1], 80), |found| !found.is_empty())?;
    Ok(format!("after {:.1?}", started.elapsed()))
}

/// Repeats until the endpoints that answer are as wanted.
fn wait_for(
    scene: &Scene,
    from: Client,
    dial: &Dial,
    right: impl Fn(&[SocketAddr]) -> bool,
) -> Result<Vec<SocketAddr>> {
    let started = Instant::now();
    loop {
        scene.check_agent()?;
        let found = scene.answering(from, &dial.clone().patience(ANSWER), 1);
        match found {
            Ok(found) if right(&found) => return Ok(found),
            found if started.elapsed() > PATIENCE => bail!("still: {found:?}"),
            _ => sleep(PAUSE),
        }
    }
}

fn both_answer(scene: &mut Scene, from: Client, dial: &Dial) -> Result<String> {
    answer_exactly(scene, from, dial, &[0, 1])
}

/// Those backends answer, all of them, and nobody else.
fn answer_exactly(scene: &Scene, from: Client, dial: &Dial, backends: &[usize]) -> Result<String> {
    let port = if dial.protocol == Protocol::Udp { 5353 } else { 8080 };
    let expected = endpoints(scene, backends, usize::from(dial.to.is_ipv6()), port)?;
    let expected = BTreeSet::from_iter(expected);
    let mut found = BTreeSet::new();
    for _ in 0..ROUNDS {
        found.extend(scene.answering(from, dial, OFTEN)?);
        if !found.is_subset(&expected) || found == expected {
            break;
        }
    }
    ensure!(found == expected, "{found:?} answered, not {expected:?}");
    Ok(format!("{} endpoints", found.len()))
}

/// The cluster IPs of the Service that answers, IPv4 and IPv6.
pub(super) fn cluster_ips() -> [Dial; 2] {
    WEB.map(|address| tcp(address, 80))
}

/// A client outside reaches all endpoints, once the node serves the interface that it comes by, which may be a new one.
pub(super) fn answer_through(scene: &Scene, dial: &Dial) -> Result<String> {
    wait_for(scene, Client::Outside, dial, |found| !found.is_empty())?;
    answer_exactly(scene, Client::Outside, dial, &[0, 1])
}

fn bulk(scene: &mut Scene, from: Client, dial: &Dial) -> Result<String> {
    let dial = Dial { payload: BULK, reply_size: BULK, timeout: Duration::from_secs(15), ..dial.clone() };
    scene.answering(from, &dial, 2)?;
    Ok(format!("{BULK} bytes each way, twice"))
}

fn refused(scene: &mut Scene, dial: &Dial) -> Result<String> {
    let refusal = std::io::Error::from_raw_os_error(libc::ECONNREFUSED).to_string();
    for from in [Client::Pod, Client::Node] {
        for outcome in scene.ask(from, dial, 2)? {
            ensure!(outcome == Outcome::Rejected(refusal.clone()), "from {from:?}: {outcome:?}");
        }
    }
    Ok("ECONNREFUSED for pod and node".to_owned())
}

fn endpoint_change(scene: &mut Scene) -> Result<String> {
    let (tcp, udp) = (tcp(WEB[0], 80), udp(WEB[1]));
    let left = slices(scene, &[1])?;
    scene.apply(left)?;
    let quiet = |backend: SocketAddr| move |found: &[SocketAddr]| !found.contains(&backend);
    let gone = endpoints(scene, &[0], 0, 8080)?;
    settle(scene, &tcp, gone.first().copied().map(quiet))?;
    let gone = endpoints(scene, &[0], 1, 5353)?;
    settle(scene, &udp, gone.first().copied().map(quiet))?;
    answer_exactly(scene, Client::Pod, &tcp, &[1])?;
    answer_exactly(scene, Client::Pod, &udp, &[1])?;
    answer_exactly(scene, Client::Outside, &self::tcp(NODE[1], NODE_PORT), &[1])?;
    let all = slices(scene, &[0, 1])?;
    let returned = endpoints(scene, &[0], 0, 8080)?;
    scene.apply(all)?;
    wait_for(scene, Client::Pod, &tcp, |found| returned.iter().all(|backend| found.contains(backend)))?;
    answer_exactly(scene, Client::Pod, &tcp, &[0, 1])
}

/// Waits until many answers in a row are right.
fn settle(scene: &Scene, dial: &Dial, right: Option<impl Fn(&[SocketAddr]) -> bool>) -> Result<()> {
    let Some(right) = right else { bail!("there is no backend to wait for") };
    let started = Instant::now();
    loop {
        scene.check_agent()?;
        match scene.answering(Client::Pod, dial, OFTEN) {
            Ok(found) if right(&found) => return Ok(()),
            found if started.elapsed() > PATIENCE => bail!("still: {found:?}"),
            _ => sleep(PAUSE),
        }
    }
}

/// What is programmed works without an agent; the next one takes it over, and changes go on.
fn restart(scene: &mut Scene) -> Result<String> {
    scene.restart()?;
    both_answer(scene, Client::Pod, &tcp(WEB[0], 80))?;
    let left = slices(scene, &[0])?;
    scene.apply(left)?;
    let gone = endpoints(scene, &[1], 0, 8080)?;
    settle(
        scene,
        &tcp(WEB[0], 80),
        Some(|found: &[SocketAddr]| gone.iter().all(|gone| !found.contains(gone))),
    )?;
    answer_exactly(scene, Client::Pod, &tcp(WEB[0], 80), &[0])
}
