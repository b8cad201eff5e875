//! Services as pods and nodes use them: cluster IPs.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use serde_json::json;

use super::lines::{Line, Seen, Want};
use super::machines::DNS_PORT;
use super::objects;
use super::stage::Stage;
use crate::lab::{Client, Dial, Outcome, Protocol};

/// The pods labelled `app=web`.
pub(super) const WEB: &[&str] = &["a-1", "a-2", "b-1", "b-2"];
/// The cluster IPs of service `web`.
pub(super) const WEB_ADDRESSES: [&str; 2] = ["10.96.80.80", "fd00:96::80"];
/// In the service network, and nobody's.
const UNALLOCATED: &str = "10.96.99.99";

/// A Service with four endpoints, IPv4 and IPv6, from pods and a node.
pub(super) fn cluster_ip(stage: &mut Stage) -> Result<()> {
    stage.terminal.heading("ClusterIP: service web, dual stack, endpoints in four pods on two nodes");
    let spec = json!({
        "clusterIPs": WEB_ADDRESSES, "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
        "selector": {"app": "web"}, "ports": objects::http(),
    });
    let addresses = stage.service("web", &spec)?;
    let took = stage.settle()?;
    stage.terminal.note(&format!("in effect on both nodes {took:.0?} after the API was told"));
    let [v4, v6] =
        [addresses.first(), addresses.get(1)].map(|ip| ip.copied().context("web is not dual stack"));
    let (v4, v6) = (v4?, v6?);
    let at = |ip: IpAddr, port| SocketAddr::new(ip, port);
    let spread = || Want::Spread(WEB, Seen::Client);
    stage.show(&[
        Line::http("a-3", "web", at(v4, 80), spread()),
        Line::http("b-3", "web", at(v4, 80), spread()),
        Line::http("b-3", "web", at(v6, 80), spread()),
        Line::http("node-a", "web", at(v4, 80), spread()),
        Line::http("a-1", "web", at(v4, 80), spread()),
        Line::http("a-3", "web", at(v4, 81), Want::Refused),
        Line::http("a-3", "(nobody)", at(UNALLOCATED.parse()?, 80), Want::Dropped),
    ])?;
    let source = if stage.keeps_source { "its own address" } else { "its node" };
    stage.terminal.note(&format!(
        "a-1 is an endpoint itself: when it reaches itself it sees {source} as the source. Port 81 is not a port of\n\
         web, and {UNALLOCATED} is no service's address."
    ));
    Ok(())
}

/// Nobody to talk to is said at once.
pub(super) fn no_endpoints(stage: &mut Stage) -> Result<()> {
    stage.terminal.heading("A service without endpoints: refused at once, not left to time out");
    let spec = json!({"selector": {"app": "nobody"}, "ports": [
        {"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"},
    ]});
    let to = stage.service_at("empty", &spec, 80)?;
    stage.settle()?;
    let udp = SocketAddr::new(to.ip(), 53);
    stage.show(&[
        Line::http("a-3", "empty", to, Want::Refused),
        Line::http("a-3", "empty", udp, Want::Refused).datagrams(),
        Line::http("node-b", "empty", to, Want::Refused),
    ])
}

/// The same client keeps its endpoint.
pub(super) fn affinity(stage: &mut Stage) -> Result<()> {
    stage.terminal.heading("Session affinity: a client stays with its endpoint");
    let spec = json!({
        "selector": {"app": "web"}, "ports": objects::http(), "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
    });
    let to = stage.service_at("cart", &spec, 80)?;
    stage.settle()?;
    let one = || Want::One(WEB, Seen::Client);
    stage.show(&["a-3", "b-3", "node-b"].map(|from| Line::http(from, "cart", to, one())))
}

