//! The nftables dataplane against the real kernel. Each test has a network namespace of its own and needs root and `nft`.
#![expect(clippy::print_stderr, reason = "figures for whoever runs the tests")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Instant;

use shunt::domain::{IpFamily, LocalDetector, Protocol, ServiceName, ServicePortName};
use shunt::kernel::nftables::{Monitor, Nftables, Settings, cleanup};
use shunt::kernel::{Applied, Dataplane, Disposition};
use shunt::plan::{
    Backend, Change, Changes, Frontend, FrontendAddress, FrontendKind, FrontendSpec, Globals, Policy, Table,
    Target,
};

/// Runs a test on a thread of its own in a new network namespace; threads and namespace are gone afterwards.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("these tests need root");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn settings() -> Settings {
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

fn try_nft(arguments: &[&str]) -> Output {
    Command::new("nft").args(arguments).output().expect("these tests need nft")
}

fn nft(arguments: &[&str]) -> String {
    let output = try_nft(arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && errors.is_empty(), "nft {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn frontend(at: &str, protocol: Protocol) -> Frontend {
    let at: SocketAddr = at.parse().unwrap();
    Frontend { address: FrontendAddress::Ip(at.ip()), port: at.port(), protocol }
}

fn node_port(family: IpFamily, port: u16, protocol: Protocol) -> Frontend {
    Frontend { address: FrontendAddress::NodePort(family), port, protocol }
}

fn pool(backends: &[&str]) -> Target {
    let backend = |text: &&str| {
        let socket: SocketAddr = text.parse().unwrap();
        Backend { address: socket.ip(), port: socket.port(), local: true }
    };
    Target::Pool(backends.iter().map(backend).collect())
}

fn spec(policy: Policy, inside: Target) -> FrontendSpec {
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
fn shapes(table: &mut Table, family: IpFamily, address: impl Fn(u8) -> String) {
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

fn every_shape() -> Table {
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

fn dataplane() -> Nftables {
    Nftables::new(&settings()).unwrap()
}

fn change(table: &mut Table, frontend: Frontend, new: Option<FrontendSpec>) -> Changes {
    let new = new.map(Arc::new);
    let old = match &new {
        Some(spec) => table.frontends.insert(frontend, Arc::clone(spec)),
        None => table.frontends.remove(&frontend),
    };
    Changes { frontends: vec![Change { frontend, old, new }], globals: None }
}

#[test]
fn every_shape_is_programmed_listed_and_found_unchanged() {
    in_namespace(|| {
        let table = every_shape();
        let mut dataplane = dataplane();
        assert!(dataplane.audit(&Table::default()).unwrap() > 0, "there is no table yet");
        dataplane.restore(&table).unwrap();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        for family in ["ip", "ip6"] {
            let text = nft(&["list", "table", family, "shunt"]);
            if std::env::var_os("SHUNT_SHOW").is_some() {
                eprintln!("{text}");
            }
            assert!(text.contains("map tcp-endpoints {"), "{text}");
        }
        nft(&["-j", "list", "ruleset"]);
        assert_eq!(dataplane.restore(&table).unwrap(), Applied::default());
    });
}

#[test]
fn a_listing_is_accepted_by_nft_and_means_the_same() {
    in_namespace(|| {
        let table = every_shape();
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("listing.nft");
        let path = file.to_str().unwrap();
        for family in ["ip", "ip6"] {
            std::fs::write(&file, nft(&["list", "table", family, "shunt"])).unwrap();
            let before = nft(&["list", "table", family, "shunt"]);
            nft(&["-f", path]);
            nft(&["delete", "table", family, "shunt"]);
            nft(&["-f", path]);
            assert_eq!(nft(&["list", "table", family, "shunt"]), before);
        }
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
    });
}

#[test]
fn another_agent_adopts_the_table_as_it_is() {
    in_namespace(|| {
        let table = every_shape();
        dataplane().restore(&table).unwrap();
        let before = nft(&["-a", "list", "ruleset"]);
        let mut second = dataplane();
        assert_eq!(second.restore(&table).unwrap(), Applied::default());
        assert_eq!(nft(&["-a", "list", "ruleset"]), before);
    });
}

#[test]
fn what_others_changed_is_counted_and_put_right() {
    in_namespace(|| {
        let table = every_shape();
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        let meddling: [&[&str]; 9] = [
            &["flush ruleset"],
            &["delete table ip6 shunt"],
            &["add rule ip shunt nat-prerouting accept"],
            &["insert rule ip shunt endpoints-tcp-2 drop"],
            &["flush chain ip shunt cluster-ip-tcp-2"],
            &["delete element ip shunt service-ips { 172.30.0.1 . tcp . 80 }"],
            &["add element ip shunt cluster-ips { 1.2.3.4 }"],
            &[
                "add chain ip shunt mine",
                "add rule ip shunt check-input jump mine",
                "add set ip shunt own { type mark; }",
            ],
            &["add table ip shunt { flags dormant; }"],
        ];
        for commands in meddling {
            for command in commands {
                nft(&[*command]);
            }
            assert!(dataplane.audit(&table).unwrap() > 0, "{commands:?}");
            assert_ne!(dataplane.restore(&table).unwrap(), Applied::default(), "{commands:?}");
            assert_eq!(dataplane.audit(&table).unwrap(), 0, "{commands:?}");
        }
    });
}

#[test]
fn a_table_of_another_layout_is_replaced() {
    in_namespace(|| {
        nft(&["add table ip shunt"]);
        nft(&["add set ip shunt cluster-ips { type mark; }"]);
        nft(&["add chain ip shunt filter-input { type filter hook input priority -10; }"]);
        let mut dataplane = dataplane();
        dataplane.restore(&every_shape()).unwrap();
        assert_eq!(dataplane.audit(&every_shape()).unwrap(), 0);
    });
}

#[test]
fn endpoints_come_and_go_and_nothing_is_left_behind() {
    in_namespace(|| {
        let mut table = every_shape();
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        let before = (dataplane.programmed(), table.clone());
        let web = frontend("172.30.0.50:80", Protocol::Tcp);
        let sticky = frontend("172.30.0.51:80", Protocol::Tcp);
        let pools: [&[&str]; 5] = [
            &["10.1.0.1:80", "10.1.0.2:80"],
            &["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"],
            &["10.1.0.2:80", "10.1.0.3:80"],
            &[],
            &["10.1.0.9:80"],
        ];
        for backends in pools {
            let target = if backends.is_empty() { Target::Reject } else { pool(backends) };
            for (frontend, affinity_seconds) in [(web, None), (sticky, Some(60))] {
                let spec = FrontendSpec { affinity_seconds, ..spec(Policy::Internal, target.clone()) };
                let changes = change(&mut table, frontend, Some(spec));
                dataplane.apply(&changes).unwrap();
                assert_eq!(dataplane.audit(&table).unwrap(), 0, "{frontend} {backends:?}");
            }
        }
        for frontend in [web, sticky] {
            let changes = change(&mut table, frontend, None);
            dataplane.apply(&changes).unwrap();
        }
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        assert_eq!((dataplane.programmed(), table), before);
    });
}

#[test]
fn every_frontend_can_be_removed_by_changes() {
    in_namespace(|| {
        let mut table = every_shape();
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        let frontends: Vec<_> = table.frontends.keys().copied().collect();
        for frontend in frontends {
            let changes = change(&mut table, frontend, None);
            dataplane.apply(&changes).unwrap();
        }
        table.globals = Globals::default();
        dataplane.apply(&Changes { frontends: Vec::new(), globals: Some(Globals::default()) }).unwrap();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        let elements = dataplane.programmed().into_iter().find(|(kind, _)| *kind == "elements").unwrap();
        assert_eq!(elements.1, 0);
    });
}

#[test]
fn recorded_clients_survive_restores_and_other_changes() {
    in_namespace(|| {
        let mut table = every_shape();
        dataplane().restore(&table).unwrap();
        let listing = nft(&["list", "sets", "ip"]);
        let set = listing.split_whitespace().find(|word| word.starts_with("clients-")).unwrap().to_owned();
        nft(&["add", "element", "ip", "shunt", &set, "{ 10.9.9.9 }"]);
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        // One endpoint more for the same Service port: its other endpoints keep their clients.
        let backends = pool(&["172.30.0.201:8080", "172.30.0.202:8080", "172.30.0.203:8080"]);
        let more = FrontendSpec { affinity_seconds: Some(10800), ..spec(Policy::Internal, backends) };
        let changes = change(&mut table, frontend("172.30.0.9:80", Protocol::Tcp), Some(more));
        dataplane.apply(&changes).unwrap();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        assert!(nft(&["list", "set", "ip", "shunt", &set]).contains("10.9.9.9"));
    });
}

#[test]
fn a_refused_element_names_its_frontend() {
    in_namespace(|| {
        let mut table = every_shape();
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        nft(&["add", "element", "ip", "shunt", "tcp-endpoints", "{ 172.30.0.51 . 80 . 1 : 1.2.3.4 . 5 }"]);
        let mut changes = Changes::default();
        for n in 40..60 {
            let new = spec(Policy::Internal, pool(&["10.1.0.1:80", "10.1.0.2:80"]));
            let at = frontend(&format!("172.30.0.{n}:80"), Protocol::Tcp);
            changes.frontends.extend(change(&mut table, at, Some(new)).frontends);
        }
        let error = dataplane.apply(&changes).unwrap_err();
        let expected = Disposition::SkipFrontend(frontend("172.30.0.51:80", Protocol::Tcp));
        assert_eq!(error.disposition(), expected, "{error:?}");
        assert!(dataplane.apply(&Changes::default()).is_err(), "only a restore may follow");
        dataplane.restore(&table).unwrap();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
    });
}

#[test]
fn cleanup_removes_our_tables_only_and_may_be_repeated() {
    in_namespace(|| {
        nft(&["add table ip other"]);
        let mut dataplane = dataplane();
        dataplane.restore(&every_shape()).unwrap();
        dataplane.cleanup().unwrap();
        cleanup().unwrap();
        assert_eq!(nft(&["list", "tables"]).trim(), "table ip other");
        dataplane.restore(&every_shape()).unwrap();
        assert_eq!(dataplane.audit(&every_shape()).unwrap(), 0);
    });
}

#[test]
fn rules_of_others_that_use_our_mark_are_reported() {
    in_namespace(|| {
        nft(&["add table inet other"]);
        for (chain, rule) in [
            ("sets", "meta mark set meta mark | 0x4000"),
            ("tests", "meta mark & 0x0000c000 == 0x4000 drop"),
            ("clears", "meta mark set meta mark & 0xffffbfff"),
            ("overwrites", "meta mark set 0x4001"),
            ("unrelated", "meta mark set meta mark | 0x8000"),
            ("reads-another", "meta mark & 0x00008000 != 0 drop"),
        ] {
            nft(&["add", "chain", "inet", "other", chain]);
            nft(&[&format!("add rule inet other {chain} {rule}")]);
        }
        let warned = dataplane().warnings().join("\n");
        for chain in ["sets", "tests", "clears", "overwrites"] {
            assert!(warned.contains(&format!("chain {chain} of table inet other")), "{chain}: {warned}");
        }
        assert!(!warned.contains("unrelated") && !warned.contains("reads-another"), "{warned}");
    });
}

#[test]
fn changes_by_others_are_heard_and_our_own_are_not() {
    in_namespace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut table = every_shape();
        let mut dataplane = dataplane();
        dataplane.restore(&table).unwrap();
        runtime.block_on(async {
            let mut monitor = Monitor::new(dataplane.port().unwrap()).unwrap();
            let soon = std::time::Duration::from_millis(200);
            let web = spec(Policy::Internal, pool(&["10.1.0.1:80"]));
            let changes = change(&mut table, frontend("172.30.0.50:80", Protocol::Tcp), Some(web));
            dataplane.apply(&changes).unwrap();
            nft(&["add table ip other"]);
            assert!(tokio::time::timeout(soon, monitor.changed_by_others()).await.is_err());
            nft(&["flush ruleset"]);
            tokio::time::timeout(soon, monitor.changed_by_others()).await.unwrap().unwrap();
            assert!(
                tokio::time::timeout(soon, monitor.changed_by_others()).await.is_err(),
                "one flush, one change"
            );
        });
    });
}

/// Not a test of speed but a record of it: 20,000 frontends with two endpoints each.
#[test]
fn many_services_load_at_once_and_change_alone() {
    in_namespace(|| {
        let mut table = Table::default();
        for n in 0..20_000_u32 {
            let at = |base: u32| std::net::Ipv4Addr::from_bits(base + n / 2);
            let protocol = if n % 2 == 0 { Protocol::Tcp } else { Protocol::Udp };
            let backends = [1_u32, 2].map(|k| format!("{}:8080", at(0x0a00_0000 + (k << 20))));
            let target = pool(&[&backends[0], &backends[1]]);
            let spec = FrontendSpec { ..spec(Policy::Internal, target) };
            table.frontends.insert(frontend(&format!("{}:80", at(0xac1e_0000)), protocol), Arc::new(spec));
        }
        let mut dataplane = dataplane();
        let took = |what: &str, since: Instant| eprintln!("{what}: {:?}", since.elapsed());
        let start = Instant::now();
        dataplane.restore(&table).unwrap();
        took("load 20,000 frontends", start);
        let start = Instant::now();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        took("audit", start);
        let frontends: Vec<_> = table.frontends.keys().copied().take(1000).collect();
        let start = Instant::now();
        for (n, at) in frontends.iter().enumerate() {
            let moved = spec(Policy::Internal, pool(&["10.9.9.8:8080", &format!("10.9.9.9:{}", n + 1)]));
            let changes = change(&mut table, *at, Some(moved));
            dataplane.apply(&changes).unwrap();
        }
        took("1,000 changes, one at a time", start);
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        let start = Instant::now();
        nft(&["add element ip shunt cluster-ips { 1.2.3.4 }"]);
        took("one element through nft", start);
        let start = Instant::now();
        dataplane.cleanup().unwrap();
        took("cleanup", start);
    });
}
