//! One port of a client through two Services to one and the same endpoint: the client's kernel sees two destinations, the
//! endpoint must see two clients. Behind a firewall that drops what connection tracking takes for invalid.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use shunt_tests::lab::{Dial, Host, Outcome, Protocol};
use shunt_tests::stage::{Endpoint, Slice, Stage, service};
use shunt_tests::{Mode, in_each_mode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::time::timeout;

use super::at;
use super::topologies::{drops, filter, pod_address};

in_each_mode!(
    connections_from_one_port_to_one_endpoint_are_open_at_the_same_time,
    a_port_works_at_once_after_its_server_has_closed_an_earlier_connection,
    a_port_works_at_once_after_its_client_has_reset_an_earlier_connection,
    datagrams_from_one_port_to_one_endpoint_are_answered_by_whom_they_were_sent_to,
);

/// The pods' port where the server closes the connection, and the one where datagrams come back.
const CLOSING: u16 = 9090;
const ECHO: u16 = 9091;

/// Less than the kernel waits before it repeats a request.
const PATIENCE: Duration = Duration::from_millis(900);

/// Client ports that are tried from everywhere; whether an endpoint takes a request on ports that it remembers depends on
/// random numbers.
const PORTS: u16 = 8;

/// Service, last part of its cluster IPs, node port of its first port, number of the node whose first pod is the endpoint.
const SERVICES: [(&str, u8, u16, usize); 4] =
    [("near", 11, 30110, 0), ("near-too", 12, 30120, 0), ("far", 13, 30130, 1), ("far-too", 14, 30140, 1)];

/// What is offered: name of the port, protocol, port of the Service, of the pods.
const OFFERED: [(&str, &str, u16, u16); 3] =
    [("web", "TCP", 80, 8080), ("closing", "TCP", 81, CLOSING), ("echo", "UDP", 82, ECHO)];

fn objects() -> Vec<Value> {
    let mut objects = Vec::new();
    for (name, last, node_port, node) in SERVICES {
        let addresses = [format!("10.96.0.{last}"), format!("fd00:96::{last}")];
        let ports: Vec<_> = (node_port..)
            .zip(OFFERED)
            .map(|(node_port, (name, protocol, port, target))| {
                json!({"name": name, "port": port, "targetPort": target, "nodePort": node_port,
                       "protocol": protocol})
            })
            .collect();
        let spec = json!({"type": "NodePort", "clusterIP": addresses[0], "clusterIPs": addresses,
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack", "ports": ports});
        objects.push(service(name, &spec));
        for (port_name, protocol, _, target) in OFFERED {
            objects.extend([false, true].map(|v6| {
                let at = SocketAddr::new(pod_address(node, 0, v6), target);
                let endpoints = [Endpoint::new(at, ["node-a", "node-b"][node])];
                Slice { port_name, protocol, ..Slice::new(name, target, endpoints) }.object()
            }));
        }
    }
    objects
}

fn stage(mode: Mode) -> Stage {
    let mut stage = Stage::create(mode, 2).expect("a stage");
    for number in 0..2 {
        let node = stage.node_mut(number).expect("a node");
        (5..7).for_each(|last| node.add_pod(last).expect("a pod"));
        for v6 in [false, true] {
            serve(stage.node(number).expect("a node").pod(0).expect("a pod"), pod_address(number, 0, v6));
        }
    }
    filter(&stage);
    stage.apply(objects()).expect("applies");
    stage
}

/// Answers on the ports that pods of a stage do not have.
fn serve(pod: &Host, address: IpAddr) {
    let bound = pod.worker().run(async move {
        let listener = TcpListener::bind((address, CLOSING)).await?;
        let socket = UdpSocket::bind((address, ECHO)).await?;
        tokio::spawn(close_first(listener));
        tokio::spawn(send_back(socket));
        std::io::Result::Ok(())
    });
    bound.expect("runs").expect("listens");
}

/// Answers one byte, and is the first to close: this end remembers the connection (`TIME_WAIT`).
async fn close_first(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut asked = [0];
        if stream.read_exact(&mut asked).await.is_ok() {
            // The client tells what became of the answer.
            drop(stream.write_all(&asked).await);
        }
    }
}

async fn send_back(socket: UdpSocket) {
    let mut bytes = [0; 64];
    while let Ok((length, client)) = socket.recv_from(&mut bytes).await {
        drop(socket.send_to(&bytes[..length], client).await);
    }
}

/// A client and two ways to each of the endpoints that it is tried with, by the first port that is offered there.
struct Client<'a> {
    who: &'static str,
    host: &'a Host,
    pairs: Vec<[SocketAddr; 2]>,
}

/// A node port of node-a and a cluster IP for the endpoint there, either first. Where node-a leaves a pod of the other node its address,
/// and that node translates the other way, no one knows both connections.
fn by_both_nodes() -> Vec<[SocketAddr; 2]> {
    let pairs = node_ports().into_iter().take(2).zip(cluster_ips(&[0]));
    pairs.flat_map(|([a, _], [_, b])| [[a, b], [b, a]]).collect()
}

/// Cluster IPs of the pairs of Services with these numbers.
fn cluster_ips(pairs: &[usize]) -> Vec<[SocketAddr; 2]> {
    let address =
        |last: u8, v6| if v6 { format!("[fd00:96::{last}]:80") } else { format!("10.96.0.{last}:80") };
    let pair = |pair: &usize, v6| [0, 1].map(|number| at(&address(SERVICES[2 * pair + number].1, v6)));
    pairs.iter().flat_map(|number| [false, true].map(|v6| pair(number, v6))).collect()
}

/// Node ports of node-a for the endpoints on either node.
fn node_ports() -> Vec<[SocketAddr; 2]> {
    let pair = |pair: usize, v6| {
        let address = if v6 { "[fd00:50::11]" } else { "192.168.50.11" };
        [0, 1].map(|number| at(&format!("{address}:{}", SERVICES[2 * pair + number].2)))
    };
    [0, 1].into_iter().flat_map(|number| [false, true].map(|v6| pair(number, v6))).collect()
}

/// With socket load balancing, the clients' kernels see the endpoint, and refuse to use a port twice: only those outside
/// of the cluster are tried.
fn clients(stage: &Stage, mode: Mode) -> Vec<Client<'_>> {
    let node = |number| stage.node(number).expect("a node");
    let outside = Client { who: "outside", host: stage.client(), pairs: node_ports() };
    if mode == Mode::Ebpf {
        return vec![outside];
    }
    let pod = |number, pod| node(number).pod(pod).expect("a pod");
    vec![
        outside,
        Client { who: "pod", host: pod(0, 1), pairs: [cluster_ips(&[0, 1]), node_ports()].concat() },
        Client { who: "pod of the other node", host: pod(1, 1), pairs: cluster_ips(&[0, 1]) },
        Client { who: "node", host: node(0).machine(), pairs: cluster_ips(&[0, 1]) },
        Client { who: "the endpoint itself", host: pod(0, 0), pairs: cluster_ips(&[0]) },
    ]
}

