//! The ports that must answer for a case to be judged.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use serde_json::Value;

use super::agent::{HEALTHZ_PORT, METRICS_PORT};
use super::api_feed::API_PORT;
use super::barrier;
use super::case::Case;
use super::objects::{elements, port, sloppy_address, text};
use super::topology::{Role, Topology};
use crate::lab::{Listen, Protocol};

/// Ports the agent itself, or its API server, may hold on the node: nobody else listens there.
pub(crate) fn ports_of_agent(case: &Case) -> BTreeSet<u16> {
    let services = case.steps.iter().flat_map(|step| &step.services);
    let health = services.filter_map(|service| port(service, "/spec/healthCheckNodePort"));
    health.chain([HEALTHZ_PORT, METRICS_PORT, API_PORT]).collect()
}

/// Opens all ports of the case: everywhere outside the node on all addresses,
/// on the node only for the addresses that flows aim at, so that what the
/// agent left alone is answered there too.
pub(crate) fn open(case: &Case, topology: &Topology) -> Result<()> {
    let mut outside = BTreeSet::from([everywhere(Protocol::Tcp, barrier::TARGET_PORT)]);
    let mut inside = BTreeSet::new();
    for slice in case.steps.iter().flat_map(|step| &step.endpoint_slices) {
        add_ports_of_slice(slice, topology, &mut outside, &mut inside);
    }
    let held = ports_of_agent(case);
    for flow in case.steps.iter().flat_map(|step| &step.flows) {
        outside.insert(everywhere(flow.protocol, flow.port));
        if topology.placement.role_of(flow.to) == Role::Node && !held.contains(&flow.port) {
            inside.insert(at(flow.protocol, flow.port, flow.to));
        }
    }
    for (protocol, port) in &case.closed_ports {
        outside.remove(&everywhere(*protocol, *port));
    }
    let roles = Role::ALL.into_iter().filter(|role| *role != Role::Far || topology.far.is_some());
    for role in roles {
        let machine = topology.machine(role);
        let responder = machine.responder.clone();
        let wanted = if role == Role::Node { inside.clone() } else { outside.clone() };
        machine.worker.run(async move {
            for listen in wanted {
                responder.listen(listen)?;
            }
            Ok::<_, anyhow::Error>(())
        })??;
    }
    Ok(())
}

fn add_ports_of_slice(
    slice: &Value,
    topology: &Topology,
    outside: &mut BTreeSet<Listen>,
    inside: &mut BTreeSet<Listen>,
) {
    let addresses = elements(slice, "/endpoints").flat_map(|endpoint| elements(endpoint, "/addresses"));
    let addresses: Vec<_> = addresses.filter_map(Value::as_str).filter_map(sloppy_address).collect();
    for item in elements(slice, "/ports") {
        let Some(number) = port(item, "/port") else { continue };
        let protocol = match text(item, "/protocol") {
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        outside.insert(everywhere(protocol, number));
        // Pods on the host network have the node's own address.
        let own = addresses.iter().filter(|address| topology.placement.node_addresses().contains(address));
        inside.extend(own.map(|address| at(protocol, number, *address)));
    }
}

fn everywhere(protocol: Protocol, port: u16) -> Listen {
    Listen { protocol, port, address: None }
}

fn at(protocol: Protocol, port: u16, address: IpAddr) -> Listen {
    Listen { protocol, port, address: Some(address) }
}
