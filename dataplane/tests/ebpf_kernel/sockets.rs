//! Socket load balancing as the dataplane sets it up: whose sockets, which addresses, and what is left behind.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use shunt::domain::{IpFamily, OptedOutPod, Protocol, ServicePortName};
use shunt::kernel::Dataplane as _;
use shunt::kernel::ebpf::{Ebpf, Settings, Sockets};
use shunt::plan::{Frontend, FrontendAddress, FrontendSpec, Policy, Table, Target};

use crate::fixtures::{change, frontend, in_namespace, links, settings, spec, within};
use crate::processes::{Cgroup, ask, last_word, serve, start, wait_for_answer};

const SOCKET_LINKS: usize = 8;
/// (frontend, backend) of a cluster IP in both families.
const FAMILIES: [(&str, &str); 2] = [("10.96.0.10:80", "127.0.0.7:8080"), ("[fd00:96::10]:80", "[::1]:8080")];
const WEB: &str = FAMILIES[0].0;

fn table() -> Table {
    let mut table = Table::default();
    for (at, backend) in FAMILIES {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let at = Frontend { protocol, ..frontend(at) };
            table.frontends.insert(at, served(protocol, Policy::Internal, backend));
        }
    }
    table
}

/// A Service port of that protocol with one endpoint.
fn served(protocol: Protocol, policy: Policy, backend: &str) -> Arc<FrontendSpec> {
    let mut served = spec(policy, &[backend]);
    served.owner = Arc::new(ServicePortName { protocol, ..ServicePortName::clone(&served.owner) });
    Arc::new(served)
}

fn balancing(bpffs: &Path, cgroup: &Path, sockets: Sockets) -> Ebpf {
    Ebpf::new(Settings { cgroup_root: cgroup.to_owned(), sockets, ..settings(bpffs) }).unwrap()
}

/// A test with a cgroup, and backends that answer on loopback addresses of its namespace.
fn in_lab(test: impl FnOnce(&Path, &Cgroup) + Send + 'static) {
    in_namespace(|bpffs| {
        for (_, backend) in FAMILIES {
            serve(backend, "host");
        }
        test(bpffs, &Cgroup::new());
    });
}

fn socket_links(bpffs: &Path) -> usize {
    links(bpffs).iter().filter(|name| name.starts_with("shunt_")).count()
}

#[test]
fn all_host_and_off_are_told_apart_and_leave_nothing_of_each_other() {
    in_lab(|bpffs, cgroup| {
        let table = table();
        let served = [
            (Sockets::All, "host 10.96.0.10:80", "pod 10.96.0.10:80", SOCKET_LINKS),
            (Sockets::Host, "host 10.96.0.10:80", "unreachable", SOCKET_LINKS),
            (Sockets::Off, "unreachable", "unreachable", 0),
            (Sockets::All, "host 10.96.0.10:80", "pod 10.96.0.10:80", SOCKET_LINKS),
        ];
        for (sockets, host, pod, attached) in served {
            let mut dataplane = balancing(bpffs, cgroup.path(), sockets);
            dataplane.restore(&table).unwrap();
            assert_eq!(socket_links(bpffs), attached, "{sockets:?}");
            for kind in ["tcp", "udp"] {
                let said = ask(cgroup.path(), &format!("{kind} {WEB}"));
                assert!(said.contains(host), "{sockets:?} {kind} on the host: {said}");
                let said = ask(cgroup.path(), &format!("pod {kind} {WEB}"));
                assert!(said.contains(pod), "{sockets:?} {kind} in a pod: {said}");
            }
            assert_eq!(dataplane.audit(&table).unwrap(), 0);
            assert_eq!(dataplane.shortcomings(), [""; 0]);
        }
        shunt::kernel::ebpf::cleanup(bpffs).unwrap();
        assert!(
            ask(cgroup.path(), &format!("tcp {WEB}")).contains("unreachable"),
            "something is still attached"
        );
    });
}

