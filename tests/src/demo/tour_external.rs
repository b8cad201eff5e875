//! Services as the outside world uses them: node ports, load balancers, external IPs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::lines::{Line, Seen, Want};
use super::machines::{CLIENT, NODES};
use super::objects;
use super::stage::Stage;
use super::terminal::Row;
use super::tour_internal::WEB;
use crate::lab::http_get;

const PATIENCE: Duration = Duration::from_secs(2);
const HEALTH_NODE_PORT: u16 = 32_100;

/// Node ports under both external traffic policies.
pub(super) fn node_ports(stage: &mut Stage) -> Result<()> {
    stage.terminal.heading(
        "NodePort: shop with externalTrafficPolicy Cluster, shop-local with Local and endpoints on node-a",
    );
    let spread = json!({"type": "NodePort", "selector": {"app": "web"}, "ports": objects::http_at(30080)});
    let local = json!({
        "type": "NodePort", "selector": {"app": "web", "node": "node-a"}, "ports": objects::http_at(30081),
        "externalTrafficPolicy": "Local",
    });
    stage.service("shop", &spread)?;
    stage.service("shop-local", &local)?;
    stage.settle()?;
    let [a, b] = [node_port(0, 30080)?, node_port(1, 30080)?];
    let [local_a, local_b] = [node_port(0, 30081)?, node_port(1, 30081)?];
    let near = || Want::Spread(&["a-1", "a-2"], Seen::Client);
    stage.show(&[
        Line::http("client", "shop", a, Want::Spread(WEB, Seen::Node("node-a"))),
        Line::http("client", "shop", b, Want::Spread(WEB, Seen::Node("node-b"))),
        Line::http("client", "shop-local", local_a, near()),
        Line::http("client", "shop-local", local_b, Want::Dropped),
        Line::http("b-3", "shop-local", local_b, near()),
    ])?;
    stage.terminal.note(if stage.keeps_source {
        "Replies have to come back through the node that was asked: endpoints on other nodes see that node, those on\n\
         it see the client. Local drops where there is no endpoint. Pods of a node are not outsiders: they reach any\n\
         endpoint."
    } else {
        "Cluster has to send replies back through the node, so endpoints see the node; Local keeps the client's\n\
         address, and drops where there is no endpoint. Pods of a node are not outsiders: they reach any endpoint."
    });
    Ok(())
}

fn node_port(node: usize, port: u16) -> Result<SocketAddr> {
    let plan = NODES.get(node).context("no such node")?;
    let [address, _] = plan.addresses;
    Ok(SocketAddr::new(address.parse()?, port))
}

/// Load balancer addresses: source ranges, policy Local with its health check.
pub(super) fn load_balancers(stage: &mut Stage) -> Result<()> {
    stage.terminal.heading(
        "LoadBalancer: front for 192.168.50.100/32 only, front-local with externalTrafficPolicy Local",
    );
    let [client, stranger, _] = CLIENT;
    let guarded = json!({
        "type": "LoadBalancer", "loadBalancerIP": "203.0.113.10", "selector": {"app": "web"},
        "ports": objects::http(), "loadBalancerSourceRanges": [format!("{client}/32")],
    });
    let local = json!({
        "type": "LoadBalancer", "loadBalancerIP": "203.0.113.11", "selector": {"app": "web", "node": "node-a"},
        "ports": objects::http(), "externalTrafficPolicy": "Local", "healthCheckNodePort": HEALTH_NODE_PORT,
    });
    stage.service("front", &guarded)?;
    stage.service("front-local", &local)?;
    stage.settle()?;
    let [client, stranger] = [client.parse::<IpAddr>()?, stranger.parse::<IpAddr>()?];
    let at = |address: &str| -> Result<SocketAddr> { Ok(SocketAddr::new(address.parse()?, 80)) };
    let (guarded, local) = (at("203.0.113.10")?, at("203.0.113.11")?);
    let spread = || Want::Spread(WEB, Seen::Node("node-a"));
    let near = Want::Spread(&["a-1", "a-2"], Seen::Client);
    stage.show(&[
        Line::http("client", "front", guarded, spread()).source(client),
        Line::http("client", "front", guarded, Want::Dropped).source(stranger),
        Line::http("client", "front-local", local, near).source(client),
    ])?;
    health_checks(stage)
}

/// What a load balancer asks each node to find those with endpoints.
fn health_checks(stage: &mut Stage) -> Result<()> {
    let mut rows = vec![Row::of(["health check of front-local", "status", "local endpoints"])];
    for (node, (status, endpoints)) in [(200, 2), (503, 0)].into_iter().enumerate() {
        let to = node_port(node, HEALTH_NODE_PORT)?;
        let client = stage.machines.host("client")?.worker();
        let answer = client.run(http_get(None, to, "/".to_owned(), PATIENCE))?;
        let (found, body) = match answer {
            Ok(answer) => (answer.status, answer.body),
            Err(outcome) => (0, format!("{outcome:?}")),
        };
        let count = serde_json::from_str::<Value>(&body).ok();
        let count = count.as_ref().and_then(|body| body.get("localEndpoints")).and_then(Value::as_u64);
        let held = found == status && count == Some(endpoints);
        stage.report.claim(held, format!("health check {to}: {found} {body} instead of {status}"));
        stage.report.requests += 1;
        let count = count.map_or(body, |count| count.to_string());
        rows.push(Row::judged([format!("http://{to}"), found.to_string(), count], held));
    }
    stage.terminal.table(&rows);
    Ok(())
}

/// External IPs.
pub(super) fn external_ips(stage: &mut Stage) -> Result<()> {
    stage.terminal.heading("externalIPs: 198.51.100.7, which the network sends to node-b");
    let spec = json!({
        "selector": {"app": "web"}, "ports": objects::http(), "externalIPs": ["198.51.100.7"],
    });
    stage.service("legacy", &spec)?;
    stage.settle()?;
    let to = SocketAddr::new("198.51.100.7".parse()?, 80);
    stage.show(&[
        Line::http("client", "legacy", to, Want::Spread(WEB, Seen::Node("node-b"))),
        Line::http("a-3", "legacy", to, Want::Spread(WEB, Seen::Node("node-a"))),
    ])
}
