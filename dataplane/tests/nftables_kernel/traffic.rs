//! Real connections from the node itself to addresses that lead to listeners on the node.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use shunt::domain::{IpFamily, Protocol};
use shunt::kernel::Dataplane as _;
use shunt::kernel::nftables::Nftables;
use shunt::plan::{Changes, FrontendSpec, Globals, Policy, Table, Target};

use crate::fixtures::{change, dataplane, frontend, in_namespace, node_port, pool, spec};

const PATIENCE: Duration = Duration::from_millis(500);
const NODE: &str = "192.168.0.2";

/// A node with an address, a route for everything, and endpoints that say who they are.
fn node(endpoints: &[&str]) {
    let commands = [
        "link set lo up".to_owned(),
        format!("address add {NODE}/32 dev lo"),
        "address add fd00:1::2/128 dev lo nodad".to_owned(),
        "route add 172.30.0.0/16 dev lo".to_owned(),
        "route add fd00:30::/64 dev lo".to_owned(),
    ];
    let addresses = endpoints.iter().map(|endpoint| {
        let ip = endpoint.parse::<SocketAddr>().unwrap().ip();
        // Usable at once: detection of duplicates would have it wait.
        if ip.is_ipv4() {
            format!("address add {ip}/32 dev lo")
        } else {
            format!("address add {ip}/128 dev lo nodad")
        }
    });
    for command in commands.into_iter().chain(addresses) {
        let status = Command::new("ip").args(command.split(' ')).status().unwrap();
        assert!(status.success(), "ip {command}");
    }
    for endpoint in endpoints {
        let listener = TcpListener::bind(endpoint).unwrap();
        let name = (*endpoint).to_owned();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                connection.unwrap().write_all(name.as_bytes()).unwrap();
            }
        });
    }
}