#[test]
fn a_cgroup_hierarchy_beside_version_1_is_found() {
    in_lab(|bpffs, cgroup| {
        let folder = tempfile::tempdir().unwrap();
        let unified = folder.path().join("unified");
        std::fs::create_dir(&unified).unwrap();
        let none = None::<&str>;
        mount(Some(cgroup.path()), &unified, none, MsFlags::MS_BIND, none).unwrap();
        let mut dataplane = balancing(bpffs, folder.path(), Sockets::All);
        dataplane.restore(&table()).unwrap();
        assert_eq!(dataplane.shortcomings(), [""; 0]);
        assert_eq!(ask(cgroup.path(), &format!("tcp {WEB}")), format!("host {WEB}"));
        drop(dataplane);
        nix::mount::umount(&unified).unwrap();
    });
}

#[test]
fn node_ports_work_on_loopback_addresses_for_the_host_alone() {
    in_lab(|bpffs, cgroup| {
        let mut table = Table::default();
        for (family, (_, backend)) in IpFamily::ALL.into_iter().zip(FAMILIES) {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let at = Frontend { address: FrontendAddress::NodePort(family), port: 30080, protocol };
                table.frontends.insert(at, served(protocol, Policy::ExternalCluster, backend));
            }
        }
        table.globals.node_port_addresses = ["127.0.0.1", "::1"].map(|text| text.parse().unwrap()).into();
        let mut dataplane = balancing(bpffs, cgroup.path(), Sockets::All);
        dataplane.restore(&table).unwrap();
        for at in ["127.0.0.1:30080", "[::1]:30080", "[::ffff:127.0.0.1]:30080"] {
            for kind in ["tcp", "udp", "unconnected"] {
                assert_eq!(ask(cgroup.path(), &format!("{kind} {at}")), format!("host {at}"), "{kind}");
            }
            let said = ask(cgroup.path(), &format!("pod tcp {at}"));
            assert!(said.contains("refused"), "a pod's loopback address is its own: {said}");
        }
    });
}

#[test]
fn one_socket_sends_to_one_frontend_after_the_other_and_sees_each_answer() {
    in_lab(|bpffs, cgroup| {
        serve("127.0.0.8:8080", "second");
        let mut table = table();
        let second = Frontend { protocol: Protocol::Udp, ..frontend("10.96.0.11:80") };
        table.frontends.insert(second, served(Protocol::Udp, Policy::Internal, "127.0.0.8:8080"));
        let mut dataplane = balancing(bpffs, cgroup.path(), Sockets::All);
        dataplane.restore(&table).unwrap();
        let four = "host 10.96.0.10:80, second 10.96.0.11:80, second 127.0.0.8:8080, host 10.96.0.10:80";
        let order = "unconnected 10.96.0.10:80 10.96.0.11:80 127.0.0.8:8080 10.96.0.10:80";
        let said = ask(cgroup.path(), order);
        // What a socket was connected to a frontend for, it shows as the frontend from then on, also where it was
        // addressed itself: the socket alone says nothing about which was meant.
        assert_eq!(said, four.replace("second 127.0.0.8:8080", "second 10.96.0.11:80"));
        let mapped = "unconnected [::ffff:10.96.0.10]:80 [fd00:96::10]:80 [::ffff:10.96.0.11]:80";
        let expected = "host [::ffff:10.96.0.10]:80, host [fd00:96::10]:80, second [::ffff:10.96.0.11]:80";
        assert_eq!(ask(cgroup.path(), mapped), expected);
        for kind in ["tcp", "udp"] {
            let at = "[::ffff:10.96.0.10]:80";
            assert_eq!(ask(cgroup.path(), &format!("{kind} {at}")), format!("host {at}"));
        }
    });
}

#[test]
fn who_asks_for_what_nobody_serves_is_refused_at_once() {
    in_lab(|bpffs, cgroup| {
        let mut table = Table::default();
        for (at, _) in FAMILIES {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let nobody = FrontendSpec {
                    inside: Target::Reject,
                    outside: Target::Reject,
                    serving: [].into(),
                    ..spec(Policy::Internal, &[])
                };
                table.frontends.insert(Frontend { protocol, ..frontend(at) }, Arc::new(nobody));
            }
        }
        let mut dataplane = balancing(bpffs, cgroup.path(), Sockets::All);
        dataplane.restore(&table).unwrap();
        for at in ["10.96.0.10:80", "[fd00:96::10]:80", "[::ffff:10.96.0.10]:80"] {
            for kind in ["tcp", "udp", "unconnected"] {
                let said = ask(cgroup.path(), &format!("{kind} {at}"));
                assert!(said.contains("Connection refused"), "{kind} {at}: {said}");
            }
        }
    });
}

