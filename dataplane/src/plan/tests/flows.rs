//! kube-proxy's packet-flow tables, answered by `explain` from the planned table.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::objects::{self, list, number, sloppy_ip, string};
use crate::domain::{Cluster, Event, Protocol, ServiceName, SliceName};
use crate::plan::explain::{Client, Explanation, Question, Source, SourceHandling, Verdict, explain};
use crate::plan::{Changes, NodePortAddresses, Pending, PlanSettings, Planner};

/// A proxy that gets the objects of each step as events.
struct Proxy {
    cluster: Cluster,
    planner: Planner,
    interfaces: BTreeSet<IpAddr>,
    local_range: Option<Vec<IpNet>>,
    masquerade_all: bool,
    services: HashSet<ServiceName>,
    slices: HashSet<SliceName>,
}

impl Proxy {
    fn new(config: &Value, node: &Value) -> Self {
        let detect = &config["localDetect"];
        let ranges = |text: &str| text.split(',').map(|range| range.trim().parse().unwrap()).collect();
        let cidrs = list(&config["nodePortAddresses"]).iter().map(|cidr| string(cidr).parse().unwrap());
        let interfaces = list(&node["addresses"]).iter().map(|a| string(a).split('/').next().unwrap());
        let settings = PlanSettings {
            node_port_addresses: NodePortAddresses::Cidrs(cidrs.collect()),
            ..PlanSettings::new(string(&node["name"]))
        };
        let mut proxy = Self {
            cluster: Cluster::default(),
            planner: Planner::new(settings),
            interfaces: interfaces.map(sloppy_ip).chain(["127.0.0.1", "::1"].map(sloppy_ip)).collect(),
            local_range: detect["clusterCIDR"].as_str().map(ranges),
            masquerade_all: config["masqueradeAll"] == true,
            services: HashSet::new(),
            slices: HashSet::new(),
        };
        let cidrs = list(&config["serviceCIDRs"]).iter().map(|cidr| string(cidr).parse().unwrap());
        let mut pending = Pending::everything();
        pending.add(proxy.cluster.apply(Event::ServiceCidrs(cidrs.collect())));
        pending.add(proxy.cluster.apply(Event::Node(Some(Box::new(objects::node(node))))));
        proxy.update(&pending);
        proxy
    }

    fn update(&mut self, pending: &Pending) -> Changes {
        self.planner.update(&self.cluster, &self.interfaces, pending)
    }

    /// Brings about exactly these objects.
    fn step(&mut self, step: &Value) {
        let services: Vec<_> = list(&step["services"]).iter().filter_map(objects::service).collect();
        let slices: Vec<_> = list(&step["endpointSlices"]).iter().filter_map(objects::slice).collect();
        let names: HashSet<_> = services.iter().map(|service| service.name.clone()).collect();
        let slice_names: HashSet<_> = slices.iter().map(|slice| slice.name.clone()).collect();
        let mut events = Vec::new();
        events.extend(self.services.difference(&names).cloned().map(Event::ServiceGone));
        events.extend(self.slices.difference(&slice_names).cloned().map(Event::SliceGone));
        events.extend(services.into_iter().map(|service| Event::Service(Box::new(service))));
        events.extend(slices.into_iter().map(|slice| Event::Slice(Box::new(slice))));
        let mut pending = Pending::default();
        for event in events {
            pending.add(self.cluster.apply(event));
        }
        self.update(&pending);
        (self.services, self.slices) = (names, slice_names);
    }

    fn client(&self, from: IpAddr, to: IpAddr) -> Client {
        let inside = |ranges: &Vec<IpNet>| ranges.iter().any(|range| range.contains(&from));
        if self.interfaces.contains(&from) || from == to {
            Client::Node // also a node that holds the load balancer's address
        } else if self.local_range.as_ref().is_none_or(inside) {
            Client::Pod
        } else {
            Client::Outside
        }
    }

    fn ask(&self, flow: &Value) -> Explanation {
        let (from, to) = (sloppy_ip(string(&flow["from"])), sloppy_ip(string(&flow["to"])));
        let question = Question {
            from,
            client: self.client(from, to),
            to: SocketAddr::new(to, number(&flow["port"])),
            protocol: Protocol::parse(string(&flow["protocol"])).unwrap(),
        };
        let sources = SourceHandling {
            masquerade_all: self.masquerade_all,
            pods_told_apart: self.local_range.is_some(),
        };
        explain(&self.planner, &self.cluster, sources, &question)
    }
}