/// The same, for connections one after the other.
fn clients_in_turn(stage: &Stage, mode: Mode) -> Vec<Client<'_>> {
    let host = stage.node(1).expect("a node").pod(1).expect("a pod");
    let mut clients = clients(stage, mode);
    clients.push(Client { who: "pod of the other node, by both nodes", host, pairs: by_both_nodes() });
    clients
}

/// The way to another port that the same Service offers. (Node ports count up as the ports do.)
fn offered(way: SocketAddr, number: u16) -> SocketAddr {
    SocketAddr::new(way.ip(), way.port() + number)
}

/// Tries all clients with ports of their own; failures are told all at once.
fn try_all(
    stage: &Stage,
    clients: Vec<Client<'_>>,
    mut attempt: impl FnMut(&Host, [SocketAddr; 2], u16) -> Result<()>,
) {
    let mut port = 20_000;
    let mut failures = Vec::new();
    for client in clients {
        for pair in client.pairs {
            for way in pair {
                let dial = Dial::new(Protocol::Tcp, way);
                stage.wait_for_answer(client.host, &dial).unwrap_or_else(|error| panic!("{error:#}"));
            }
            for _ in 0..PORTS {
                port += 1;
                if let Err(error) = attempt(client.host, pair, port) {
                    failures.push(format!("{}:{port} -> {pair:?}: {error:#}", client.who));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}\n{}\n{}", drops(stage), stage.logs());
}

fn connections_from_one_port_to_one_endpoint_are_open_at_the_same_time(mode: Mode) {
    let stage = stage(mode);
    try_all(&stage, clients(&stage, mode), |host, pair, port| {
        let dial = |way| Dial { source_port: port, ..Dial::new(Protocol::Tcp, way) };
        let mut connections = Vec::new();
        for way in pair {
            connections.push(host.open(dial(way)).with_context(|| format!("to {way}"))?);
        }
        for _ in 0..3 {
            for (connection, way) in std::mem::take(&mut connections).into_iter().zip(pair) {
                let (connection, outcome) = host.ask_again(connection)?;
                let is_answer = matches!(&outcome, Outcome::Answer(answer) if answer.problem.is_none());
                ensure!(is_answer, "{way}: {outcome:?}");
                connections.push(connection);
            }
        }
        Ok(())
    });
}

fn a_port_works_at_once_after_its_server_has_closed_an_earlier_connection(mode: Mode) {
    let stage = stage(mode);
    try_all(&stage, clients_in_turn(&stage, mode), |host, pair, port| {
        for way in pair.map(|way| offered(way, 1)) {
            let answered =
                host.worker().run(async move { timeout(PATIENCE, ask_until_closed(way, port)).await })?;
            let answer = answered.with_context(|| format!("{way} does not answer"))?;
            ensure!(answer.with_context(|| format!("to {way}"))? == b"?", "{way} answers something else");
        }
        Ok(())
    });
}

fn a_port_works_at_once_after_its_client_has_reset_an_earlier_connection(mode: Mode) {
    let stage = stage(mode);
    try_all(&stage, clients_in_turn(&stage, mode), |host, pair, port| {
        for way in pair {
            let dial = Dial { source_port: port, ..Dial::new(Protocol::Tcp, way) };
            let attempt = host.worker().run(dial.patience(PATIENCE).once())?;
            let is_answer = matches!(&attempt.outcome, Outcome::Answer(answer) if answer.problem.is_none());
            ensure!(is_answer, "{way}: {:?}", attempt.outcome);
        }
        Ok(())
    });
}

/// Asks, and reads all until the server closes.
async fn ask_until_closed(to: SocketAddr, port: u16) -> std::io::Result<Vec<u8>> {
    let (socket, any) = if to.is_ipv4() {
        (TcpSocket::new_v4()?, IpAddr::from([0; 4]))
    } else {
        (TcpSocket::new_v6()?, IpAddr::from([0_u16; 8]))
    };
    socket.set_reuseaddr(true)?;
    socket.bind((any, port).into())?;
    let mut stream = socket.connect(to).await?;
    stream.write_all(b"?").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn datagrams_from_one_port_to_one_endpoint_are_answered_by_whom_they_were_sent_to(mode: Mode) {
    let stage = stage(mode);
    try_all(&stage, clients_in_turn(&stage, mode), |host, pair, port| {
        host.worker().run(ask_in_turn(pair.map(|way| offered(way, 2)), port))?
    });
}

/// Sends datagrams from one socket, to both in turn.
async fn ask_in_turn(ways: [SocketAddr; 2], port: u16) -> Result<()> {
    let any = if ways[0].is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0_u16; 8]) };
    let socket = UdpSocket::bind((any, port)).await?;
    for number in 0..3 {
        for way in ways {
            let sent = format!("{number} to {way}");
            socket.send_to(sent.as_bytes(), way).await?;
            let mut bytes = [0; 64];
            let received = timeout(PATIENCE, socket.recv_from(&mut bytes)).await;
            let (length, sender) = received.with_context(|| format!("no answer: {sent}"))??;
            ensure!(sender == way, "an answer from {sender}: {sent}");
            ensure!(&bytes[..length] == sent.as_bytes(), "another answer: {sent}");
        }
    }
    Ok(())
}