#[test]
fn a_connected_datagram_socket_hears_that_its_backend_is_gone() {
    in_lab(|bpffs, cgroup| {
        let mut table = table();
        let mut dataplane = balancing(bpffs, cgroup.path(), Sockets::All);
        dataplane.restore(&table).unwrap();
        for (at, _) in FAMILIES {
            let gone = Frontend { protocol: Protocol::Udp, ..frontend(at) };
            // In a pod's namespace as well as in this one, and of a socket that names an IPv4 address in IPv6.
            let orders = match gone.address {
                FrontendAddress::Ip(address) if address.is_ipv4() => {
                    vec![
                        format!("abandoned {at}"),
                        format!("pod abandoned {at}"),
                        format!("abandoned [::ffff:10.96.0.10]:80"),
                    ]
                }
                _ => vec![format!("abandoned {at}")],
            };
            let mut processes: Vec<_> = orders.iter().map(|order| start(cgroup.path(), order)).collect();
            processes.iter_mut().for_each(wait_for_answer);
            let changes = change(&mut table, gone, None);
            dataplane.apply(&changes).unwrap();
            for (process, order) in processes.into_iter().zip(orders) {
                let said = last_word(process);
                assert!(said.contains("os error 103"), "{order}: not ECONNABORTED, but {said}");
            }
        }
    });
}

#[test]
fn a_pod_that_opts_out_is_left_alone_and_no_other() {
    in_lab(|bpffs, cgroup| {
        let container = cgroup.child("kubepods/burstable/pod11-22/container");
        let sliced = cgroup.child("kubepods.slice/kubepods-pod33_44.slice/cri-1.scope");
        let other = cgroup.child("kubepods/burstable/pod55-66/container");
        let mut dataplane = balancing(bpffs, cgroup.path(), Sockets::All);
        dataplane.restore(&table()).unwrap();
        let pods = dataplane.opt_outs().unwrap();
        let opted_out = |uids: &[&str]| -> BTreeSet<OptedOutPod> {
            let pod = |uid: &&str| OptedOutPod { uid: (*uid).into(), name: format!("a/{uid}").into() };
            uids.iter().map(pod).collect()
        };
        let order = format!("tcp {WEB}");
        let balanced = |cgroup: &Path| ask(cgroup, &order) == format!("host {WEB}");
        let comes_true = |holds: &dyn Fn() -> bool| within(Duration::from_secs(10), holds).is_some();
        for pod in [&container, &sliced, &other] {
            assert!(balanced(pod));
        }
        pods.set(opted_out(&["11-22", "33-44", "77-88"]));
        assert!(comes_true(&|| !balanced(&container)));
        assert!(!balanced(&sliced) && balanced(&other) && balanced(cgroup.path()));
        // The next agent leaves them alone from the start.
        drop(dataplane);
        let mut dataplane = balancing(bpffs, cgroup.path(), Sockets::All);
        dataplane.restore(&table()).unwrap();
        assert!(!balanced(&container) && balanced(&other));
        let pods = dataplane.opt_outs().unwrap();
        pods.set(opted_out(&["33-44", "77-88"]));
        assert!(comes_true(&|| balanced(&container)));
        assert!(!balanced(&sliced));
        // One whose cgroup is made later.
        let late = cgroup.child("kubepods/besteffort/pod77-88/container");
        assert!(comes_true(&|| !balanced(&late)));
        pods.set(opted_out(&[]));
        assert!(comes_true(&|| balanced(&sliced)) && balanced(&late));
    });
}

#[test]
fn a_cgroup_that_takes_no_programs_leaves_packets_to_be_translated() {
    in_lab(|bpffs, cgroup| {
        let gone = cgroup.child("gone");
        let table = table();
        let mut dataplane = balancing(bpffs, &gone, Sockets::All);
        std::fs::remove_dir(&gone).unwrap();
        dataplane.restore(&table).unwrap();
        assert_eq!(socket_links(bpffs), 0);
        assert_eq!(dataplane.audit(&table).unwrap(), 0, "what cannot be there is not missed");
        let [said] = dataplane.shortcomings().try_into().unwrap();
        assert!(said.contains("translated one by one") && said.contains("cgroup link"), "{said}");
    });
}
