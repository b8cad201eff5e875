//! Frontends for the tests of this module.

use std::net::SocketAddr;
use std::sync::Arc;

use super::settings::FamilySettings;
use crate::domain::{IpFamily, LocalDetector, Protocol, ServiceName, ServicePortName};
use crate::plan::{Backend, Frontend, FrontendAddress, FrontendKind, FrontendSpec, Policy, Target};

pub(super) fn frontend(at: &str) -> Frontend {
    let at: SocketAddr = at.parse().unwrap();
    Frontend { address: FrontendAddress::Ip(at.ip()), port: at.port(), protocol: Protocol::Tcp }
}

pub(super) fn node_port(port: u16) -> Frontend {
    Frontend { address: FrontendAddress::NodePort(IpFamily::V4), port, protocol: Protocol::Udp }
}

/// Endpoints that run elsewhere.
pub(super) fn remote(endpoints: &[&str]) -> Target {
    pool(endpoints, false)
}

/// Endpoints that run on this node.
pub(super) fn local(endpoints: &[&str]) -> Target {
    pool(endpoints, true)
}

fn pool(endpoints: &[&str], local: bool) -> Target {
    let backend = |text: &&str| {
        let socket: SocketAddr = text.parse().unwrap();
        Backend { address: socket.ip(), port: socket.port(), local }
    };
    Target::Pool(endpoints.iter().map(backend).collect())
}

pub(super) fn spec(policy: Policy, inside: Target) -> FrontendSpec {
    let owner = ServicePortName {
        service: ServiceName::new("default", "web"),
        port: "http".into(),
        protocol: Protocol::Tcp,
    };
    FrontendSpec {
        owner: Arc::new(owner),
        kind: if policy == Policy::Internal { FrontendKind::ClusterIp } else { FrontendKind::LoadBalancerIp },
        policy,
        outside: inside.clone(),
        inside,
        affinity_seconds: None,
        source_ranges: None,
        serving: Arc::new([]),
    }
}

pub(super) fn settings(detector: LocalDetector) -> FamilySettings {
    FamilySettings { family: IpFamily::V4, detector, mark: 0x4000, masquerade_all: false }
}