fn connect(to: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to.parse().unwrap(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The endpoints that answer a good number of connections, sorted.
fn who_answers(to: &str) -> Vec<String> {
    let mut seen: Vec<_> = (0..40).map(|_| connect(to).unwrap()).collect();
    seen.sort();
    seen.dedup();
    seen
}

fn refused(to: &str) -> ErrorKind {
    connect(to).unwrap_err().kind()
}

fn table(frontends: Vec<(shunt::plan::Frontend, FrontendSpec)>) -> Table {
    let globals = Globals {
        node_port_addresses: [NODE, "fd00:1::2"].iter().map(|address| address.parse().unwrap()).collect(),
        service_cidrs: ["172.30.0.0/16", "fd00:30::/64"].iter().map(|cidr| cidr.parse().unwrap()).collect(),
        ..Globals::default()
    };
    let frontends = frontends.into_iter().map(|(frontend, spec)| (frontend, Arc::new(spec)));
    Table { frontends: frontends.collect(), globals }
}

fn restored(table: &Table) -> Nftables {
    let mut dataplane = dataplane();
    dataplane.restore(table).unwrap();
    dataplane
}

#[test]
fn connections_are_spread_over_all_endpoints_of_either_family() {
    in_namespace(|| {
        for (family, vip, node_address, endpoints) in [
            (IpFamily::V4, "172.30.0.1:80", "192.168.0.2:30080", ["10.1.0.1:8080", "10.1.0.2:8080"]),
            (
                IpFamily::V6,
                "[fd00:30::1]:80",
                "[fd00:1::2]:30080",
                ["[fd00:10::1]:8080", "[fd00:10::2]:8080"],
            ),
        ] {
            if family == IpFamily::V4 {
                node(&["10.1.0.1:8080", "10.1.0.2:8080", "[fd00:10::1]:8080", "[fd00:10::2]:8080"]);
            }
            let _dataplane = restored(&table(vec![
                (frontend(vip, Protocol::Tcp), spec(Policy::Internal, pool(&endpoints))),
                (node_port(family, 30080, Protocol::Tcp), spec(Policy::ExternalCluster, pool(&endpoints))),
            ]));
            assert_eq!(who_answers(vip), endpoints);
            assert_eq!(who_answers(node_address), endpoints);
        }
    });
}

#[test]
fn a_change_is_in_effect_when_apply_returns() {
    in_namespace(|| {
        node(&["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"]);
        let vip = frontend("172.30.0.1:80", Protocol::Tcp);
        let mut table = table(Vec::new());
        let mut dataplane = restored(&table);
        assert_eq!(refused("172.30.0.1:80"), ErrorKind::TimedOut, "nobody has this address");
        for endpoints in
            [&["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"][..], &["10.1.0.2:8080"], &["10.1.0.3:8080"]]
        {
            let changes = change(&mut table, vip, Some(spec(Policy::Internal, pool(endpoints))));
            dataplane.apply(&changes).unwrap();
            assert_eq!(who_answers("172.30.0.1:80"), endpoints);
        }
        let changes = change(&mut table, vip, Some(spec(Policy::Internal, Target::Reject)));
        dataplane.apply(&changes).unwrap();
        assert_eq!(refused("172.30.0.1:80"), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn what_has_no_endpoint_is_rejected_or_dropped_as_told() {
    in_namespace(|| {
        node(&["10.1.0.1:8080"]);
        let _dataplane = restored(&table(vec![
            (frontend("172.30.0.1:80", Protocol::Tcp), spec(Policy::Internal, Target::Reject)),
            (frontend("172.30.0.1:80", Protocol::Udp), spec(Policy::Internal, Target::Reject)),
            (frontend("172.30.0.2:80", Protocol::Tcp), spec(Policy::Internal, Target::Drop)),
            (node_port(IpFamily::V4, 30080, Protocol::Tcp), spec(Policy::ExternalCluster, Target::Reject)),
        ]));
        assert_eq!(refused("172.30.0.1:80"), ErrorKind::ConnectionRefused);
        assert_eq!(
            refused("172.30.0.1:81"),
            ErrorKind::ConnectionRefused,
            "a port that the Service does not have"
        );
        assert_eq!(refused("172.30.0.2:80"), ErrorKind::TimedOut);
        assert_eq!(refused("172.30.99.99:80"), ErrorKind::TimedOut, "an address that nobody has");
        assert_eq!(refused("192.168.0.2:30080"), ErrorKind::ConnectionRefused);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("172.30.0.1:80").unwrap();
        // The node's own datagrams are refused before they are sent.
        assert_eq!(socket.send(b"?").unwrap_err().kind(), ErrorKind::PermissionDenied);
    });
}

#[test]
fn sources_outside_the_listed_ranges_are_dropped() {
    in_namespace(|| {
        node(&["10.1.0.1:8080"]);
        let guarded = |range: &str| FrontendSpec {
            source_ranges: Some(Arc::new([range.parse().unwrap()])),
            ..spec(Policy::ExternalCluster, pool(&["10.1.0.1:8080"]))
        };
        // The node's connections come from the address itself or from one of the node's.
        let _dataplane = restored(&table(vec![
            (frontend("172.30.0.1:80", Protocol::Tcp), guarded("0.0.0.0/1")),
            (frontend("172.30.0.1:80", Protocol::Udp), guarded("0.0.0.0/1")),
            (frontend("172.30.0.1:81", Protocol::Tcp), guarded("192.0.0.0/8")),
            (frontend("172.30.0.1:82", Protocol::Tcp), guarded("203.0.113.0/24")),
        ]));
        let open: Vec<_> =
            [80, 81, 82].iter().map(|port| connect(&format!("172.30.0.1:{port}")).is_ok()).collect();
        assert_eq!(open.iter().filter(|ok| **ok).count(), 1, "{open:?}");
        assert!(!open[2]);
    });
}

#[test]
fn a_client_stays_with_its_endpoint_on_every_frontend_of_the_service_port() {
    in_namespace(|| {
        let endpoints = ["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080", "10.1.0.4:8080"];
        node(&endpoints);
        let sticky = |policy, backends: &[&str]| FrontendSpec {
            affinity_seconds: Some(60),
            ..spec(policy, pool(backends))
        };
        let mut table = table(vec![
            (frontend("172.30.0.1:80", Protocol::Tcp), sticky(Policy::Internal, &endpoints)),
            (frontend("172.30.0.1:81", Protocol::Tcp), sticky(Policy::ExternalCluster, &endpoints)),
        ]);
        let mut dataplane = restored(&table);
        let first = who_answers("172.30.0.1:80");
        assert_eq!(first.len(), 1);
        dataplane.restore(&table).unwrap();
        assert_eq!(who_answers("172.30.0.1:80"), first);
        let rest: Vec<_> = endpoints.into_iter().filter(|endpoint| *endpoint != first[0]).collect();
        let changes = change(
            &mut table,
            frontend("172.30.0.1:80", Protocol::Tcp),
            Some(sticky(Policy::Internal, &rest)),
        );
        dataplane.apply(&changes).unwrap();
        let second = who_answers("172.30.0.1:80");
        assert_eq!(second.len(), 1);
        assert!(rest.contains(&&*second[0]), "{second:?} is not eligible any more");
    });
}

#[test]
fn node_ports_on_the_loopback_address_work_for_the_node() {
    in_namespace(|| {
        node(&["10.1.0.1:8080"]);
        let at = node_port(IpFamily::V4, 30080, Protocol::Tcp);
        let mut table = table(vec![(at, spec(Policy::ExternalCluster, pool(&["10.1.0.1:8080"])))]);
        let mut dataplane = restored(&table);
        assert_eq!(refused("127.0.0.1:30080"), ErrorKind::ConnectionRefused);
        table.globals.node_port_addresses.insert("127.0.0.1".parse().unwrap());
        dataplane.apply(&Changes { frontends: Vec::new(), globals: Some(table.globals.clone()) }).unwrap();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        assert_eq!(who_answers("127.0.0.1:30080"), ["10.1.0.1:8080"]);
    });
}