/// Node-local services.
pub(super) fn local_internal_policy(stage: &mut Stage) -> Result<()> {
    stage.terminal.heading(
        "internalTrafficPolicy Local: only endpoints of the client's node; node-cache-b is on node-b",
    );
    let spec =
        |selector| json!({"selector": selector, "ports": objects::http(), "internalTrafficPolicy": "Local"});
    let everywhere = stage.service_at("node-cache", &spec(json!({"app": "web"})), 80)?;
    let only_b = stage.service_at("node-cache-b", &spec(json!({"app": "web", "node": "node-b"})), 80)?;
    stage.settle()?;
    let near_a = Want::Spread(&["a-1", "a-2"], Seen::Client);
    let near_b = || Want::Spread(&["b-1", "b-2"], Seen::Client);
    stage.show(&[
        Line::http("a-3", "node-cache", everywhere, near_a),
        Line::http("b-3", "node-cache", everywhere, near_b()),
        Line::http("b-3", "node-cache-b", only_b, near_b()),
        Line::http("a-3", "node-cache-b", only_b, Want::Dropped),
    ])
}

/// UDP, also when the endpoint of a socket goes away.
pub(super) fn dns(stage: &mut Stage) -> Result<()> {
    stage.terminal.heading("UDP: service dns");
    let spec = json!({
        "selector": {"app": "dns"},
        "ports": [{"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns"}],
    });
    let to = stage.service_at("dns", &spec, DNS_PORT)?;
    stage.settle()?;
    let spread = || Want::Spread(&["a-3", "b-3"], Seen::Client);
    stage.show(&["a-1", "b-1", "node-a"].map(|from| Line::http(from, "dns", to, spread()).datagrams()))?;
    one_socket_moves_on(stage, to)
}

/// A resolver that keeps its socket must not go on asking a pod that is gone.
fn one_socket_moves_on(stage: &mut Stage, to: SocketAddr) -> Result<()> {
    let dial = Dial { source_port: 5353, ..Dial::new(Protocol::Udp, to) };
    let socket = stage.machines.host("a-1")?.open(dial.clone())?;
    let (first, socket) = ask_again(stage, socket)?;
    let first = first.context("the first query was not answered")?;
    let gone = stage.machines.names.of(first);
    let readiness = |ready: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": objects::NAMESPACE, "name": gone},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        })
    };
    stage.control.apply_status(&readiness("False"))?;
    stage.settle()?;
    let (mut second, socket) = ask_again(stage, socket)?;
    let mut then = "now";
    if second.is_none() && socket.was_aborted() {
        // It was connected to the pod itself. A resolver opens another one then.
        drop(socket);
        (second, _) = ask_again(stage, stage.machines.host("a-1")?.open(dial)?)?;
        then = "the socket was told (ECONNABORTED); opened anew,";
    }
    let moved = second.is_some_and(|second| second != first);
    let now = second.map_or_else(|| "nobody".to_owned(), |second| stage.machines.names.of(second));
    stage.claim(
        moved,
        &format!("one socket of a-1 was answered by {gone}; {gone} became unready; {then} {now} answers it"),
    );
    stage.report.requests += 2;
    stage.control.apply_status(&readiness("True"))?;
    stage.settle()?;
    Ok(())
}

fn ask_again(stage: &Stage, socket: Client) -> Result<(Option<IpAddr>, Client)> {
    let (socket, outcome) = stage.machines.host("a-1")?.ask_again(socket)?;
    match outcome {
        Outcome::Answer(answer) => Ok((Some(answer.local.ip()), socket)),
        _ => Ok((None, socket)),
    }
}

/// Headless Services are not shunt's business.
pub(super) fn headless(stage: &mut Stage) -> Result<()> {
    stage.terminal.heading("Headless and ExternalName services: left to DNS");
    stage.service(
        "peers",
        &json!({"clusterIP": "None", "selector": {"app": "web"}, "ports": objects::http()}),
    )?;
    stage.service("elsewhere", &json!({"type": "ExternalName", "externalName": "example.com"}))?;
    stage.settle()?;
    let listed = stage.run_agent("node-a", &["services"])?;
    let held = listed.contains("web") && !listed.contains("peers") && !listed.contains("elsewhere");
    stage.claim(held, "`shunt services` has web, and neither peers nor elsewhere");
    Ok(())
}
