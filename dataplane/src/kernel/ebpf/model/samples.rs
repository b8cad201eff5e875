//! Frontends to try things on, and maps in memory.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use shunt_abi::address::from_words;
use shunt_abi::frontend::FrontendValue;

use super::super::adopt::Observed;
use super::super::write::{Destination, Step, Writes};
use crate::domain::{Protocol, ServiceName, ServicePortName};
use crate::plan::{Backend, Frontend, FrontendAddress, FrontendKind, FrontendSpec, Policy, Target};

pub(in super::super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(in super::super) fn frontend(address: &str, port: u16) -> Frontend {
    Frontend { address: FrontendAddress::Ip(ip(address)), port, protocol: Protocol::Tcp }
}

pub(in super::super) fn destination(address: &str, port: u16) -> Destination {
    Destination { address: ip(address), port, protocol: 6 }
}

/// A cluster IP whose endpoints are these; local ones end in `!`.
pub(in super::super) fn spec(name: &str, endpoints: &[&str]) -> FrontendSpec {
    let backends: Vec<Backend> = endpoints
        .iter()
        .map(|text| {
            let socket: SocketAddr = text.trim_end_matches('!').parse().unwrap();
            Backend { address: socket.ip(), port: socket.port(), local: text.ends_with('!') }
        })
        .collect();
    let serving = backends.iter().map(Backend::socket).collect();
    let target = if backends.is_empty() { Target::Reject } else { Target::Pool(backends.into()) };
    FrontendSpec {
        owner: Arc::new(ServicePortName {
            service: ServiceName { namespace: "ns".into(), name: name.into() },
            port: "p".into(),
            protocol: Protocol::Tcp,
        }),
        kind: FrontendKind::ClusterIp,
        policy: Policy::Internal,
        inside: target.clone(),
        outside: target,
        affinity_seconds: None,
        source_ranges: None,
        serving,
    }
}

/// What the kernel would hold after the writes.
pub(in super::super) fn carry_out(maps: &mut Observed, writes: &Writes) {
    writes.before.iter().for_each(|step| take(maps, step));
    for (destination, value) in &writes.frontends {
        match value {
            Some(value) => drop(maps.frontends.insert(*destination, *value)),
            None => drop(maps.frontends.remove(destination)),
        }
    }
    writes.after.iter().for_each(|step| take(maps, step));
}

fn take(maps: &mut Observed, step: &Step) {
    match step {
        Step::Backend(id, value) if value.generation == 0 => drop(maps.backends.remove(id)),
        Step::Backend(id, value) => drop(maps.backends.insert(*id, *value)),
        Step::Pool(offset, ids) => {
            let start = *offset as usize;
            maps.pool.resize(maps.pool.len().max(start + ids.len()), 0);
            maps.pool[start..start + ids.len()].copy_from_slice(ids);
        }
        Step::AddRange(range) => drop(maps.source_ranges.insert(*range)),
        Step::RemoveRange(range) => assert!(maps.source_ranges.remove(range)),
        Step::ResetService(_) => {}
    }
}

/// Where programs would send packets of the inside, as text.
pub(in super::super) fn reached(maps: &Observed, destination: Destination) -> Option<Vec<String>> {
    let value: &FrontendValue = maps.frontends.get(&destination)?;
    let start = value.inside_offset as usize;
    let ids = &maps.pool.get(start..start + value.inside_length as usize).unwrap_or_default();
    let backends = ids.iter().map(|id| {
        let backend = maps.backends[id];
        SocketAddr::new(from_words(backend.address), u16::from_be(backend.port)).to_string()
    });
    Some(backends.collect())
}
