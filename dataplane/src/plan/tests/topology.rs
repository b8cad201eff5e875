//! kube-proxy's own table for the choice of endpoints, row by row.

use std::net::SocketAddr;

use serde::Deserialize;

use super::build::{ip, service, slice};
use crate::domain::{Endpoint, EndpointPort, Hints, Node, Protocol, TrafficPolicy};
use crate::plan::{Backend, NodeView, PlanSettings, Policy, Target, plan_service};

const ROWS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/topology.json"));

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    node: RowNode,
    service: RowService,
    endpoints: Vec<RowEndpoint>,
    expect: Expectation,
    feature_gates: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct RowNode {
    name: String,
    labels: std::collections::HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RowService {
    internal_traffic_policy: String,
    external_traffic_policy: String,
    externally_accessible: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the table has them")]
struct RowEndpoint {
    endpoint: SocketAddr,
    local: bool,
    ready: bool,
    serving: bool,
    terminating: bool,
    #[serde(default)]
    zone_hints: Vec<String>,
    #[serde(default)]
    node_hints: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expectation {
    cluster: Option<Vec<SocketAddr>>,
    local: Option<Vec<SocketAddr>>,
    has_any_endpoints: bool,
}

impl Expectation {
    fn target(&self, list: Option<&Vec<SocketAddr>>) -> (bool, bool, Vec<SocketAddr>) {
        let list = list.cloned().unwrap_or_default();
        let empty = list.is_empty();
        (empty && !self.has_any_endpoints, empty && self.has_any_endpoints, list)
    }
}

fn seen(target: &Target) -> (bool, bool, Vec<SocketAddr>) {
    let backends = target.backends().iter().map(Backend::socket).collect();
    (*target == Target::Reject, *target == Target::Drop, backends)
}

fn policy(text: &str) -> TrafficPolicy {
    match text {
        "Cluster" => TrafficPolicy::Cluster,
        "Local" => TrafficPolicy::Local,
        other => panic!("policy {other}"),
    }
}

fn endpoint(row: &RowEndpoint, node: &str) -> Endpoint {
    let words = |list: &[String]| list.iter().map(|word| word.as_str().into()).collect();
    Endpoint {
        address: row.endpoint.ip(),
        ready: row.ready,
        serving: row.serving,
        terminating: row.terminating,
        node: row.local.then(|| node.into()),
        hints: Some(Box::new(Hints { zones: words(&row.zone_hints), nodes: words(&row.node_hints) })),
    }
}

fn check(row: &Row) {
    let mut web = service("web", "172.30.0.1");
    web.internal_policy = policy(&row.service.internal_traffic_policy);
    web.external_policy = policy(&row.service.external_traffic_policy);
    if row.service.externally_accessible {
        web.external_ips = vec![ip("192.0.2.1")];
    }
    let endpoints = row.endpoints.iter().map(|e| endpoint(e, &row.node.name)).collect();
    let mut listed = slice("web-1", "web", endpoints);
    listed.ports = vec![EndpointPort { name: "".into(), protocol: Protocol::Tcp, port: 80 }];
    let zone = row.node.labels.get("topology.kubernetes.io/zone").map(|zone| zone.as_str().into());
    let node = Node { name: row.node.name.as_str().into(), zone, ..Node::default() };
    let settings = PlanSettings::new(row.node.name.as_str());
    let plan = plan_service(&web, &[&listed], &NodeView::new(&settings, Some(&node)), true, None);

    let expect = &row.expect;
    for (frontend, spec) in &plan.frontends {
        let context = format!("{}: {frontend}", row.name);
        let (inside, outside) = match (spec.policy, web.internal_policy) {
            (Policy::Internal, TrafficPolicy::Local) => (&expect.local, &expect.local),
            (Policy::Internal | Policy::ExternalCluster, _) => (&expect.cluster, &expect.cluster),
            (Policy::ExternalLocal, _) => (&expect.cluster, &expect.local),
        };
        assert_eq!(seen(&spec.inside), expect.target(inside.as_ref()), "{context}, inside");
        assert_eq!(seen(&spec.outside), expect.target(outside.as_ref()), "{context}, outside");
    }
    let frontends = if row.service.externally_accessible { 2 } else { 1 };
    assert_eq!(plan.frontends.len(), frontends, "{}", row.name);
}

#[test]
fn every_row_of_the_topology_table_holds() {
    let rows: Vec<Row> = serde_json::from_str(ROWS).unwrap();
    // One row describes a feature gate turned off, which has been on for good since Kubernetes 1.35.
    let (gated, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.feature_gates.is_some());
    assert_eq!((gated.len(), rows.len()), (1, 21));
    rows.iter().for_each(check);
}
