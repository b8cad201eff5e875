//! A namespace for each test, `nft`, and frontends of every shape.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Output};
use std::sync::Arc;

use shunt::domain::{IpFamily, LocalDetector, Protocol, ServiceName, ServicePortName};
use shunt::kernel::nftables::{Nftables, Settings};
use shunt::plan::{
    Backend, Change, Changes, Frontend, FrontendAddress, FrontendKind, FrontendSpec, Globals, Policy, Table,
    Target,
};

pub(crate) use crate::namespace::in_namespace;

pub(crate) fn settings() -> Settings {
    Settings {
        families: vec![
            (
                IpFamily::V4,
                LocalDetector::Cidrs(vec!["10.0.0.0/8".parse().unwrap(), "10.64.0.0/10".parse().unwrap()]),
            ),
            (IpFamily::V6, LocalDetector::InterfaceNamePrefix("veth".into())),
        ],
        masquerade_mark: 0x4000,
        masquerade_all: false,
    }
}

pub(crate) fn try_nft(arguments: &[&str]) -> Output {
    Command::new("nft").args(arguments).output().expect("these tests need nft")
}

pub(crate) fn nft(arguments: &[&str]) -> String {
    let output = try_nft(arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && errors.is_empty(), "nft {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn frontend(at: &str, protocol: Protocol) -> Frontend {
    let at: SocketAddr = at.parse().unwrap();
    Frontend { address: FrontendAddress::Ip(at.ip()), port: at.port(), protocol }
}

pub(crate) fn node_port(family: IpFamily, port: u16, protocol: Protocol) -> Frontend {
    Frontend { address: FrontendAddress::NodePort(family), port, protocol }
}

pub(crate) fn pool(backends: &[&str]) -> Target {
    let backend = |text: &&str| {
        let socket: SocketAddr = text.parse().unwrap();
        Backend { address: socket.ip(), port: socket.port(), local: true }
    };
    Target::Pool(backends.iter().map(backend).collect())
}

pub(crate) fn spec(policy: Policy, inside: Target) -> FrontendSpec {
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

/// Frontends of one family, one of each shape; `address` makes addresses of it.
pub(crate) fn shapes(table: &mut Table, family: IpFamily, address: impl Fn(u8) -> String) {
    let at = |n: u8, port: u16| {
        let ip: IpAddr = address(n).parse().unwrap();
        SocketAddr::new(ip, port).to_string()
    };
    let (one, two) = (at(201, 8080), at(202, 8080));
    let pools = || pool(&[&one, &two]);
    let mut add = |frontend: Frontend, spec: FrontendSpec| {
        table.frontends.insert(frontend, Arc::new(spec));
    };
    for (n, protocol) in (1..).zip(Protocol::ALL) {
        add(frontend(&at(n, 80), protocol), spec(Policy::Internal, pools()));
        add(frontend(&at(n, 81), protocol), spec(Policy::ExternalCluster, pools()));
        add(node_port(family, 30080, protocol), spec(Policy::ExternalCluster, pools()));
        let local = FrontendSpec { outside: pool(&[&one]), ..spec(Policy::ExternalLocal, pools()) };
        add(frontend(&at(n, 82), protocol), local.clone());
        add(node_port(family, 30082, protocol), local.clone());
        add(frontend(&at(n, 83), protocol), FrontendSpec { outside: Target::Drop, ..local });
        let ranges = [address(64), address(65)].map(|ip| ipnet::IpNet::from(ip.parse::<IpAddr>().unwrap()));
        let guarded =
            FrontendSpec { source_ranges: Some(Arc::new(ranges)), ..spec(Policy::ExternalCluster, pools()) };
        add(frontend(&at(n, 84), protocol), guarded);
        let nobody =
            FrontendSpec { source_ranges: Some(Arc::new(ranges)), ..spec(Policy::Internal, Target::Reject) };
        add(frontend(&at(n, 85), protocol), nobody);
        add(frontend(&at(n, 86), protocol), spec(Policy::Internal, Target::Reject));
        add(node_port(family, 30086, protocol), spec(Policy::ExternalCluster, Target::Drop));
    }
    let sticky = FrontendSpec { affinity_seconds: Some(10800), ..spec(Policy::Internal, pools()) };
    add(frontend(&at(9, 80), Protocol::Tcp), sticky.clone());
    let sticky_local = FrontendSpec { policy: Policy::ExternalLocal, outside: pool(&[&one]), ..sticky };
    add(frontend(&at(9, 81), Protocol::Tcp), sticky_local.clone());
    add(node_port(family, 30099, Protocol::Tcp), sticky_local);
}

pub(crate) fn every_shape() -> Table {
    let mut table = Table::default();
    shapes(&mut table, IpFamily::V4, |n| format!("172.30.0.{n}"));
    shapes(&mut table, IpFamily::V6, |n| format!("fd00:30::{n:x}"));
    table.globals = Globals {
        node_port_addresses: ["192.168.0.2", "fd00:1::2", "127.0.0.1", "::1"]
            .iter()
            .map(|a| a.parse().unwrap())
            .collect(),
        service_cidrs: ["172.30.0.0/16", "172.31.0.0/16", "fd00:30::/108"]
            .iter()
            .map(|c| c.parse().unwrap())
            .collect(),
        health_check_node_ports: BTreeSet::new(),
    };
    table
}

pub(crate) fn dataplane() -> Nftables {
    Nftables::new(&settings()).unwrap()
}

pub(crate) fn change(table: &mut Table, frontend: Frontend, new: Option<FrontendSpec>) -> Changes {
    let new = new.map(Arc::new);
    let old = match &new {
        Some(spec) => table.frontends.insert(frontend, Arc::clone(spec)),
        None => table.frontends.remove(&frontend),
    };
    Changes { frontends: vec![Change { frontend, old, new }], globals: None }
}