/// The outcome in the terms of the tables: kind, endpoints, masqueraded.
fn outcome(answer: &Explanation) -> (&'static str, BTreeSet<String>, bool) {
    let eligible: Vec<_> = answer.endpoints.iter().filter(|e| e.standing.is_eligible()).collect();
    match answer.verdict {
        Verdict::Forward(source) => {
            let hairpin = eligible.iter().all(|endpoint| endpoint.is_client);
            let sockets = eligible.iter().map(|endpoint| endpoint.endpoint.to_string());
            ("endpoints", sockets.collect(), source != Source::Kept || hairpin)
        }
        Verdict::Reject(_) => ("reject", BTreeSet::new(), false),
        Verdict::Drop(_) => ("drop", BTreeSet::new(), false),
        Verdict::Untouched(_) => ("none", BTreeSet::new(), false),
    }
}

fn expected(flow: &Value) -> (&str, BTreeSet<String>, Option<bool>) {
    let expect = flow["expectByBackend"].get("nftables").unwrap_or(&flow["expect"]);
    let endpoints = list(&expect["endpoints"]).iter().map(|endpoint| {
        let socket: SocketAddr = string(endpoint).parse().unwrap();
        socket.to_string()
    });
    let masquerade = expect["masquerade"].as_bool().filter(|_| expect["kind"] == "endpoints");
    (string(&expect["kind"]), endpoints.collect(), masquerade)
}

fn check_flow(context: &str, proxy: &Proxy, flow: &Value) {
    let answer = proxy.ask(flow);
    let (kind, endpoints, masquerade) = expected(flow);
    let (seen_kind, seen_endpoints, seen_masquerade) = outcome(&answer);
    let context = format!("{context}: {}\n{answer}", flow["name"]);
    assert_eq!(seen_kind, kind, "{context}");
    assert_eq!(seen_endpoints, endpoints, "{context}");
    assert_eq!(Some(seen_masquerade).filter(|_| masquerade.is_some()), masquerade, "{context}");
}

fn check_health(context: &str, proxy: &Proxy, expected: &Value) {
    let port = number(&expected["port"]);
    let found = proxy.planner.health_checks().find(|check| check.port == port);
    let found = found.unwrap_or_else(|| panic!("{context}: no health check on port {port}"));
    assert_eq!(found.service.to_string(), string(&expected["service"]), "{context}");
    assert_eq!(found.local_ready, usize::from(number(&expected["localEndpoints"])), "{context}");
}

/// Steps of a case with their configuration and node; rows of a table are steps that start afresh.
fn steps(case: &Value) -> Vec<(Value, Value, Value)> {
    let merge = |base: &Value, change: &Value| {
        let mut merged: Map<String, Value> = base.as_object().cloned().unwrap_or_default();
        merged.extend(change.as_object().cloned().unwrap_or_default());
        Value::Object(merged)
    };
    let all = list(&case["steps"]).iter().chain(list(&case["cases"]));
    let own_config =
        |step: &Value| if step["config"].is_null() { case["config"].clone() } else { step["config"].clone() };
    all.filter(|step| step["featureGates"].is_null())
        .map(|step| (own_config(step), merge(&case["node"], &step["node"]), step.clone()))
        .collect()
}

/// Runs a case; the number of flows and health checks it has.
fn run(case: &Value) -> (usize, usize) {
    let mut proxy: Option<Proxy> = None;
    let (mut flows, mut checks) = (0, 0);
    for (config, node, step) in steps(case) {
        let context = format!("{}: {}{}", case["name"], step["comment"], step["name"]);
        let mut current = match proxy.take() {
            Some(proxy) if step["fresh"] == false => proxy,
            _ => Proxy::new(&config, &node),
        };
        current.step(&step);
        for flow in list(&step["flows"]) {
            check_flow(&context, &current, flow);
            flows += 1;
        }
        for expected in list(&step["healthChecks"]) {
            check_health(&context, &current, expected);
            checks += 1;
        }
        proxy = Some(current);
    }
    (flows, checks)
}

#[test]
fn every_flow_of_the_tables_is_answered_as_kube_proxy_treats_it() {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "tests", "data", "cases"].iter().collect();
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut total = (0, 0);
    for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let case: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        if list(&case["backends"]).iter().any(|backend| backend == "nftables") {
            let (flows, checks) = run(&case);
            total = (total.0 + flows, total.1 + checks);
        }
    }
    assert!(
        total.0 >= 670 && total.1 >= 90,
        "only {} flows and {} health checks were found",
        total.0,
        total.1
    );
}
