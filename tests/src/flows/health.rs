//! Health check node ports.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use ipnet::IpNet;
use serde_json::Value;

use super::case::{Case, HealthCheck};
use super::objects::sloppy_address;
use super::topology::{Role, Topology};
use crate::lab::{HttpAnswer, Outcome, Reply, http_get};

const PATIENCE: Duration = Duration::from_secs(1);
/// An outside client that no case uses.
const CLIENT_V4: &str = "203.0.113.2";
/// See [`CLIENT_V4`].
const CLIENT_V6: &str = "2001:db8:ffff::2";

/// A question to a health check node port, and where to ask it.
#[derive(Debug)]
pub(crate) struct HealthProbe {
    wanted: HealthCheck,
    to: SocketAddr,
    source: IpAddr,
}

impl HealthProbe {
    /// Ports are served on the addresses that `nodePortAddresses` selects.
    pub(crate) fn new(wanted: &HealthCheck, case: &Case) -> Result<Self> {
        let (address, source) = addresses(case)?;
        Ok(Self { wanted: wanted.clone(), to: SocketAddr::new(address, wanted.port), source })
    }

    pub(crate) fn start(&self, topology: &Topology) -> Reply<Result<HttpAnswer, Outcome>> {
        let role = if self.source.is_loopback() { Role::Node } else { Role::Ext };
        let get = http_get(Some(self.source), self.to, "/healthz".to_owned(), PATIENCE);
        topology.machine(role).worker.spawn(get)
    }

    pub(crate) fn heading(&self) -> String {
        format!("health check node port of {}: http://{}", self.wanted.service, self.to)
    }

    pub(crate) fn expectation(&self) -> String {
        format!("status {}, {} local endpoints", self.wanted.status, self.wanted.local_endpoints)
    }

    /// What is wrong with the answer.
    pub(crate) fn problems(&self, answer: &Result<HttpAnswer, Outcome>) -> Vec<String> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(outcome) => return vec![format!("{outcome:?}")],
        };
        let mut problems = Vec::new();
        if answer.status != self.wanted.status {
            problems.push(format!("status {}", answer.status));
        }
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let name = |path| body.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let service = format!("{}/{}", name("/service/namespace"), name("/service/name"));
        let count = body.get("localEndpoints").and_then(Value::as_u64);
        if count != Some(self.wanted.local_endpoints) || service != self.wanted.service {
            problems.push(format!("body {:?}", answer.body));
        }
        problems
    }
}

fn addresses(case: &Case) -> Result<(IpAddr, IpAddr)> {
    let node = &case.node;
    let more = node.addresses.iter();
    let more = more.filter_map(|text| sloppy_address(text.split('/').next().unwrap_or_default()));
    let mut own = node.ips.iter().copied().chain(more);
    let primary = own.next();
    let primary = primary.ok_or_else(|| anyhow::anyhow!("the node has no address"))?;
    let selected = case.config.node_port_addresses.iter().filter(|cidr| *cidr != "primary");
    let selected: Vec<IpNet> = selected.map(|cidr| cidr.parse()).collect::<Result<_, _>>()?;
    let same_family = |cidr: &&IpNet| cidr.addr().is_ipv4() == primary.is_ipv4();
    let selected: Vec<_> = selected.iter().filter(same_family).collect();
    if !selected.is_empty() && selected.iter().all(|cidr| cidr.addr().is_loopback()) {
        let loopback = selected.first().map_or(primary, |cidr| cidr.addr());
        return Ok((loopback, loopback));
    }
    let mut candidates = [primary].into_iter().chain(own);
    let address =
        candidates.find(|address| selected.is_empty() || selected.iter().any(|cidr| cidr.contains(address)));
    let client = if primary.is_ipv4() { CLIENT_V4 } else { CLIENT_V6 };
    Ok((address.unwrap_or(primary), client.parse()?))
}
